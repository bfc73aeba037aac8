"""Pages for machines that watch the service: /healthz (it runs), /readyz (it works) and /metrics, on 127.0.0.1 only.

Rules
 * A request is one line and its headers, small and soon; whatever else comes is answered 400 and the connection closed.
 * One answer per connection, few connections at a time: a stranger on the machine can cost little.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_REQUEST: Final = 8192  # bytes of request line and headers
MAX_CONNECTIONS: Final = 32
REQUEST_S: Final = 5.0  # from connect to the last byte of the answer

_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for the service to do its work."""

    ok: bool
    detail: str


class Readiness:
    """What /readyz tells. Every name given at the start counts as failing until it is set. Safe to set from any thread."""

    def __init__(self, *names: str) -> None:
        self._checks = dict.fromkeys(names, Check(ok=False, detail="not checked yet"))

    def set(self, name: str, ok: bool, detail: str = "") -> None:
        """The state of one check."""
        self._checks[name] = Check(ok, detail)

    @property
    def ready(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in dict(self._checks).values())

    def json(self) -> bytes:
        """{"ready": bool, "checks": {name: {"ok": bool, "detail": str}}}."""
        checks = dict(self._checks)  # one step: another thread may set meanwhile
        ready = all(check.ok for check in checks.values())
        told = {name: {"ok": check.ok, "detail": check.detail} for name, check in checks.items()}
        return json.dumps({"ready": ready, "checks": told}, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    content_type: str
    body: bytes


class HealthServer:
    """Serves the pages until it is closed. `metrics` makes the body of /metrics."""

    def __init__(self, readiness: Readiness, metrics: Callable[[], bytes], metrics_type: str) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1; port 0 takes any free one, which `port` then tells. Raises OSError where it is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=MAX_REQUEST)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop who is connected."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None and len(self._open) < MAX_CONNECTIONS:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            with contextlib.suppress(TimeoutError, OSError, asyncio.CancelledError):
                async with asyncio.timeout(REQUEST_S):
                    await self._answer(reader, writer)
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        page, with_body = _REFUSED, True
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            page, with_body = self._page(head.split(b"\r\n", 1)[0])
        writer.write(_response(page, with_body=with_body))
        await writer.drain()
        writer.write_eof()
        await _read_out(reader)

    def _page(self, line: bytes) -> tuple[_Page, bool]:
        """The answer to a request line, and whether its body is sent."""
        parts = line.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.0", b"HTTP/1.1") or not parts[1].startswith(b"/"):
            return _REFUSED, True
        if parts[0] not in (b"GET", b"HEAD"):
            return _Page(405, _TEXT, b"only GET and HEAD are served here\n"), True
        return self._content(parts[1].partition(b"?")[0]), parts[0] == b"GET"

    def _content(self, path: bytes) -> _Page:
        match path:
            case b"/healthz":
                return _Page(200, _TEXT, b"ok\n")
            case b"/readyz":
                return _Page(200 if self._readiness.ready else 503, "application/json", self._readiness.json())
            case b"/metrics":
                return _Page(200, self._metrics_type, self._metrics())
        return _Page(404, _TEXT, b"the pages here are /healthz, /readyz and /metrics\n")


_REFUSED: Final = _Page(400, _TEXT, b"this is not a request that is understood here\n")


def _response(page: _Page, *, with_body: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if page.status == 405 else ""
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{allow}Connection: close\r\n\r\n"
    )
    return head.encode() + (page.body if with_body else b"")


async def _read_out(reader: asyncio.StreamReader) -> None:
    """Take what the other side still sends, so that closing does not reset the connection under our answer."""
    left = 16 * MAX_REQUEST
    while left > 0 and (more := await reader.read(MAX_REQUEST)):
        left -= len(more)
