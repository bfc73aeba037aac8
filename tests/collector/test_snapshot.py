"""One look at homes laid out as Wazuh's: the recorded databases and answers of real managers, and broken ones."""

import contextlib
import json
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from collector import __main__ as command
from collector import snapshot
from shared import config, wire
from shared.clock import SystemClock
from shared.models import AgentRow
from tests.collector import schemas
from tests.collector.wdb_server import Behaviour, WdbServer, frame

VERSIONS = ("4.14.7", "5.0.0")
SECRET = "5ec4e7" * 10
STATES = {
    1: ("web-01", "192.168.1.101", "active", 0),
    2: ("web-02", "192.168.1.102", "disconnected", 3),
    3: ("db-01", "192.168.1.103", "pending", 0),
    4: ("laptop-7", "192.168.1.4", "never_connected", 0),
    5: ("branch-printer", "192.168.1.105", "disconnected", 4),
    6: ("k8s-node-3", "192.168.1.106", "disconnected", 5),
    7: ("win-dc", "192.168.1.107", "active", 1),
}


def make_home(path: Path, version: str = "4.14.7") -> Path:
    (path / "queue" / "db").mkdir(parents=True)
    (path / "etc").mkdir()
    root, name = ("wazuh_config", "wazuh-manager.conf") if version.startswith("5") else ("ossec_config", "ossec.conf")
    cluster = "<cluster><name>soc</name><node_name>node01</node_name><node_type>master</node_type></cluster>"
    (path / "etc" / name).write_text(f"<{root}>{cluster}</{root}>")
    keys = [f"{number:03d} {STATES[number][0]} any {SECRET}" for number in STATES]
    (path / "etc" / "client.keys").write_text("\n".join([*keys, f"008 !mac-14 any {SECRET}", ""]))
    return path


def make_recorded_home(path: Path, fixtures: Path, version: str) -> Path:
    home = make_home(path, version)
    shutil.copy(fixtures / f"wazuh-{version}-global.db", home / "queue" / "db" / "global.db")
    (home / "queue" / "db" / "global.db").chmod(0o640)
    return home


def take(home: Path) -> wire.Snapshot:
    return snapshot.take(config.load(None, {"WAZUH_JETSTREAM__WAZUH__HOME": str(home)}), SystemClock())


def true_states(found: wire.Snapshot, version: str) -> None:
    assert {row.id: (row.name, row.ip, row.status, row.code) for row in found.rows} == STATES
    five = version.startswith("5")
    captured = 1_795_402_701 if five else 1_795_402_697
    gone = {2, 5, 6}
    for row in found.rows:
        assert row.last_keepalive == (None if row.id == 4 else captured)
        assert row.disconnection_time == (captured if row.id in gone else 0)
        assert row.date_add == captured - 86_400 * row.id
        assert row.node_name == (None if five else "unknown" if row.id == 4 else "node01")
    assert found.db_version == (500 if five else 7)
    assert (found.cluster, found.node, found.node_name, found.node_type) == ("soc", "node01", "node01", "master")
    assert (found.kind, found.source_state, found.count, found.gone) == ("full", "ok", 7, ())
    assert [key.id for key in found.keys if key.removed] == [8]
    assert wire.decode(wire.encode(found)) == found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_recorded_database_shows_the_seven_agents_as_they_were(version: str, tmp_path: Path, fixtures_dir: Path) -> None:
    found = take(make_recorded_home(tmp_path, fixtures_dir, version))
    assert found.source == "file"
    true_states(found, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_socket_that_answers_as_recorded_shows_them_as_well(version: str, tmp_path: Path, fixtures_dir: Path) -> None:
    """The server is first held against every SELECT that was recorded; then it answers ours."""
    home = make_recorded_home(tmp_path, fixtures_dir, version)
    recorded = json.loads((fixtures_dir / f"wazuh-{version}-wdb-socket.json").read_text())
    with WdbServer(home / "queue" / "db" / "wdb", home / "queue" / "db" / "global.db") as server:
        compared = 0
        for exchange in recorded:
            if exchange["request"].startswith("global sql") and "total_changes" not in exchange["request"]:
                answer = server.answer(exchange["request"]).decode()
                if exchange["response"].startswith("err "):
                    assert answer.startswith("err ")
                else:
                    assert json.loads(answer[3:]) == json.loads(exchange["response"][3:])
                compared += 1
        assert compared >= 7
        found = take(home)
    assert found.source == "socket"
    true_states(found, version)


def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setenv("WAZUH_JETSTREAM__WAZUH__HOME", str(home))
    monkeypatch.setenv("WAZUH_JETSTREAM__COLLECTOR__REQUEST_TIMEOUT", "200ms")
    code = command.main(["snapshot", *arguments])
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    return code, printed.out, printed.err


def test_the_command_prints_every_field_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    with WdbServer(home / "queue" / "db" / "wdb") as server:
        schemas.create(server.db)
        server.many(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "never_connected")])
        code, out, err = run(home, capsys, monkeypatch, "--json")
        found = take(home)
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert set(wire.Snapshot.__slots__) <= set(document)
    assert document["rows"] == [row._asdict() for row in found.rows]
    assert document["rows"][0]["name"] == "agent-1"
    assert document["keys"][7] == {"id": 8, "name": "mac-14", "ip": "any", "removed": True}
    assert (document["refused_rows"], document["bad_key_lines"]) == (0, 0)


def test_the_command_prints_a_table_that_no_name_can_bend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    (home / "etc" / "client.keys").write_text(f"001 a any {SECRET}\nbroken\n002\n")
    with WdbServer(home / "queue" / "db" / "wdb") as server:
        schemas.create(server.db, checked=False)
        server.many(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "gone"), schemas.agent(3, "disconnected")])
        server.execute("update agent set name = 'evil' || char(27) || '[2J' where id = 1")
        server.execute("update agent set disconnection_time = 1795402697, date_add = 0 where id = 3")
        code, out, err = run(home, capsys, monkeypatch)
    assert code == 0
    assert "\x1b" not in out
    assert "2 in all, 1 active, 1 disconnected" in out
    assert "001  evil" in out
    assert "2026-11-23T02:58:17Z" in out
    assert "rows refused: 1 of 3; the first: a row of Wazuh's table of agents is refused: agent 2 has the unknown status 'gone'" in err
    assert "broken lines in client.keys, which Wazuh would not accept: 2" in err


def _mid_frame(connection: socket.socket, _: str, answer: bytes) -> None:
    connection.sendall(frame(answer)[:-1])
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_mid_frame, "in the middle of an answer"),
        (lambda connection, _, __: connection.sendall(frame(b"garbage")), "garbage"),
        (lambda connection, _, __: None, "did not answer"),
        (lambda connection, _, __: connection.sendall(frame((b"ok [" + b"x" * 70_000)[:65_536])), "cut an answer"),
    ],
)
def test_a_socket_that_fails_is_one_sentence(
    fault: Behaviour, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    monkeypatch.setenv("WAZUH_JETSTREAM__WAZUH__SOURCE", "socket")
    with WdbServer(home / "queue" / "db" / "wdb") as server:
        schemas.create(server.db)
        server.behave(fault)
        code, out, err = run(home, capsys, monkeypatch)
    assert (code, out) == (75, "")
    assert words in err
    assert err.startswith("wazuh-collector: error: ")
    assert err.count("\n") == 1


def _other_program(database: sqlite3.Connection) -> None:
    database.execute("create table agent (id integer primary key, name text, status text)")


def _locked(database: sqlite3.Connection) -> None:
    schemas.create(database)
    database.execute("begin exclusive")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, "does not exist"),
        (b"", "0 bytes"),
        (b"not a database" * 100, "no SQLite"),
        (_other_program, "connection_status"),
        (_locked, "is locked"),
    ],
)
def test_a_database_that_cannot_be_read_is_one_sentence(
    make: bytes | Callable[[sqlite3.Connection], None] | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = make_home(tmp_path)
    path = home / "queue" / "db" / "global.db"
    monkeypatch.setenv("WAZUH_JETSTREAM__WAZUH__SOURCE", "file")
    with contextlib.ExitStack() as held:
        if isinstance(make, bytes):
            path.write_bytes(make)
        elif make:
            make(held.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None))))
        code, out, err = run(home, capsys, monkeypatch)
    assert (code, out) == (75, "")
    assert words in err
    assert err.count("\n") == 1


def test_no_wazuh_at_all_is_a_matter_of_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(tmp_path / "nowhere", capsys, monkeypatch)
    assert (code, out) == (78, "")
    assert "set wazuh.home" in err
    assert err.count("\n") == 1


def test_client_keys_that_cannot_be_read_are_told_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    (home / "etc" / "client.keys").unlink()
    with WdbServer(home / "queue" / "db" / "wdb") as server:
        schemas.create(server.db, "5.0")
        code, out, err = run(home, capsys, monkeypatch)
    assert code == 0
    assert "missing, 0 entries" in out
    assert "client.keys does not exist" in err


def test_a_date_beyond_the_calendar_is_still_shown() -> None:
    assert snapshot._cells(AgentRow(1, "a", None, "active", 0, 0, 2**62, 0, None))[6] == "9999-12-31T23:59:59Z"
