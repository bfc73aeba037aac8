"""Laws of the commands: what an operator sees, and nothing that a hostile name can bend."""

import asyncio
import json
from io import StringIO
from pathlib import Path

import pytest

from relay import run, tail
from relay.__main__ import main
from tests.nats_server import NatsServer
from tests.relay.cast import LONG_AGO, Cast, kinds, on_master, on_worker, until
from tests.relay.lab import row
from tests.relay.rig import NodeVoice, Rig, running

Captured = pytest.CaptureFixture[str]

HOSTILE = "evil\x1b[2J\nname"


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig(tmp_path, nats_server, "node01", "node02")
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def lived(rig: Rig) -> Rig:
    """A relay has run: agents 1 to 3 are known, 2 stopped and came back, 3 has a hostile name and stopped."""

    async def live() -> None:
        await rig.provision()
        async with rig.client() as client, running(rig):
            voice = NodeVoice(rig, client)
            rows = [row(number, "active", voice.moment, node="node01") for number in (1, 2)]
            rows.append(row(3, "active", voice.moment, node="node01", name=HOSTILE))
            await voice.whole(*rows)
            await voice.stop(2)
            await voice.back(2)
            await voice.changed(row(3, "disconnected", voice.moment, node="node01", name=HOSTILE, code=3, dt=voice.moment + 1))
            await rig.until(client, 3)

    asyncio.run(live())
    return rig


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Captured:
    return capsys


# check ----------------------------------------------------------------------------------------------------------------


def findings(out: Captured, code: int) -> dict[str, list[str]]:
    assert main(["check", "--json"]) == code
    found: dict[str, list[str]] = {}
    for one in json.loads(out.readouterr().out):
        found.setdefault(one["name"], []).append(one["state"])
        assert one["remedy"] or one["state"] == "ok" or one["detail"]
    return found


def test_check_finds_nothing_wrong_where_all_is_there(lived: Rig, out: Captured) -> None:
    assert findings(out, 0) == {
        "configuration": ["ok"],
        "signing key": ["ok"],
        "keyring": ["ok", "ok"],
        "ledger": ["ok"],
        "transport": ["ok"],
        "nats": ["ok"],
        "stream": ["ok", "ok", "ok"],
        "consumer": ["ok"],
    }


def test_check_says_what_to_do_before_anything_is_made(rig: Rig, out: Captured) -> None:
    assert main(["check"]) == 1
    text = out.readouterr().out
    assert "fail  stream          WAZUH_RAW" in text
    assert "to do: run: wazuh-relay provision" in text
    assert "will be made at the first start" in text


def test_check_tells_a_stream_that_is_not_as_it_should_be(lived: Rig, out: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAZUH_JETSTREAM__NATS__EVENTS_MAX_BYTES", "1GiB")
    assert findings(out, 0)["stream"] == ["ok", "warn", "ok"]


def test_check_tells_a_raw_that_was_made_anew(lived: Rig, out: Captured) -> None:
    async def remake() -> None:
        async with lived.client() as client:
            await client.jetstream().delete_stream("WAZUH_RAW")
        await lived.provision()

    asyncio.run(remake())
    assert findings(out, 1)["stream"] == ["fail", "ok", "ok"]


def test_check_tells_keys_that_cannot_be_used(lived: Rig, out: Captured) -> None:
    own = (lived.directory / "relay.key").read_text()
    (lived.directory / "keyring" / "node02" / "current.key").write_text(own)
    assert findings(out, 1)["keyring"] == ["ok", "fail"]
    (lived.directory / "keyring" / "node02" / "current.key").chmod(0o644)
    (lived.directory / "relay.key").write_text("x")
    found = findings(out, 1)
    assert (found["keyring"], found["signing key"]) == (["fail"], ["fail"])


def test_check_tells_nats_that_is_away(lived: Rig, out: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.session.CONNECT_S", 0.2)
    lived.server.kill()
    assert findings(out, 1)["nats"] == ["fail"]


def test_check_tells_a_ledger_that_cannot_be_made(rig: Rig, out: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAZUH_JETSTREAM__RELAY__LEDGER_URL", "sqlite:////nowhere/at/all/ledger.db")
    assert findings(out, 1)["ledger"] == ["fail"]
    (rig.directory / "ledger.db").write_text("this is no database at all" * 100)
    monkeypatch.setenv("WAZUH_JETSTREAM__RELAY__LEDGER_URL", f"sqlite:///{rig.directory}/ledger.db")
    assert findings(out, 1)["ledger"] == ["fail"]


# provision ------------------------------------------------------------------------------------------------------------


def test_provision_says_what_it_did(rig: Rig, out: Captured) -> None:
    assert main(["provision"]) == 0
    assert out.readouterr().out.splitlines()[0] == "stream WAZUH_RAW: created"
    assert main(["provision", "--json"]) == 0
    assert json.loads(out.readouterr().out)[0] == "stream WAZUH_RAW: unchanged"


# agents ---------------------------------------------------------------------------------------------------------------


def test_agents_are_printed_from_the_ledger(lived: Rig, out: Captured) -> None:
    assert main(["agents"]) == 0
    header, *lines = out.readouterr().out.splitlines()
    assert header.split()[:4] == ["ID", "NAME", "STATUS", "WHY"]
    assert [line.split()[0] for line in lines] == ["001", "002", "003"]
    assert r"evil\x1b[2J\nname" in lines[2]


def test_agents_of_one_status_as_json(lived: Rig, out: Captured) -> None:
    assert main(["agents", "--json", "--status", "Disconnected"]) == 0
    (agent,) = json.loads(out.readouterr().out)
    assert (agent["agent_id"], agent["agent_name"], agent["reason"], agent["manager_node"]) == ("003", HOSTILE, "stopped", "node01")


def test_agents_without_a_ledger_is_an_error_in_one_line(rig: Rig, out: Captured) -> None:
    assert main(["agents"]) == 78
    assert out.readouterr().err.startswith("wazuh-relay: error: there is no ledger at ")


# tail -----------------------------------------------------------------------------------------------------------------


def test_tail_prints_each_change_verified(lived: Rig, out: Captured) -> None:
    assert main(["tail", "--from-start", "--limit", "3"]) == 0
    lines = out.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "  002 agent-2  Active -> Disconnected (stopped)  on node01  verified  " in lines[0]
    assert "  002 agent-2  Disconnected -> Active (returned)  on node01  verified  " in lines[1]
    assert r"  003 evil\x1b[2J\nname  Active -> Disconnected" in lines[2]


def test_tail_under_another_key_does_not_verify(lived: Rig, out: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH", str(lived.directory / "keyring" / "node01" / "current.key"))
    assert main(["tail", "--since", "1h", "--limit", "1"]) == 0
    assert "NOT VERIFIED: the header's signature" in out.readouterr().out


def test_tail_of_one_agent_and_kind_as_json(lived: Rig, out: Captured) -> None:
    assert main(["tail", "--from-start", "--limit", "1", "--agent", "002", "--kind", "connected", "--json"]) == 0
    told = json.loads(out.readouterr().out)
    assert (told["verified"], told["why"], told["kind"], told["reason"], told["late"]) == (True, "", "connected", "returned", False)
    assert (told["subject"], told["event"]["agent_id"]) == ("wazuh.agent.002.status", "002")
    assert isinstance(told["latency_seconds"], float)


def test_tail_follows_what_comes_and_shows_what_is_no_event(lived: Rig, out: Captured) -> None:
    async def forge() -> None:
        async with lived.client() as client:
            for body in (b"\xff", b"[]", b'{"agent_name":"\\u001b[31m","timestamp":5}'):
                await client.jetstream().publish("wazuh.agent.009.status", body)

    asyncio.run(forge())
    assert main(["tail", "--from-start", "--agent", "9", "--limit", "3"]) == 0
    lines = out.readouterr().out.splitlines()
    assert all("NOT VERIFIED: unsigned" in line for line in lines)
    assert r"\x1b[31m" in lines[2]
    assert main(["tail", "--from-start", "--agent", "9", "--limit", "1", "--json"]) == 0
    assert json.loads(out.readouterr().out)["event"] == {}


async def test_tail_goes_on_where_it_was_after_nats_was_away(rig: Rig) -> None:
    await rig.provision()
    out = StringIO()
    async with rig.client() as client:
        wanted = tail.Wanted(limit=2)
        task = asyncio.create_task(tail.tail(rig.settings, run.trust(rig.settings).signer, wanted, out, 0, as_json=True))
        async with asyncio.timeout(20):
            while not (await client.jetstream().consumers_info("WAZUH_EVENTS")):
                await asyncio.sleep(0.01)
            await client.jetstream().publish("wazuh.agent.001.status", b'{"agent_id":"first"}')
            while not out.getvalue():
                await asyncio.sleep(0.01)
            rig.server.kill()
            await asyncio.to_thread(rig.server.start)
            await client.jetstream().publish("wazuh.agent.001.status", b'{"agent_id":"second"}', timeout=20)
            assert await task == 0
    assert [json.loads(line)["event"]["agent_id"] for line in out.getvalue().splitlines()] == ["first", "second"]


def test_tail_without_a_stream_is_an_error_in_one_line(rig: Rig, out: Captured) -> None:
    assert main(["tail"]) == 75
    assert "stream not found" in out.readouterr().err


@pytest.fixture
def eventful(rig: Rig) -> Rig:
    """Agent 1 is overdue and its version is refused, agent 2 has moved to node02, and node01 was restarted."""

    async def live() -> None:
        await rig.provision()
        async with rig.client() as client, running(rig):
            cast = Cast(rig, client)
            await cast.enter(LONG_AGO)
            await cast.master.changed(on_master(1, "active", cast.now - LONG_AGO, code=1))
            await cast.worker.changed(on_worker(2, cast.now - 60))
            await cast.quiet(cast.master, 1, 2)
            await cast.worker.changed(on_worker(2, cast.now - 30))
            await cast.master.changed(on_master(3, "disconnected", cast.now, code=5, dt=cast.now + 1))
            await until(rig, client, lambda found: "manager_restarted" in kinds(found))

    asyncio.run(live())
    return rig


def test_tail_prints_what_changes_no_status_and_managers_each_once(eventful: Rig, out: Captured) -> None:
    assert main(["tail", "--from-start", "--limit", "4"]) == 0
    lines = out.readouterr().out.splitlines()
    assert "  001 agent-1  Active, version_refused  on node01  verified  " in lines[0]
    assert "  001 agent-1  Active, overdue  on node01  verified  " in lines[1]
    assert "  002 agent-2  Active, moved from node01  on node02  verified  " in lines[2]
    assert "  manager node01  manager_restarted  agents_reset 1  verified  " in lines[3]


def test_tail_of_one_of_the_other_kinds_as_json(eventful: Rig, out: Captured) -> None:
    assert main(["tail", "--from-start", "--limit", "1", "--kind", "moved", "--json"]) == 0
    told = json.loads(out.readouterr().out)
    assert (told["verified"], told["kind"], told["left_manager"], told["event"]["agent_id"]) == (True, "moved", "node01", "002")
    assert main(["tail", "--from-start", "--limit", "1", "--kind", "manager_restarted", "--json"]) == 0
    told = json.loads(out.readouterr().out)
    assert (told["verified"], told["reason"], told["event"]["details"]) == (True, None, {"agents_reset": 1})


def test_agents_are_marked_as_overdue_and_refused(eventful: Rig, out: Captured) -> None:
    assert main(["agents", "--json"]) == 0
    first, second, *_ = json.loads(out.readouterr().out)
    assert (first["overdue_since"], first["version_refused"], first["manager_node"]) == (first["last_keepalive"], True, "node01")
    assert (second["overdue_since"], second["version_refused"], second["manager_node"]) == (None, False, "node02")
    assert main(["agents"]) == 0
    assert f"overdue since {first['overdue_since']}, version refused" in out.readouterr().out


# usage ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        "--since soon",
        "--agent x",
        f"--agent {9:019}",
        "--limit 0",
        "--limit ²",
        "--kind x",
        "--since 1h --from-start",
        "--agent 1 --kind clock_off",
    ],
)
def test_wrong_usage_ends_with_2(options: str, out: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tail", *options.split()])
    assert ended.value.code == 2


def test_run_without_a_key_is_an_error_in_one_line(rig: Rig, out: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH")
    assert main(["run"]) == 78
    error = out.readouterr().err
    assert error.count("\n") == 1
    assert "security.signing_key_path is not set" in error
