"""Writes what is made from the code: docs/metrics.md, and the README's table of configuration keys. `make docs`.

tests/test_docs.py and tests/test_monitoring.py hold both to the code.
"""

from pathlib import Path
from typing import Final

from shared import catalogue, config
from shared.catalogue import Metric, MetricName

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- config -->\n", "\n<!-- /config -->"

HEAD: Final = """\
# Metrics and log events

Made from `shared/catalogue.py` by `make docs`. How to reach them, and what else there is to see: [monitoring.md](monitoring.md).

## Metrics

On `/metrics`, and by OTLP under the same names. Counters begin at 0 under every label that is known beforehand, so that the first
count is seen. Gauges of the fleet are the leading relay's; one that stands by shows none.
"""
SECTIONS: Final = (
    ("Both services", ("wazuh_jetstream_breaker", "wazuh_jetstream_build", "wazuh_jetstream_nats", "process_")),
    ("Collector", ("wazuh_jetstream_collector_",)),
    ("Relay", ("wazuh_jetstream_relay_",)),
)
LOGS: Final = """\
## Log events

Every line has `ts`, `level`, `event`, `service` and `message`; its other fields keep their names and meanings: `node`, `boot` and
`seq` name a snapshot, `position` its place in WAZUH_RAW, `event_id` an event, `trace_id` a trace. `event` is one of these, or
`library` for what a library says.

| event | meaning |
|---|---|
"""


def metrics() -> str:
    """docs/metrics.md."""
    told: set[MetricName] = set()
    parts = [HEAD]
    for title, prefixes in SECTIONS:
        found = {name: metric for name, metric in catalogue.METRICS.items() if name.startswith(prefixes) and name not in told}
        told |= found.keys()
        parts.append(f"### {title}\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n{_rows(found)}\n")
    left = {name: metric for name, metric in catalogue.METRICS.items() if name not in told}
    if left:
        parts.append(f"### Besides\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n{_rows(left)}\n")
    return "\n".join([*parts, LOGS]) + "".join(f"| `{event}` | {text} |\n" for event, text in catalogue.EVENTS.items())


def _rows(found: dict[MetricName, Metric]) -> str:
    return "\n".join(
        f"| `{name}` | {metric.kind} | {metric.unit} | {', '.join(f'`{label}`' for label in metric.labels)} | {_meaning(metric)} |"
        for name, metric in found.items()
    )


def _meaning(metric: Metric) -> str:
    if len(metric.labels) != 1 or not metric.known:
        return metric.help
    return f"{metric.help} ({', '.join(f'`{value}`' for (value,) in metric.known)})"


def config_table() -> str:
    """The README's table of configuration keys."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, text in config.describe():
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{key}` | {kind.replace('|', '/')} | {shown} | {text} |")
    return "\n".join(lines)


def main() -> None:
    (ROOT / "docs" / "metrics.md").write_text(metrics())
    readme = ROOT / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(f"{head}{BEGIN}{config_table()}{END}{rest.partition(END[1:])[2]}")


if __name__ == "__main__":
    main()
