"""The pages of health as both services open them."""

import logging
from typing import TYPE_CHECKING

from . import access, logs
from .errors import ConfigError
from .guard import Signs
from .health import HealthServer, Pulse

if TYPE_CHECKING:
    from .monitoring import MonitoringConfig


async def served(monitoring: "MonitoringConfig", signs: Signs, pulse: Pulse, logger: logging.Logger) -> HealthServer:
    """The server, listening where `monitoring.enable_metrics`. Raises ConfigError."""
    metrics, allowed = signs.metrics, access.access(monitoring)
    server = HealthServer(signs.readiness, metrics.text, metrics.content_type, pulse, allowed)
    if monitoring.enable_metrics:
        where = f"[{monitoring.listen}]" if ":" in monitoring.listen else monitoring.listen
        try:
            await server.start(monitoring.metrics_port)
        except OSError as error:
            text = f"{where}:{monitoring.metrics_port} cannot be listened on ({error.strerror}); set another monitoring.metrics_port"
            raise ConfigError(f"{text} or monitoring.listen") from error
        text = f"/healthz, /readyz and /metrics on {'https' if allowed.tls else 'http'}://{where}:{server.port}"
        logs.log(logger, "info", "health_listening", text, port=server.port)
    return server
