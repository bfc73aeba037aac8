"""A receiver of OTLP over HTTP that keeps what it is sent, decoded: the standard library's server and OpenTelemetry's own schema."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_S: Final = 30.0
_REQUESTS: Final[dict[str, Any]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Receiver:
    """Listens on 127.0.0.1 until it is closed."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = {path: [] for path in _REQUESTS}
        self.seen: list[dict[str, str]] = []
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                keep(self.path, dict(self.headers), gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_request(self, code: object = "-", size: object = "-") -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _keep(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.seen.append(headers)
        self.requests[path].append(_REQUESTS[path].FromString(body))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    async def until(self, condition: Callable[["Receiver"], Any]) -> Any:
        """What the condition gives, once that is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := condition(self)):
                await asyncio.sleep(0.05)
            return found

    def spans(self) -> list[Any]:
        return [s for r in list(self.requests["/v1/traces"]) for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def metrics(self, service: str) -> dict[str, Any]:
        """The newest of each metric of a service."""
        found = [
            rm
            for r in list(self.requests["/v1/metrics"])
            for rm in r.resource_metrics
            if attributes(rm.resource)["service.name"] == service
        ]
        return {m.name: m for rm in found for sm in rm.scope_metrics for m in sm.metrics}

    def lines(self) -> list[Any]:
        return [x for r in list(self.requests["/v1/logs"]) for rl in r.resource_logs for sl in rl.scope_logs for x in sl.log_records]


def attributes(told: Any) -> dict[str, Any]:
    """The attributes of a resource, span or log record as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in told.attributes}
