"""The section `monitoring` of the configuration: what a service tells about itself, and to whom."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from .section import Section


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError('is not an IP address; "127.0.0.1" is this machine alone, "0.0.0.0" or "::" is every interface') from None


def _endpoint(value: str) -> str:
    if "@" in value:
        raise ValueError("holds a user or a password; send to an OpenTelemetry Collector beside this service, which may know them")
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:  # a port out of range, a broken IPv6 address
        good = False
    if not good:
        raise ValueError('is not a URL such as "http://127.0.0.1:4318" (OTLP over HTTP, without /v1/traces)')
    return value


class MonitoringConfig(Section):
    """What the service tells about itself."""

    enable_metrics: bool = Field(default=True, description="Serve /healthz, /readyz and /metrics.")
    metrics_port: int = Field(default=9090, ge=0, le=65535, description="Port of these pages; 0 takes any free one.")
    listen: Annotated[str, AfterValidator(_address)] = Field(
        default="127.0.0.1", description="Address to serve them on; beyond this machine a token is needed: monitoring.token_file."
    )
    token_file: Path | None = Field(
        default=None,
        description="File with the bearer token that every page asks for, but for the bare word of /healthz and /readyz; mode 600 or 640.",
    )
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM) to serve these pages by HTTPS.")
    tls_key: Path | None = Field(default=None, description="Key (PEM) of that certificate.")
    otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None,
        description="Where traces, metrics and logs go by OTLP over HTTP, such as http://127.0.0.1:4318; needs the extra `otlp`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log line that is written."
    )
    log_format: Literal["auto", "json", "human"] = Field(
        default="auto", description="Form of the log; auto is human on a terminal, else json."
    )
