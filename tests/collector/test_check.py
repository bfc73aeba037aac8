"""The doctor on a healthy home and on homes with one thing wrong each."""

import asyncio
import io
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import check
from shared import config, jsapi
from shared.clock import SystemClock
from shared.config import Config
from shared.findings import Finding
from tests.collector import schemas
from tests.collector.as_nobody import as_nobody
from tests.collector.test_snapshot import SECRET, make_home
from tests.collector.wdb_server import WdbServer
from tests.nats_server import NatsServer


class Patient:
    """A home in which everything is in order, until a test breaks it."""

    def __init__(self, path: Path) -> None:
        self.home = make_home(path / "ossec")
        self.spool = path / "spool"
        self.spool.mkdir()
        self.key = path / "signing.key"
        self.key.touch(mode=0o600)
        self.key.write_text("ab" * 32)
        self.options = self.home / "etc" / "local_internal_options.conf"
        self.options.write_text("# x\nremoted.debug=2\n wazuh_db.commit_time_max = 2\n")
        self.database = sqlite3.connect(self.home / "queue" / "db" / "global.db", isolation_level=None)
        schemas.create(self.database)
        self.database.execute(schemas.INSERT, schemas.agent(1))
        self.environment = {
            "WAZUH__HOME": str(self.home),
            "SECURITY__SIGNING_KEY_PATH": str(self.key),
            "COLLECTOR__SPOOL_PATH": str(self.spool / "spool.db"),
            "COLLECTOR__REQUEST_TIMEOUT": "200ms",
        }

    def config(self) -> Config:
        return config.load(None, {f"WAZUH_JETSTREAM__{name}": value for name, value in self.environment.items()})

    def examine(self, settings: Config | None = None) -> dict[str, Finding]:
        findings = check.examine(settings or self.config(), SystemClock(), _nats_is_fine)
        assert all(SECRET not in f.detail + f.remedy and "ab" * 32 not in f.detail + f.remedy for f in findings)
        assert len({finding.name for finding in findings}) == len(findings)
        return {finding.name: finding for finding in findings}


async def _nats_is_fine(_: Config) -> list[Finding]:
    return [Finding("nats", "ok", "answers", "")]


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    made = Patient(tmp_path)
    with WdbServer(made.home / "queue" / "db" / "wdb", made.home / "queue" / "db" / "global.db"):
        yield made
    made.database.close()


def states(patient: Patient) -> dict[str, str]:
    return {name: finding.state for name, finding in patient.examine().items() if name != "user"}


HEALTHY = dict.fromkeys(("configuration", "node", "socket", "database", "client.keys", "spool", "signing key", "transport", "nats"), "ok")


def test_a_healthy_home_is_fine_on_every_line(patient: Patient) -> None:
    assert states(patient) == HEALTHY
    patient.environment["WAZUH__SOURCE"] = "socket"
    assert states(patient) == HEALTHY


def test_without_a_socket_the_file_is_used_and_its_commit_time_matters(patient: Patient) -> None:
    (patient.home / "queue" / "db" / "wdb").unlink()
    assert states(patient) == HEALTHY | {"socket": "warn", "commit time": "ok"}
    patient.options.write_text("wazuh_db.commit_time_max=60\n#wazuh_db.commit_time_max=2\n")
    found = patient.examine()["commit time"]
    assert (found.state, "61 s" in found.detail, "wazuh_db.commit_time_max=2" in found.remedy) == ("warn", True, True)
    patient.options.unlink()
    assert patient.examine()["commit time"].state == "warn"
    patient.options.write_text("nothing")
    assert patient.examine()["commit time"].state == "warn"


def test_a_named_socket_that_does_not_answer_is_a_failure(patient: Patient) -> None:
    (patient.home / "queue" / "db" / "wdb").unlink()
    patient.environment["WAZUH__SOURCE"] = "socket"
    assert states(patient) == HEALTHY | {"socket": "fail"}


def test_a_named_file_asks_no_socket(patient: Patient) -> None:
    patient.environment["WAZUH__SOURCE"] = "file"
    healthy = {name: state for name, state in HEALTHY.items() if name != "socket"}
    assert states(patient) == healthy | {"commit time": "ok"}


def test_a_locked_database_names_the_setting_that_helps(tmp_path: Path) -> None:
    patient = Patient(tmp_path)
    patient.options.unlink()
    patient.environment["WAZUH__SOURCE"] = "file"
    patient.database.execute("begin exclusive")
    found = patient.examine()
    patient.database.close()
    assert found["database"].state == "fail"
    assert "locked" in found["database"].detail
    assert "wazuh_db.commit_time_max=2" in found["commit time"].remedy


def test_a_database_that_is_not_needed_only_warns(patient: Patient) -> None:
    patient.database.close()
    (patient.home / "queue" / "db" / "global.db").write_bytes(b"")
    assert states(patient)["database"] == "warn"


def test_rows_that_are_refused_are_counted(tmp_path: Path) -> None:
    patient = Patient(tmp_path)
    patient.database.execute("update agent set name = '' || x'00' || zeroblob(9999) where id = 1")
    found = patient.examine()["database"]
    patient.database.close()
    assert found.state == "warn"
    assert "1 rows refused" in found.detail


def test_what_wazuh_lacks_is_said(patient: Patient) -> None:
    (patient.home / "etc" / "ossec.conf").unlink()
    (patient.home / "etc" / "client.keys").write_text(f"001 a any {SECRET}\n002 !b any {SECRET}\nbroken {SECRET}\n")
    found = patient.examine()
    assert found["node"].state == "fail"
    assert "wazuh.home" in found["node"].remedy
    assert (found["client.keys"].state, found["client.keys"].detail) == ("warn", "1 agents registered, 1 removed, broken lines: 1")
    (patient.home / "etc" / "client.keys").unlink()
    assert patient.examine()["client.keys"].state == "fail"


def test_what_this_program_lacks_is_said(patient: Patient) -> None:
    patient.key.chmod(0o644)
    patient.environment["COLLECTOR__SPOOL_PATH"] = str(patient.spool / "none" / "spool.db")
    found = patient.examine()
    assert found["signing key"].state == "fail"
    assert "chmod 600" in found["signing key"].detail
    assert found["spool"].state == "fail"
    assert "collector.spool_path" in found["spool"].remedy
    del patient.environment["SECURITY__SIGNING_KEY_PATH"]
    assert "security.signing_key_path is not set" in patient.examine()["signing key"].detail


def test_a_user_without_rights_learns_which_group_has_them(open_dir: Path) -> None:
    patient = Patient(open_dir)
    patient.database.close()
    directory, settings = patient.home / "queue" / "db", patient.config()
    for path, mode in ((patient.key, 0), (patient.spool, 0o500), (directory, 0)):
        path.chmod(mode)

    def examine() -> str:
        findings = patient.examine(settings).items()
        return json.dumps({name: [f.state, f.detail] for name, f in findings if f.state != "ok" and name != "user"})

    found = json.loads(as_nobody(examine))
    directory.chmod(0o700)
    assert {name: state for name, (state, _) in found.items()} == {
        "socket": "warn",
        "database": "fail",
        "spool": "fail",
        "signing key": "fail",
    }
    assert "group wazuh" in found["socket"][1]
    assert "group wazuh" in found["database"][1]
    assert "cannot be written" in found["spool"][1]


def test_the_users_group_is_looked_at_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check._user(tmp_path).state == "ok"
    monkeypatch.setattr(os, "getegid", lambda: -1)
    monkeypatch.setattr(os, "getgroups", list)
    assert check._user(tmp_path).state == "warn"
    assert "cannot be seen" in check._user(tmp_path / "none").detail


def test_root_is_told_that_it_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert check._user(tmp_path).detail == "runs as root"


def test_the_doctor_prints_lines_or_json_and_tells_by_its_exit_code(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ask_nats", _nats_is_fine)
    out = io.StringIO()
    assert check.show(patient.config(), SystemClock(), as_json=False, out=out) == 0
    assert "ok    signing key     key id " in out.getvalue()
    patient.key.unlink()
    assert check.show(patient.config(), SystemClock(), as_json=False, out=out) == 1
    out = io.StringIO()
    assert check.show(patient.config(), SystemClock(), as_json=True, out=out) == 1
    assert {"name": "nats", "state": "ok", "detail": "answers", "remedy": ""} in json.loads(out.getvalue())


# NATS ---------------------------------------------------------------------------------------------------------------


def nats(url: str) -> dict[str, Finding]:
    findings = asyncio.run(check._bounded(check.ask_nats, config.load(None, {"WAZUH_JETSTREAM__NATS__URL": url})))
    return {finding.name: finding for finding in findings}


def test_a_server_with_and_without_the_stream(nats_server: NatsServer) -> None:
    found = nats(nats_server.url)
    assert (found["nats"].state, found["stream"].state) == ("ok", "fail")
    assert "wazuh-relay provision" in found["stream"].remedy

    async def provide() -> None:
        from shared import jetstream

        connection = jetstream.Connection(config.load(None, {"WAZUH_JETSTREAM__NATS__URL": nats_server.url}).nats, "t", lambda *_: None)
        await connection.start()
        await connection.api("STREAM.CREATE.WAZUH_RAW", {"name": "WAZUH_RAW", "subjects": ["wazuh.raw.*"]})
        await connection.close()

    asyncio.run(provide())
    assert nats(nats_server.url)["stream"].state == "ok"


def test_no_server_is_a_failure_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "NATS_TIMEOUT", 0.3)
    found = nats("nats://127.0.0.1:1")["nats"]
    assert found.state == "fail"
    assert "nats.url" in found.remedy


def test_a_probe_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "NATS_TIMEOUT", 0.01)

    async def never(_: Config) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    (found,) = asyncio.run(check._bounded(never, config.load(None, {})))
    assert (found.name, found.state) == ("nats", "fail")


def test_a_user_that_may_not_ask_for_the_stream_is_no_failure() -> None:
    """A collector's own permissions do not hold STREAM.INFO."""
    told = ['Permissions Violation for Publish to "$JS.API.STREAM.INFO.WAZUH_RAW"']
    assert check._no_stream("WAZUH_RAW", jsapi.Timeout("no answer"), told).state == "warn"
    assert check._no_stream("WAZUH_RAW", jsapi.Timeout("no answer"), []).state == "fail"
