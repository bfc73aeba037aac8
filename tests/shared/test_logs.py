"""A log line is one line, whatever a hostile name holds, and machines find its kind in it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import logs
from shared.logs import log

LOGGER = logging.getLogger("test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers, root.level, logging.raiseExceptions)
    yield
    root.handlers, root.level, logging.raiseExceptions = before


def written(form: logs.Format, text: str, stream: io.StringIO | None = None, /, **fields: object) -> str:
    out = stream or io.StringIO()
    logs.configure("collector", "info", form, out)
    log(LOGGER, "warning", "source_lost", text, **fields)
    return out.getvalue()


def test_a_json_line_holds_everything_by_name() -> None:
    line = json.loads(written("json", "a message", state="locked", tries=3, ratio=0.5, ok=True, none=None))
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "source_lost",
        "service": "collector",
        "message": "a message",
        "state": "locked",
        "tries": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
    }


def test_a_human_line_is_for_reading() -> None:
    line = written("human", "a message", state="locked")
    assert line.split(" ", 1)[1] == "warning source_lost: a message state=locked\n"


def test_auto_is_human_on_a_terminal_and_json_elsewhere() -> None:
    assert written("auto", "m").startswith("{")
    assert not written("auto", "m", Terminal()).startswith("{")


@given(st.text(), st.text())
def test_a_line_is_one_line_and_holds_no_control_character(message: str, value: str) -> None:
    forms: tuple[logs.Format, ...] = ("json", "human")
    for form in forms:
        text = written(form, message, value=value)
        assert text.endswith("\n")
        assert text[:-1].isprintable()


@given(st.text(max_size=100), st.text(max_size=100))
def test_json_keeps_every_character(message: str, value: str) -> None:
    line = json.loads(written("json", message, value=value))
    assert (line["message"], line["value"]) == (message, value)


def test_fields_cannot_pretend_to_be_something_else() -> None:
    line = json.loads(written("json", "m", level="error", event="x", message="y", service="z", ts=0))
    assert (line["level"], line["event"], line["message"], line["service"]) == ("warning", "source_lost", "m", "collector")


def test_numbers_that_json_does_not_know_are_texts() -> None:
    line = json.loads(written("json", "m", value=float("nan")), parse_constant=lambda name: pytest.fail(name))
    assert line["value"] == "nan"


def test_long_values_are_cut() -> None:
    assert len(written("json", "m" * 10**6, value="v" * 10**6)) < 3 * logs.MAX_VALUE


def test_what_is_below_the_level_is_not_written() -> None:
    out = io.StringIO()
    logs.configure("relay", "error", "json", out)
    log(LOGGER, "warning", "source_lost", "m")
    LOGGER.warning("m")
    assert out.getvalue() == ""


def test_a_library_s_line_has_the_same_form_and_its_traceback_in_one_line() -> None:
    out = io.StringIO()
    logs.configure("relay", "info", "json", out)
    try:
        int("hostile\ntext")
    except ValueError:
        logging.getLogger("nats").exception("it %s", "broke")
    (line,) = out.getvalue().splitlines()
    fields: dict[str, Any] = json.loads(line)
    assert (fields["event"], fields["message"], fields["level"]) == ("library", "it broke", "error")
    assert "ValueError: invalid literal" in fields["traceback"]


def test_percent_signs_in_a_message_are_no_format() -> None:
    assert json.loads(written("json", "100 %s %d"))["message"] == "100 %s %d"


def test_configuring_again_replaces_what_was_there() -> None:
    first = io.StringIO()
    logs.configure("relay", "info", "json", first)
    assert written("json", "m")
    assert first.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "safe"), [("plain é", "plain é"), ("a\x1b[2Jb", "a\\x1b[2Jb"), ("\u202e", "\\u202e"), ("\ud800", "\\ud800")]
)
def test_printable_escapes_what_could_fool_a_terminal(text: str, safe: str) -> None:
    assert logs.printable(text) == safe
