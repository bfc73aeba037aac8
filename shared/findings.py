"""What a doctor (`check`) found: one precondition a line, what is wrong, and what to do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TextIO

from . import cli, logs

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One precondition."""

    name: str
    state: State
    detail: str
    remedy: str = ""  # "" where there is nothing to do


def show(findings: Sequence[Finding], out: TextIO, *, as_json: bool) -> int:
    """Print every finding; exit code 1 where one failed."""
    if as_json:
        cli.print_json([asdict(finding) for finding in findings], out)
    else:
        out.writelines(map(_line, findings))
    return int(any(finding.state == "fail" for finding in findings))


def _line(finding: Finding) -> str:
    remedy = f"{'':<22}to do: {logs.printable(finding.remedy)}\n" if finding.remedy else ""
    return f"{finding.state:<6}{finding.name:<16}{logs.printable(finding.detail)}\n{remedy}"
