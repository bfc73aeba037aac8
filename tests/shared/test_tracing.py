"""Exporting is on where somebody asked for it, and what cannot work is one sentence at the start."""

import builtins
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from shared import config, trace, tracing
from shared.errors import ConfigError
from shared.telemetry import Telemetry
from tests.clock import ManualClock


@pytest.mark.parametrize(
    ("endpoint", "environ", "on"),
    [
        (None, {}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (None, {"OTEL_SERVICE_NAME": "x"}, False),
        ("http://127.0.0.1:4318", {}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ("http://127.0.0.1:4318", {"OTEL_SDK_DISABLED": "true"}, False),
        ("http://127.0.0.1:4318", {"OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_it_is_on_where_an_endpoint_is_named(endpoint: str | None, environ: dict[str, str], on: bool) -> None:
    assert tracing.wanted(endpoint, environ) is on


def begin(environ: Mapping[str, str], **keys: str) -> tracing.Tracing:
    given = {f"WAZUH_JETSTREAM__MONITORING__{name.upper()}": value for name, value in keys.items()}
    monitoring = config.load(None, given).monitoring
    return tracing.begin("collector", "node01", monitoring, Telemetry("collector"), ManualClock(), environ)


def test_where_it_is_off_nothing_is_sampled_or_told() -> None:
    assert begin({}) is tracing.OFF


def test_that_opentelemetry_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("shared.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'wazuh-jetstream\[otlp\]'"):
        begin({}, otlp_endpoint="http://127.0.0.1:4318")


def test_a_signal_that_is_left_out_is_not_said_to_be_recorded() -> None:
    left_out = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    made = begin(left_out, otlp_endpoint="http://127.0.0.1:1")
    assert made is not tracing.OFF
    assert not made.on
    assert not made.sampled(trace.root("s", 1, 1)).sampled
    made.close()


@pytest.mark.parametrize(("ratio", "share"), [("1", 100), ("0", 0)])
def test_opentelemetrys_own_sampler_decides(ratio: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    made = begin({"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, otlp_endpoint="http://127.0.0.1:1")
    assert sum(made.sampled(trace.root("s", 1, seq)).sampled for seq in range(100)) == share
    made.close()


@pytest.mark.parametrize("interval", ["soon", "0", "-5", "nan"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    with pytest.raises(ConfigError, match="OpenTelemetry refuses"):
        begin(
            {"OTEL_METRIC_EXPORT_INTERVAL": interval, "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
            otlp_endpoint="http://127.0.0.1:1",
        )


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "ftp://x", "http://", "http://u:secret@x:4318", "http://x:99999", "http://x/?token=1", "grpc://x:4317"]
)
def test_an_endpoint_is_a_url_without_secrets(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"monitoring\.otlp_endpoint") as refused:
        config.load(None, {"WAZUH_JETSTREAM__MONITORING__OTLP_ENDPOINT": endpoint})
    assert "secret" not in str(refused.value)
