"""What an agent is called is whatever somebody typed: it passes unharmed to the consumer, and bends nothing on its way."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import __main__ as collector_command
from relay import __main__ as relay_command
from shared import sealing, subjects, wire
from shared.models import AgentRow
from tests.collector import schemas
from tests.collector.wdb_server import WdbServer
from tests.manager.home import write_keys
from tests.nats_server import NatsServer
from tests.relay.lab import row
from tests.relay.rig import NodeVoice, Rig, Stored, ended, spawn, told, whole

NAMES = [
    "plain",
    "new\nline\r\nWazuh-Kind: connected",
    "\x1b[2J\x1b]0;title\x07\x1b[31mred",
    'quote " \\ {"agent_id":"000"},',
    '","current_status":"Active","x":"',
    "\u202etxt.exe\u2066\u2069\u200f\ufeff",
    "nul\0 bell\x07 back\x08\x08\x08 del\x7f c1\x9b2J",
    "line\u2028para\u2029nel\x85",
    "wazuh.agent.001.status > * ../../etc/passwd",
    "%n%s {0} ${HOME} $(id) `id`",
    "\U0001f600" * 2560,  # 10 KB
    "=cmd|' /C calc'!A0",
]
EVIL_NODE = "evil\x1b[2J\n\u202enode.*>"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""What moves a cursor, begins a line or turns writing round; a newline ends our own lines."""


def harmless(text: str) -> None:
    found = FORBIDDEN.search(text)
    assert found is None, text[max(0, found.start() - 80) : found.end() + 20].encode("unicode_escape")


def agents(moment: int, node: str, first: int = 1) -> list[AgentRow]:
    return [row(number, "active", moment, name=name, node=node) for number, name in enumerate(NAMES, start=first)]


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig(tmp_path, nats_server, "node01", subjects.escape(EVIL_NODE))
    made.environ |= {"WAZUH_JETSTREAM__MONITORING__LOG_LEVEL": "debug", "WAZUH_JETSTREAM__MONITORING__LOG_FORMAT": "human"}
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


async def say(voice: NodeVoice, kind: wire.Kind, rows: list[AgentRow]) -> None:
    """As `NodeVoice`, for a node with a name that must be escaped."""
    node = voice.speaker.node
    snapshot = voice.snapshot(kind, rows=tuple(rows)) if kind == "delta" else voice.snapshot(kind)
    signer = sealing.MessageSigner(sealing.Key(voice.rig.node_keys[subjects.escape(node)]))
    for body in wire.split(wire.encode(snapshot), node, snapshot.boot, snapshot.seq, snapshot.taken_at):
        subject = subjects.raw("wazuh", node)
        await voice.client.jetstream().publish(subject, body, headers={"Wazuh-Signature": signer.sign_header(subject, body, {})})


async def live(rig: Rig) -> tuple[list[Stored], list[Stored], str]:
    """EVENTS, HEARTBEATS and the relay's log: all agents of node01 stop; another node has a name like theirs, and something is refused."""
    await rig.provision()
    relay = await spawn(rig)
    async with rig.client() as client:
        voice, evil = NodeVoice(rig, client), NodeVoice(rig, client, EVIL_NODE)
        await voice.whole(*agents(voice.moment, "node01"))
        await say(evil, "full", [])
        await client.jetstream().publish("wazuh.raw.no%1Bde", b"\x1b[2J" + NAMES[5].encode(), headers={"X": "\x1b[2J\u202e"})
        await rig.until_decided(0)
        await rig.ticked(client)
        voice.moment += 1
        gone = [
            row(a.id, "disconnected", voice.moment - 1, name=a.name, node="node01", code=3, dt=voice.moment) for a in agents(0, "node01")
        ]
        await voice.changed(*gone)
        found = await rig.until(client, len(NAMES))
        beats = await rig.stored(client, "WAZUH_HEARTBEATS")
    code, log = await ended(relay, signal.SIGTERM)
    assert code == 0
    return found, beats, log


def test_every_name_arrives_unharmed_and_escapes_nowhere(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Bodies hold it as it is; subjects, headers, the log and every command's output hold nothing of it that acts."""
    found, beats, log = asyncio.run(live(rig))
    names = {one.fields["agent_id"]: one.fields["agent_name"] for one in told(found) if one.fields.get("current_status") == "Disconnected"}
    assert names == {f"{number:03d}": name for number, name in enumerate(NAMES, start=1)}
    whole(found, rig.secret)
    for one in (*found, *beats):
        assert re.fullmatch(r"wazuh\.(agent\.\d{3,}\.[a-z_]+|security\.[a-z_]+|manager\.[!-~]+\.heartbeat)", one.subject), one.subject
        assert all(re.fullmatch(r"[ -~]*", text) for pair in one.headers.items() for text in pair), one.headers
    assert {subjects.unescape(one.subject.split(".")[2]) for one in beats} >= {"node01"}
    harmless(log)
    for words in COMMANDS:
        assert relay_command.main(words) == 0, words
        printed = capsys.readouterr().out
        harmless(printed)
        if "--json" in words:
            assert [json.loads(line) for line in printed.splitlines()]
    assert relay_command.main(["agents"]) == 0
    assert capsys.readouterr().out.count("\n") == len(NAMES) + 1  # one line for each, and the headers


COMMANDS = [
    ["tail", "--from-start", "--limit", str(len(NAMES))],
    ["tail", "--from-start", "--limit", str(len(NAMES)), "--json"],
    ["agents"],
    ["agents", "--json"],
    ["nodes", "list"],
    ["nodes", "list", "--json"],
    ["quarantine", "list"],
    ["quarantine", "list", "--json"],
    ["quarantine", "show", "1"],
    ["quarantine", "show", "1", "--json"],
]


# The collector --------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A manager whose agents have these names."""
    for folder in ("etc", "queue/db"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc" / "ossec.conf").write_text("<ossec_config></ossec_config>")
    write_keys(tmp_path / "etc" / "client.keys", "".join(f"{number:03d} {name} any k\n" for number, name in enumerate(NAMES, start=1)))
    monkeypatch.setenv("WAZUH_JETSTREAM__WAZUH__HOME", str(tmp_path))
    with WdbServer(tmp_path / "queue" / "db" / "wdb", tmp_path / "queue" / "db" / "global.db") as server:
        schemas.create(server.db)
        for number, name in enumerate(NAMES, start=1):
            server.execute(schemas.INSERT, *(name if value == f"agent-{number}" else value for value in schemas.agent(number)))
        yield tmp_path


@pytest.mark.parametrize("source", ["socket", "file"])
def test_a_snapshot_shows_every_name_and_bends_no_terminal(
    home: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAZUH_JETSTREAM__WAZUH__SOURCE", source)
    assert collector_command.main(["snapshot"]) == 0
    harmless(capsys.readouterr().out)
    assert collector_command.main(["snapshot", "--json"]) == 0
    printed = capsys.readouterr().out
    harmless(printed)
    shown = {one["name"] for one in json.loads(printed)["rows"]}
    assert shown >= {name for name in NAMES if "\0" not in name}, set(NAMES) - shown
