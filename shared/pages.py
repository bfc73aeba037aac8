"""The pages of health as both services open them, and what a doctor says of these and of what is exported."""

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from . import access, logs, tracing
from .errors import ConfigError
from .findings import Finding
from .guard import Signs
from .health import HealthServer, Pulse

if TYPE_CHECKING:
    from .monitoring import MonitoringConfig


async def served(monitoring: "MonitoringConfig", signs: Signs, pulse: Pulse, logger: logging.Logger) -> HealthServer:
    """The server, listening where `monitoring.enable_metrics`. Raises ConfigError."""
    metrics, allowed = signs.metrics, access.access(monitoring)
    server = HealthServer(signs.readiness, metrics.text, metrics.content_type, pulse, allowed)
    if monitoring.enable_metrics:
        try:
            await server.start(monitoring.metrics_port)
        except OSError as error:
            where = _where(monitoring, monitoring.metrics_port)
            raise ConfigError(
                f"{where} cannot be listened on ({error.strerror}); set another monitoring.metrics_port or monitoring.listen"
            ) from error
        text = f"/healthz, /readyz and /metrics on {'https' if allowed.tls else 'http'}://{_where(monitoring, server.port)}"
        logs.log(logger, "info", "health_listening", text, port=server.port)
    return server


def examine(monitoring: "MonitoringConfig", environ: Mapping[str, str]) -> Iterator[Finding]:
    """What is right and wrong with the section `monitoring` where it is not as usual; nothing is opened or sent."""
    usual = access.is_loopback(monitoring.listen) and not (monitoring.token_file or monitoring.tls_cert or monitoring.tls_key)
    if monitoring.enable_metrics and not usual:
        yield _examine_pages(monitoring)
    if tracing.wanted(monitoring.otlp_endpoint, environ):
        where = monitoring.otlp_endpoint or "where OpenTelemetry's own variables say"
        if importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http"):
            yield Finding("otlp", "ok", f"traces, metrics and logs go to {where}")
        else:
            yield Finding("otlp", "fail", "OpenTelemetry is not installed", "pip install 'wazuh-jetstream[otlp]'")


def _examine_pages(monitoring: "MonitoringConfig") -> Finding:
    try:
        allowed = access.access(monitoring)
    except ConfigError as error:
        return Finding("pages", "fail", str(error))
    where = _where(monitoring, monitoring.metrics_port)
    if allowed.token_file is None:
        return Finding("pages", "ok", f"https://{where}, for this machine alone")
    if allowed.tls is None and not access.is_loopback(monitoring.listen):
        remedy = "let nobody but Prometheus and the probes reach the port, or set monitoring.tls_cert and monitoring.tls_key"
        return Finding("pages", "warn", f"http://{where}, behind a token that travels in the clear", remedy)
    return Finding("pages", "ok", f"{'https' if allowed.tls else 'http'}://{where}, behind a token")


def _where(monitoring: "MonitoringConfig", port: int) -> str:
    return f"[{monitoring.listen}]:{port}" if ":" in monitoring.listen else f"{monitoring.listen}:{port}"
