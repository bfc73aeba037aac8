"""Laws of what an operator may do: look at the quarantine, have a message taken in again, drop it, retire a manager."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from relay import quarantine, requests, run
from relay.__main__ import main
from shared import cli
from shared.clock import SystemClock
from tests.nats_server import NatsServer
from tests.relay.ledgers import opened
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, changes, running, whole

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig(tmp_path, nats_server, "node01", "node02")
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


async def command(*arguments: str) -> tuple[int, str, str]:
    """A command as somebody calls it while a relay runs: exit code, output, errors."""
    out, errors = StringIO(), StringIO()

    def call() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            return main(list(arguments))

    return await asyncio.to_thread(call), out.getvalue(), errors.getvalue()


async def kept(count: int) -> list[dict[str, Any]]:
    """The quarantine, once it holds so many messages."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            code, out, _ = await command("quarantine", "list", "--json")
            found: list[dict[str, Any]] = json.loads(out) if code == 0 else []
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_message_of_a_node_without_a_key_is_taken_in_again_once_it_has_one(rig: Rig) -> None:
    """The issue of every first day: a collector speaks before its key is in the keyring."""
    await rig.provision()
    key = rig.directory / "keyring" / "node01"
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        key.rename(rig.directory / "away")
        async with running(rig):
            await voice.full(2)
            await voice.stop(1)
            (stop, full) = await kept(2)
            assert [one["reason"] for one in (stop, full)] == ["unknown_node"] * 2
            code, _, errors = await command("quarantine", "retry", str(full["number"]))
            assert code == 1
            assert "was refused again" in errors
            assert "add its directory" in errors
            (again, stop) = await kept(2)
            assert again["position"] > stop["position"]
        (rig.directory / "away").rename(key)
        async with running(rig):
            for one in (again, stop):
                code, out, errors = await command("quarantine", "retry", str(one["number"]))
                assert (code, out) == (0, f"message {one['number']} was taken in again\n"), errors
            found = await rig.until(client, 1)
            assert await kept(0) == []
    assert changes(found) == [("001", "Active", "Disconnected")]
    whole(found, rig.secret)


async def test_a_request_is_done_again_by_a_replay(rig: Rig) -> None:
    """It stands in RAW: a ledger that is made anew from there comes to the same fleet and the same quarantine."""
    await rig.provision()
    async with rig.client() as client:
        voice, gone = NodeVoice(rig, client), NodeVoice(rig, client, "node02")
        async with running(rig):
            await voice.full(2)
            await gone.full(1)
            await rig.send(client, "node01", b"junk")
            await rig.send(client, "node01", b"more junk")
            (_, junk) = await kept(2)
            assert (await command("quarantine", "drop", str(junk["number"])))[0] == 0
            assert (await command("nodes", "forget", "node02", "--force"))[0] == 0
            await voice.stop(1)
            before = await rig.until(client, 1)
        facts = known(rig)
        assert facts == (["node01"], [b"more junk"])
        rig.forget_ledger()
        async with running(rig):
            await voice.stop(2)
            found = await rig.until(client, 2)
    assert known(rig) == facts
    assert found[: len(before)] == before
    whole(found, rig.secret)


def known(rig: Rig) -> tuple[list[str], list[bytes]]:
    """The nodes and the payloads in quarantine that a ledger holds."""
    with contextlib.closing(rig.open_ledger()) as book:
        return [node.node for node in book.nodes()], [one.payload for one in book.shelf.kept(10)]


async def test_a_node_is_retired_once_it_is_not_heard(rig: Rig) -> None:
    await rig.provision()
    rig.environ["WAZUH_JETSTREAM__RELAY__NODE_STALE"] = "500ms"
    async with rig.client() as client:
        voice, gone = NodeVoice(rig, client), NodeVoice(rig, client, "node02")
        async with running(rig) as relay:
            await voice.full(2)
            await gone.full(1)
            await until_nodes(2)
            async with asyncio.timeout(DEADLINE_S):
                while (await nodes())["node02"]["fresh"]:
                    await asyncio.sleep(0.02)
            code, out, errors = await command("nodes", "forget", "node02", "--json")
            assert (code, json.loads(out)["node"]) == (0, "node02"), errors
            assert list(await nodes()) == ["node01"]
            assert b'node_fresh{node="node02"}' not in relay._metrics.text()
            await gone.stop(1)
            await until_nodes(2)
    with contextlib.closing(rig.open_ledger()) as book:
        assert [node.node for node in book.restore("", run.policy(rig.settings.relay)).nodes.values()] == ["node01", "node02"]


async def nodes() -> dict[str, Any]:
    code, out, _ = await command("nodes", "list", "--json")
    return {one["node"]: one for one in json.loads(out)} if code == 0 else {}


async def until_nodes(count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(await nodes()) < count:
            await asyncio.sleep(0.02)


# Without a relay ------------------------------------------------------------------------------------------------------


@pytest.fixture
def book(rig: Rig) -> Callable[..., None]:
    """Makes a ledger with a message in quarantine, and no relay that runs."""

    def refuse(subject: str = "wazuh.raw.node01", body: bytes = b"junk\x00\xff\x1b[2J", reason: str = "malformed") -> None:
        with contextlib.closing(opened(rig.settings.relay.ledger_url)) as made:
            made.quarantine(made.position() + 1, 1_750_000_000_000, subject, reason, "refused: \x1b[31mit is junk", {"A": "b\n"}, body)

    return refuse


def test_list_shows_each_message_on_a_line(book: Callable[..., None], capsys: Captured) -> None:
    for body in (b"one", b"three"):
        book(body=body)
    assert main(["quarantine", "list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["NUMBER", "POSITION", "TIME", "SUBJECT", "REASON", "BYTES", "WHY"]
    assert [line.split()[:6] for line in lines] == [
        ["2", "2", "2025-06-15T15:06:40Z", "wazuh.raw.node01", "malformed", "5"],
        ["1", "1", "2025-06-15T15:06:40Z", "wazuh.raw.node01", "malformed", "3"],
    ]
    assert r"refused: \x1b[31mit is junk" in lines[0]
    assert main(["quarantine", "list", "--limit", "1", "--json"]) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)] == [2]


def test_list_reads_page_by_page(book: Callable[..., None], capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PAGE", 2)
    for _ in range(5):
        book()
    assert main(["quarantine", "list", "--json", "--limit", "4"]) == 0
    assert [one["number"] for one in json.loads(capsys.readouterr().out)] == [5, 4, 3, 2]


def test_show_tells_all_of_a_message_and_bends_no_terminal(book: Callable[..., None], capsys: Captured) -> None:
    book()
    assert main(["quarantine", "show", "1"]) == 0
    text = capsys.readouterr().out
    assert "  00000000  6a 75 6e 6b 00 ff 1b 5b 32 4a                    |junk...[2J|\n" in text
    assert "\n  A: b\\n\n" in text
    assert "\x1b" not in text
    assert main(["quarantine", "show", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (base64.b64decode(told["payload"]), told["headers"], told["decoded"]) == (b"junk\x00\xff\x1b[2J", {"A": "b\n"}, None)


def test_show_of_a_long_payload_says_how_much_is_left_out(book: Callable[..., None], capsys: Captured) -> None:
    book(body=b"x" * 5000)
    assert main(["quarantine", "show", "1"]) == 0
    assert "... and 904 bytes more; --json gives all" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["show", "retry", "drop"])
def test_a_number_that_is_not_there_is_an_error_in_one_line(verb: str, book: Callable[..., None], capsys: Captured) -> None:
    book()
    assert main(["quarantine", verb, "7"]) == 1
    assert capsys.readouterr().err == "wazuh-relay: error: there is no message 7 in the quarantine; see: wazuh-relay quarantine list\n"


@pytest.mark.parametrize(
    ("subject", "body", "why"), [("wazuh.agent.001.status", b"{}", "is an event"), ("wazuh.raw.node01", b"", "parts never came")]
)
def test_what_cannot_be_taken_in_again_says_why(subject: str, body: bytes, why: str, book: Callable[..., None], capsys: Captured) -> None:
    book(subject=subject, body=body)
    assert main(["quarantine", "retry", "1"]) == 1
    assert why in capsys.readouterr().err


async def test_without_a_relay_a_request_waits_in_raw(rig: Rig, book: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.provision()
    monkeypatch.setattr(requests, "WAIT_S", 0.1)
    book()

    def drop() -> int:
        return cli.run(lambda: quarantine.drop(rig.settings, 1, SystemClock(), StringIO(), as_json=False))

    async with rig.client() as client:
        await rig.send(client, "node01", b"junk")  # what the ledger has refused
        assert await asyncio.to_thread(drop) == 75
        async with running(rig):
            await rig.ticked(client)
            assert await kept(0) == []


def test_a_retry_that_does_not_fit_into_raw_is_an_error_in_one_line(rig: Rig, book: Callable[..., None], capsys: Captured) -> None:
    asyncio.run(rig.provision())
    book(body=b"x" * (2 << 20))
    assert main(["quarantine", "retry", "1"]) == 1
    assert "does not fit into RAW" in capsys.readouterr().err


def test_a_node_that_is_not_known_is_an_error_in_one_line(book: Callable[..., None], capsys: Captured) -> None:
    book()
    assert main(["nodes", "forget", "node09"]) == 1
    assert "no such node is known" in capsys.readouterr().err


async def test_nodes_are_printed_as_a_table_and_one_that_is_heard_is_not_retired(rig: Rig) -> None:
    await rig.provision()
    async with rig.client() as client, running(rig):
        await NodeVoice(rig, client).full(3)
        await rig.until(client, 0)
        code, _, errors = await command("nodes", "forget", "node01")
        assert (code, "it is heard; stop its collector" in errors) == (1, True)
    code, out, _ = await command("nodes", "list")
    assert code == 0
    header, line = out.splitlines()
    assert header.split()[:4] == ["NODE", "NODE_NAME", "TYPE", "HEARD"]
    assert line.split()[:5] == ["node01", "node01", "standalone", "fresh", "socket"]
    assert " 3 " in line
    assert " 1/1 " in line


@pytest.mark.parametrize(
    ("payload", "told"), [(b'{"a":1}', {"a": 1}), (b"\xff", None), (b"[" * 100_000, None)]
)  # fmt: skip
def test_a_payload_is_told_as_far_as_it_can_be_read(payload: bytes, told: object) -> None:
    assert quarantine.decoded(payload) == told
