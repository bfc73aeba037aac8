"""The command line: what a newcomer types, and what is loaded for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from collector import __main__ as command


def test_help_tells_what_it_is_and_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("First steps", "check", "snapshot", "run", "Exit codes"):
        assert words in text


@pytest.mark.parametrize(("name", "has_json"), [("run", False), ("check", True), ("snapshot", True)])
def test_each_command_has_its_options(name: str, has_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([name, "--help"])
    text = capsys.readouterr().out
    assert "--config FILE" in text
    assert ("--json" in text) == has_json


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "check", "snapshot"])
def test_a_broken_configuration_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("wazuh: {hoem: /x}")
    assert command.main([name, "--config", str(tmp_path / "c.yaml")]) == 78
    error = capsys.readouterr().err
    assert error.startswith("wazuh-collector: error: ")
    assert "wazuh.home" in error
    assert error.count("\n") == 1


def test_check_and_run_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from collector import check, lean

    monkeypatch.setattr(check, "show", lambda *_, **__: 1)
    monkeypatch.setattr(lean, "run", lambda _: 0)
    assert command.main(["check"]) == 1
    assert command.main(["run"]) == 0


def test_a_snapshot_loads_nothing_of_nats_nor_of_the_relay() -> None:
    """It must work where they are not installed, and stay small."""
    script = "import sys; from collector import snapshot, __main__; print([m for m in ('nats', 'sqlalchemy') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert told.stdout.strip() == "[]"
