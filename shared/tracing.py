"""Where finished steps are told as spans: nowhere, unless an OTLP endpoint is configured. OpenTelemetry is not imported before.

On where `monitoring.otlp_endpoint` is set, or one of OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT, or that of one
signal (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ...). OTEL_SDK_DISABLED=true turns it off whatever else is set. All that OpenTelemetry
lets one set besides (headers, timeouts, certificates, samplers, resource attributes) is read from its standard variables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from .catalogue import Service
from .clock import Clock
from .errors import ConfigError
from .telemetry import Telemetry
from .trace import Context

if TYPE_CHECKING:
    from .monitoring import MonitoringConfig

Kind = Literal["internal", "producer", "consumer"]
Value = str | int | float | bool

VARIABLES: Final = tuple(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_", "LOGS_"))


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is over. `began` and `ended` in seconds of `Clock.monotonic`."""

    name: str
    span: Context
    parent: Context | None
    began: float
    ended: float
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: Sequence[Context] = ()
    failed: str = ""  # why, where it failed


class Tracing(Protocol):
    """Where steps are told. Safe to use from several threads; never raises, never waits."""

    on: bool

    def sampled(self, span: Context) -> Context:
        """The root span, marked as sampled if it is to be recorded."""

    def tell(self, step: Step) -> None:
        """Record a step whose span is sampled."""

    def close(self) -> None:
        """Send what is left, within about two seconds."""


class Off:
    """Tells nobody."""

    on = False

    def sampled(self, span: Context) -> Context:
        """Never recorded."""
        return span

    def tell(self, step: Step) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


OFF: Final = Off()


def wanted(endpoint: str | None, environ: Mapping[str, str]) -> bool:
    """Whether anything is to be exported."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not disabled and bool(endpoint or any(environ.get(name) for name in VARIABLES))


def begin(
    service: Service, instance: str, monitoring: "MonitoringConfig", metrics: Telemetry, clock: Clock, environ: Mapping[str, str]
) -> Tracing:
    """Begin to export, if it is wanted. `instance` tells this process from others of its service.

    Raises ConfigError where OpenTelemetry is wanted and not installed, or cannot use what it was given.
    """
    if not wanted(monitoring.otlp_endpoint, environ):
        return OFF
    try:
        from . import otlp
    except ImportError as error:
        raise ConfigError(
            f"an OTLP endpoint is configured, and OpenTelemetry is not installed ({error}): pip install 'wazuh-jetstream[otlp]',"
            " or unset monitoring.otlp_endpoint and the OTEL_EXPORTER_OTLP_ variables"
        ) from error
    try:
        return otlp.Exporting(service, instance, monitoring.otlp_endpoint, metrics, clock, environ)
    except ValueError as error:
        raise ConfigError(f"OpenTelemetry refuses what an OTEL_ variable or monitoring.otlp_endpoint says ({error})") from error
