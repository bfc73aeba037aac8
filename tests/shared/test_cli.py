"""Commands end with the right code and one line, and print nothing that bends a terminal."""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared import cli
from shared.errors import ConfigError, Stop


def stop(error: BaseException) -> int:
    raise error


def test_a_command_s_own_code_is_kept() -> None:
    assert cli.run(lambda: 1) == 1


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no key\x1b[2J\nhere"), 78), (Stop("no way"), 70)])
def test_what_ends_the_program_is_one_line_and_its_code(error: Stop, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(lambda: stop(error), "wazuh-relay") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("wazuh-relay: error: no ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_the_program_s_name_is_its_own_by_default(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/wazuh-collector", "run"])
    cli.run(lambda: stop(Stop("x")))
    assert capsys.readouterr().err == "wazuh-collector: error: x\n"


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(lambda: stop(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "import sys; from shared import cli; sys.exit(cli.run(lambda: cli.print_json('x' * 10**6, sys.stdout) or 0))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_options_and_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    cli.add_config(parser)
    cli.add_json(parser)
    (tmp_path / "c.yaml").write_text("nats: {replicas: 3}")
    monkeypatch.setenv("WAZUH_JETSTREAM__RELAY__NAME", "second")
    arguments = parser.parse_args(["--config", str(tmp_path / "c.yaml"), "--json"])
    loaded = cli.load_config(arguments)
    assert (loaded.nats.replicas, loaded.relay.name, arguments.json) == (3, "second", True)
    assert cli.load_config(parser.parse_args([])).nats.replicas == 1


def test_a_table_lines_up_and_is_printable() -> None:
    out = io.StringIO()
    cli.print_table(["ID", "NAME"], [["001", "a\nb"], ["12345", None], [1, "\x1b[2J"]], out)
    assert out.getvalue().splitlines() == ["ID     NAME", "001    a\\nb", "12345  -", "1      \\x1b[2J"]


def test_a_table_without_rows_is_its_header() -> None:
    out = io.StringIO()
    cli.print_table(["ID", "NAME"], [], out)
    assert out.getvalue() == "ID  NAME\n"


def test_json_is_one_printable_line() -> None:
    out = io.StringIO()
    cli.print_json({"name": "a\n\x1b\u202eé"}, out)
    assert out.getvalue()[:-1].isascii()
    assert out.getvalue()[:-1].isprintable()
    assert json.loads(out.getvalue()) == {"name": "a\n\x1b\u202eé"}
