"""Two proofs of a real stream, the command's and that of docs/verify_events.py, which shares no line with it: what a relay wrote
is proved, and whatever an operator with full rights puts in its place is found."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from relay import verify_stream
from relay.__main__ import main
from relay.progress import EVERY, Progress
from relay.verify import Fault, Verifier
from tests.clock import ManualClock
from tests.nats_server import NatsServer
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, Stored, running
from tests.relay.streams import SIGNER

SCRIPT: Final = Path(__file__).parents[2] / "docs" / "verify_events.py"
STREAMS: Final = ("WAZUH_EVENTS", "WAZUH_CHECKPOINTS", "WAZUH_HEARTBEATS")
AGENTS: Final = 6

Recorded = dict[str, list[Stored]]


async def live(rig: Rig) -> None:
    """A relay runs, some agents stop, and heads of all of it are signed."""
    rig.environ["WAZUH_JETSTREAM__RELAY__CHECKPOINT_INTERVAL"] = "100ms"
    await rig.provision()
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        async with running(rig):
            await voice.full(AGENTS)
            for numbers in (range(1, 3), range(3, AGENTS + 1)):
                for number in numbers:
                    await voice.stop(number)
                end = len(await rig.until(client, numbers[-1]))
                async with asyncio.timeout(DEADLINE_S):
                    while not all([await told(rig, name, end) for name in STREAMS[1:]]):
                        await asyncio.sleep(0.05)


async def told(rig: Rig, stream: str, end: int) -> bool:
    """Whether a head of the chain's end stands in a stream."""
    async with rig.client() as client:
        found = [one.fields for one in await rig.stored(client, stream)]
        return any((one if "digest" in one else one["head"] or {"sequence": 0})["sequence"] == end for one in found)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Recorded]]:
    """A relay has run; and what it wrote."""
    directory = tmp_path_factory.mktemp("lived")
    server = NatsServer(directory / "nats")

    async def record() -> tuple[Rig, Recorded]:
        rig = Rig(directory, server, "node01")
        await live(rig)
        async with rig.client() as client:
            return rig, {stream: await rig.stored(client, stream) for stream in STREAMS}

    yield asyncio.run(record())
    server.kill()


async def republish(rig: Rig, recorded: Recorded) -> None:
    """All streams anew, with these messages."""
    async with rig.client() as client:
        js = client.jetstream()
        for stream in STREAMS:
            await js.delete_stream(stream)
        await rig.provision()
        for found in recorded.values():
            for one in found:
                await js.publish(one.subject, one.body, headers=_plain(one))


def proved(rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The command's exit code and what it printed."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    code = main(["verify", *options])
    return code, capsys.readouterr().out


def proved_alone(rig: Rig, key: str = "relay.key") -> tuple[int, str]:
    """The same of the script."""
    command = [sys.executable, str(SCRIPT), "--server", rig.server.url, "--key", str(rig.directory / key)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


# What an operator does ------------------------------------------------------------------------------------------------

AT: Final = 7  # the place in the list of what is spoilt


def flipped(found: list[Stored]) -> list[Stored]:
    body = bytearray(found[AT].body)
    body[20] ^= 1
    return [*found[:AT], replace(found[AT], body=bytes(body)), *found[AT + 1 :]]


def removed(found: list[Stored]) -> list[Stored]:
    return [*found[:AT], *found[AT + 1 :]]


def swapped(found: list[Stored]) -> list[Stored]:
    return [*found[:AT], found[AT + 1], found[AT], *found[AT + 2 :]]


def inserted(found: list[Stored]) -> list[Stored]:
    return [*found[:AT], replace(found[2], headers={**found[2].headers, "Wazuh-Outbox-Sequence": str(AT + 1)}), *found[AT:]]


def repeated(found: list[Stored]) -> list[Stored]:
    return [*found[:AT], found[2], *found[AT:]]


def cut(found: list[Stored]) -> list[Stored]:
    return found[:AT]


SPOILT: Final[dict[Callable[[list[Stored]], list[Stored]], tuple[str, int, int]]] = {
    flipped: ("forged", AT + 1, AT + 1),
    removed: ("missing", AT + 1, AT + 1),
    swapped: ("reordered", AT + 1, AT + 2),
    inserted: ("forged", AT + 1, AT + 1),
    repeated: ("repeated", AT + 1, 3),
}
"""Of each: kind of fault, stream sequence, outbox sequence."""


async def test_what_a_relay_wrote_is_proved_by_both(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    await republish(rig, recorded)
    end = len(recorded["WAZUH_EVENTS"])
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert code == 0, text
    assert f"PROVED: {end} messages, {AGENTS} events" in text
    assert "the chain's beginning" in text
    assert f"complete  up to outbox sequence {end}, signed 20" in text
    code, text = await asyncio.to_thread(proved_alone, rig)
    assert (code, text.startswith(f"PROVED: {end} messages, outbox sequences 1 to {end} of chain ")) == (0, True), text
    async with rig.client() as client:
        for stream in STREAMS:
            assert await client.jetstream().consumers_info(stream) == []


@pytest.mark.parametrize("spoil", SPOILT)
async def test_what_is_spoilt_is_found_by_both_and_its_place_named(
    spoil: Callable[[list[Stored]], list[Stored]],
    lived: tuple[Rig, Recorded],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig, recorded = lived
    there = spoil(recorded["WAZUH_EVENTS"])
    await republish(rig, {**recorded, "WAZUH_EVENTS": there})
    kind, sequence, outbox = SPOILT[spoil]
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys, "--json")
    said = json.loads(text)
    assert (code, said["verdict"], said["faults"]) == (1, "not_proved", {kind: 1})
    (fault,) = said["found"]
    assert (fault["kind"], fault["stream_sequence"], fault["outbox_sequence"]) == (kind, sequence, outbox)
    assert fault["event_id"] == there[sequence - 1].headers["ce-id"]
    code, text = await asyncio.to_thread(proved_alone, rig)
    assert code == 1, text
    assert f"message {sequence} " in text


async def test_an_end_that_is_cut_off_is_found_by_either_kind_of_head(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    end = len(recorded["WAZUH_EVENTS"])
    for kept in STREAMS[1:]:
        await republish(rig, {"WAZUH_EVENTS": cut(recorded["WAZUH_EVENTS"]), kept: recorded[kept]})
        code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
        assert code == 1
        assert f"truncated      the stream ends with message {AT} (outbox sequence {AT}, " in text
        assert f"of {kept} tells that the chain went on to outbox sequence {end}" in text
        code, text = await asyncio.to_thread(proved_alone, rig)
        assert (code, f"went on to outbox sequence {end}, and the stream ends with {AT}\n" in text) == (1, True)
    await republish(rig, {"WAZUH_HEARTBEATS": recorded["WAZUH_HEARTBEATS"]})
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert (code, "truncated      the stream is empty; message" in text) == (1, True)


async def test_under_a_wrong_key_nothing_is_proved_by_either(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    await republish(rig, recorded)
    wrong = str(rig.directory / "keyring" / "node01" / "current.key")
    monkeypatch.setitem(rig.environ, "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH", wrong)
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert code == 1
    assert "message 1 (outbox sequence 1, batch_1_" in text
    assert "another key (it names key " in text
    assert f"{len(recorded['WAZUH_EVENTS'])} messages, none of them genuine" in text
    code, text = await asyncio.to_thread(proved_alone, rig, wrong)
    assert (code, f"{len(recorded['WAZUH_EVENTS'])} faults" in text) == (1, True)


async def test_what_began_before_is_no_fault_and_the_head_before_it_is_named(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    await republish(rig, recorded)
    async with rig.client() as client:
        js = client.jetstream()
        await js.update_stream(replace((await js.stream_info("WAZUH_EVENTS")).config, max_msgs=4))
        now = await js.stream_info("WAZUH_EVENTS")
        await js.update_stream(replace(now.config, max_bytes=now.state.bytes + 10))  # it is full
        left = await rig.stored(client)
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert code == 0, text
    first = left[0].headers["Wazuh-Outbox-Sequence"]
    assert f"from      outbox sequence {first}, " in text
    assert "what came before is not here; the last head before is outbox sequence " in text
    assert (await asyncio.to_thread(proved_alone, rig))[0] == 0


async def test_a_beginning_that_somebody_removed_is_told_from_one_that_grew_old(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    await republish(rig, {**recorded, "WAZUH_EVENTS": recorded["WAZUH_EVENTS"][-2:]})
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert (code, "removed_early  " in text) == (1, True), text
    assert (await asyncio.to_thread(proved, rig, monkeypatch, capsys, "--from", "1h"))[0] == 0


async def test_no_stream_of_checkpoints_is_told_and_no_stream_of_events_is_an_error(
    lived: tuple[Rig, Recorded], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, recorded = lived
    await republish(rig, {"WAZUH_EVENTS": recorded["WAZUH_EVENTS"]})
    async with rig.client() as client:
        await client.jetstream().delete_stream("WAZUH_CHECKPOINTS")
        code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
        assert (code, "absent    stream WAZUH_CHECKPOINTS: make it with wazuh-relay provision" in text) == (0, True)
        assert "whether more came after them cannot be told" in text
        await client.jetstream().delete_stream("WAZUH_EVENTS")
        assert (await asyncio.to_thread(proved, rig, monkeypatch, capsys))[0] == 75
    await rig.provision()
    code, text = await asyncio.to_thread(proved, rig, monkeypatch, capsys)
    assert (code, text) == (0, "the stream is empty: nothing to prove\n")


@pytest.mark.parametrize("as_json", [False, True])
async def test_followed_it_proves_what_comes_and_tells_what_is_wrong_at_once(lived: tuple[Rig, Recorded], as_json: bool) -> None:
    rig, recorded = lived
    there = recorded["WAZUH_EVENTS"]
    await republish(rig, {"WAZUH_EVENTS": there[:3]})
    command = (sys.executable, "-m", "relay", "verify", "--follow", *(("--json",) if as_json else ()))
    process = await asyncio.create_subprocess_exec(
        *command, env={**rig.environ, "PATH": ""}, cwd=SCRIPT.parents[1], stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with rig.client() as client, asyncio.timeout(DEADLINE_S):
        js = client.jetstream()
        if not as_json:
            assert (await process.stdout.readline()).startswith(b"PROVED: 3 messages")
        for one in (*there[3:5], *there[6:]):
            await js.publish(one.subject, one.body, headers=_plain(one))
        lines = [await process.stdout.readline()]
        while b"missing" not in lines[-1]:
            lines.append(await process.stdout.readline())
        process.terminate()
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 1
    assert (json.loads(lines[-1])["outbox_sequence"] if as_json else b"outbox sequence 6 is missing" in lines[-1]) in (6, True)
    assert ('"verdict":"not_proved"' if as_json else "NOT PROVED: 1 missing") in rest


def _plain(one: Stored) -> dict[str, str]:
    """Without what the server reads: a copy of a message is refused by its id."""
    return {name: value for name, value in one.headers.items() if not name.startswith("Nats-")}


# Around it ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["--from soon", "--from 2026-13-01", "--follow now"])
def test_wrong_usage_ends_with_2(options: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", *options.split()])
    assert ended.value.code == 2


class Terminal:
    def __init__(self, *, real: bool) -> None:
        self.written, self._real = "", real

    def write(self, text: str) -> None:
        self.written += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return self._real


@pytest.mark.parametrize("real", [True, False])
def test_progress_is_one_line_of_a_terminal_and_nothing_elsewhere(real: bool) -> None:
    clock, out = ManualClock(), Terminal(real=real)
    drawn: Any = out
    with Progress(drawn, clock) as progress:
        progress.begin("EVENTS", 0, 4 * EVERY)
        for sequence in range(1, 2 * EVERY + 1):
            if sequence == 2 * EVERY:
                clock.advance(10)
            progress.at(sequence)
    if not real:
        assert out.written == ""
        return
    assert f"EVENTS  50 %  {2 * EVERY:,} of {4 * EVERY:,} messages, 10 s left" in out.written
    assert out.written.endswith("\r\x1b[K")
    assert "\n" not in out.written


def test_only_the_first_faults_of_a_kind_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    fault = Fault("forged", 1, None, "", "evil\x1b[2J")
    report = verify_stream.Report(sys.stdout, as_json=False, at_once=False)
    report.found([fault] * (verify_stream.SHOWN + 2))
    report.end(Verifier(SIGNER).verdict(), ())
    text = capsys.readouterr().out
    assert text.count(r"evil\x1b[2J") == verify_stream.SHOWN
    assert "forged         and 2 more\n" in text
