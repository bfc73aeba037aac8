"""Log lines: one JSON object per line for machines, one line of text for people. Standard logging underneath.

Rules
 * Every line names its kind (`shared.catalogue.LogEvent`), so that a line can be found whatever its words become.
 * One event is one line: control characters, bidirectional marks and lone surrogates in any value are escaped, because
   agents' names and servers' texts are hostile.
 * Values are cut at MAX_VALUE characters. Secrets are never passed here.
"""

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from .catalogue import LogEvent, Service

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "human"]

MAX_VALUE: Final = 2000  # characters
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def printable(text: str) -> str:
    """The text with every character escaped that could move a terminal's cursor, begin a line or hide itself."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def configure(service: Service, level: Level, form: Format, stream: TextIO) -> None:
    """Send all logging of the process to `stream`; `auto` is for people on a terminal, else JSON. Replaces what was there."""
    people = form == "human" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Human(service) if people else _Json(service))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_LEVELS[level])
    logging.raiseExceptions = False  # a full disk under the log must not fill it with tracebacks


def log(logger: logging.Logger, level: Level, event: LogEvent, message: str, /, **fields: object) -> None:
    """Write one line. `fields` are for machines: their names never change, their values are numbers, texts or None.

    What a line belongs to is told under the same names everywhere: `node`, `boot` and `seq` of a snapshot, `position` in RAW,
    `event_id`, and `trace_id` where there is a trace.
    """
    number = _LEVELS[level]
    if logger.isEnabledFor(number):
        logger.log(number, "%s", message, extra={"event": event, "fields": fields})


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What a line says for machines, as plain values."""
    extra: dict[str, object] = dict(getattr(record, "fields", {}))
    if record.exc_info:
        extra["traceback"] = logging.Formatter().formatException(record.exc_info)[-MAX_VALUE:]
    return {name: _plain(value) for name, value in extra.items()}


class _Form(logging.Formatter):
    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def _parts(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        parts: dict[str, Any] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "library"),
            "service": self._service,
            "message": record.getMessage()[:MAX_VALUE],
        }
        return parts | {name: value for name, value in fields(record).items() if name not in parts}


class _Json(_Form):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._parts(record), separators=(",", ":"))  # ASCII: every control character is escaped


class _Human(_Form):
    def format(self, record: logging.LogRecord) -> str:
        parts = self._parts(record)
        ts, level, event, _, message = (parts.pop(name) for name in ("ts", "level", "event", "service", "message"))
        tail = "".join(f" {name}={printable(str(value))}" for name, value in parts.items())
        return f"{ts} {level:<7} {event}: {printable(message)}{tail}"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value  # JSON knows no NaN
    return str(value)[:MAX_VALUE]
