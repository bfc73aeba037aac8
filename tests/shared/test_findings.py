"""Laws of what a doctor prints."""

import io
import json

import pytest

from shared import findings
from shared.findings import Finding

FINE = Finding("nats", "ok", "answers")
ODD = Finding("spool", "warn", "a \x1b[31mred\n name", "mend it")
BAD = Finding("ledger", "fail", "is not there", "make it")


@pytest.mark.parametrize(("found", "code"), [([FINE, ODD], 0), ([FINE, BAD, ODD], 1), ([], 0)])
def test_the_exit_code_is_1_where_one_failed(found: list[Finding], code: int) -> None:
    assert findings.show(found, io.StringIO(), as_json=False) == code
    assert findings.show(found, io.StringIO(), as_json=True) == code


def test_each_finding_is_a_line_with_what_to_do_below_and_no_control_character_escapes() -> None:
    out = io.StringIO()
    findings.show([FINE, ODD], out, as_json=False)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["ok", "nats", "answers"]
    assert lines[2].strip() == "to do: mend it"
    assert "\x1b" not in out.getvalue()


def test_json_holds_every_field() -> None:
    out = io.StringIO()
    findings.show([BAD], out, as_json=True)
    assert json.loads(out.getvalue()) == [{"name": "ledger", "state": "fail", "detail": "is not there", "remedy": "make it"}]
