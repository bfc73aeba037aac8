"""A ledger that is made anew goes on where EVENTS ends, for every kind of event: nothing twice, nothing lost, and each event's
id is made with the one before."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from relay import catchup, events
from tests.nats_server import NatsServer
from tests.relay.cast import AGENTS, LONG_AGO, Cast, kinds, on_master, on_worker, until
from tests.relay.lab import T0
from tests.relay.rig import CLOCK, NodeVoice, Rig, Stored, changes, ended, running, spawn, told, whole

pytestmark = pytest.mark.unmeasured

# Scenes -------------------------------------------------------------------------------------------------------------


async def overdue(cast: Cast) -> None:
    await cast.enter(LONG_AGO)
    await cast.quiet(cast.master, 1)


async def overdue_cleared(cast: Cast) -> None:
    await overdue(cast)
    await cast.quiet(cast.master)


async def version_refused(cast: Cast) -> None:
    await cast.enter()
    await cast.master.changed(on_master(1, "active", cast.now, code=1))


async def moved(cast: Cast) -> None:
    await cast.enter(LONG_AGO)
    await cast.worker.changed(on_worker(1, cast.now - 60))
    await cast.quiet(cast.master, 1)
    await cast.worker.changed(on_worker(1, cast.now - 30))


async def removed_but_connected(cast: Cast) -> None:
    await cast.enter()
    await cast.worker.changed(on_worker(1, cast.now))
    rows = [one for one in cast.master.speaker.rows.values() if one.id != 1]
    await cast.master.whole(*rows)
    await cast.worker.changed(on_worker(1, cast.now + LONG_AGO))
    for voice in (cast.master, cast.worker):  # both have told all up to after the removal
        await cast.rig.say(cast.client, voice.snapshot("beat", as_of=CLOCK.now_ms() + 60_000))


async def manager_restarted(cast: Cast) -> None:
    await cast.enter()
    await cast.master.changed(on_master(1, "disconnected", cast.now, code=5, dt=cast.now + 1))


async def manager_unreachable(cast: Cast) -> None:
    await cast.enter()  # and say no more


async def duplicate_collector(cast: Cast) -> None:
    await cast.enter()
    await cast.rig.say(cast.client, NodeVoice(cast.rig, cast.client, "node01", boot=0).snapshot("beat"))


async def clock_off(cast: Cast) -> None:
    cast.worker.speaker.skew = -200
    await cast.enter()


SCENES: Final[dict[str, Callable[[Cast], Awaitable[None]]]] = {
    scene.__name__: scene
    for scene in (
        overdue, overdue_cleared, version_refused, moved, removed_but_connected,
        manager_restarted, manager_unreachable, duplicate_collector, clock_off,
    )
}  # fmt: skip
AT_ONCE: Final = {"removed_but_connected": {"RELAY__SYNC_JITTER": "5s"}, "manager_unreachable": {"RELAY__NODE_STALE": "1s"}}


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server, "node01", "node02")
    await made.provision()
    return made


def set_up(rig: Rig, kind: str) -> None:
    rig.environ |= {f"WAZUH_JETSTREAM__{name}": value for name, value in AT_ONCE.get(kind, {}).items()}


def chained(found: list[Stored]) -> None:
    """Every event's id is made with the one before of the same agent or manager."""
    last: dict[str, str] = {}
    for one in found:
        fields = one.fields
        if one.subject.endswith("manager_events"):
            who, at = fields["manager_node"], int(fields["event_id"].split("_")[2])
            assert one.event_id == events.manager_event_id("lab", who, fields["event_type"], at, last.get(who, ""))
        elif one in told(found):
            who = fields["agent_id"]
            assert one.event_id in possible(fields, one.headers["Wazuh-Kind"], last.get(who, ""))
        else:
            continue
        last[who] = one.event_id


def possible(fields: dict[str, Any], kind: Any, before: str) -> set[str]:
    """The ids that an event may have, as its body does not tell status_code."""
    agent, at = (int(fields["agent_id"]), fields["agent_name"], T0 - 1000), int(fields["event_id"].split("_")[2])
    change = (fields["previous_status"], fields["current_status"])
    return {events.event_id("lab", agent, kind, change, at, code, before) for code in (None, 0, 3, 5)}


# Laws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ["RAW as it was", "RAW made anew"])
@pytest.mark.parametrize("kind", SCENES)
async def test_what_was_told_is_not_told_again_and_the_next_event_follows_it(rig: Rig, kind: str, raw: str) -> None:
    set_up(rig, kind)
    async with rig.client() as client:
        cast = Cast(rig, client)
        async with running(rig):
            await SCENES[kind](cast)
            before = await until(rig, client, lambda found: kind in kinds(found))
        before = await rig.stored(client)
        rig.forget_ledger()
        again = Cast(rig, client, boot=2)
        if raw == "RAW made anew":
            await client.jetstream().delete_stream("WAZUH_RAW")
            await rig.provision()
        await again.enter_again(cast)
        await again.master.changed(on_master(2, "disconnected", again.now - LONG_AGO, code=3, dt=again.now + 1))
        async with running(rig):
            found = await until(rig, client, lambda found: "disconnected" in kinds(found))
    assert found[: len(before)] == before
    later = kinds(found)[len(kinds(before)) :]
    assert [one for one in later if one not in ("manager_unreachable", "manager_back")] == ["disconnected"]
    assert all(kinds(found).count(one) == 1 for one in kinds(found) if one not in ("manager_unreachable", "manager_back"))
    whole(found, rig.secret)
    chained(found)


async def test_an_absence_that_was_told_ends_once(rig: Rig) -> None:
    set_up(rig, "manager_unreachable")
    async with rig.client() as client:
        cast = Cast(rig, client)
        async with running(rig):
            await cast.enter()
            await until(rig, client, lambda found: kinds(found).count("manager_unreachable") == 2)
        rig.forget_ledger()
        async with running(rig):
            await rig.say(client, cast.worker.snapshot("full"))
            found = await until(rig, client, lambda found: "manager_back" in kinds(found))
    assert [one.fields["manager_node"] for one in found if one.headers["Wazuh-Kind"] == "manager_back"] == ["node02"]
    assert kinds(found)[:3] == ["manager_unreachable", "manager_unreachable", "manager_back"]
    whole(found, rig.secret)
    chained(found)


@pytest.mark.parametrize("inputs", [3, 4, 5])
async def test_a_rebuilding_that_is_cut_short_around_the_last_input_that_was_told_goes_on(rig: Rig, inputs: int) -> None:
    """The fourth is what EVENTS ends with."""
    async with rig.client() as client:
        cast = Cast(rig, client)
        await overdue(cast)
        async with running(rig):
            await until(
                rig, client, lambda found: found != [] and found[-1].headers["Wazuh-Raw-Position"] == "4" and "overdue" in kinds(found)
            )
        rig.forget_ledger()
        await cast.quiet(cast.master)
        relay = await spawn(rig, {"WAZUH_JETSTREAM_CRASH_AT": f"relay.after_record:{inputs}"})
        assert (await ended(relay))[0] == -signal.SIGKILL
        async with running(rig):
            found = await until(rig, client, lambda found: "overdue_cleared" in kinds(found) and found[-1].subject.endswith("agent_events"))
    assert kinds(found) == ["overdue", "overdue_cleared"]
    whole(found, rig.secret)
    chained(found)


@pytest.mark.parametrize("many", [500, 0])
async def test_the_rest_of_an_inputs_events_is_told(rig: Rig, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay died and its ledger was lost between two batches of one input."""
    monkeypatch.setattr(catchup, "MANY", many)
    monkeypatch.setattr(catchup, "STEP", 1)
    rig.environ["WAZUH_JETSTREAM__RELAY__BATCH_MESSAGES"] = "2"
    async with rig.client() as client:
        cast, others = Cast(rig, client), AGENTS[1:]
        await cast.enter(LONG_AGO)
        await cast.quiet(cast.master, 1)
        await cast.quiet(cast.master)
        await cast.quiet(cast.master, *others)
        relay = await spawn(rig, {"WAZUH_JETSTREAM_CRASH_AT": "relay.after_publish:5"})
        assert (await ended(relay))[0] == -signal.SIGKILL
        assert 0 < kinds(await rig.stored(client)).count("overdue") - 1 < len(others)
        rig.forget_ledger()
        async with running(rig):
            found = await until(
                rig, client, lambda found: len(kinds(found)) >= 2 + len(others) and found[-1].subject.endswith("agent_events")
            )
    assert kinds(found) == ["overdue", "overdue_cleared"] + ["overdue"] * len(others)
    whole(found, rig.secret)
    chained(found)


async def test_of_managers_the_newest_events_are_read_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "MOST", 1)
    async with rig.client() as client:
        cast = Cast(rig, client)
        async with running(rig):
            await cast.enter()
            for at in range(1, 10, 3):
                await cast.master.changed(on_master(1, "disconnected", cast.now, code=5, dt=cast.now + at))
            await until(rig, client, lambda found: kinds(found).count("manager_restarted") == 3)
        rig.forget_ledger()
        async with running(rig):
            await cast.master.changed(on_master(1, "disconnected", cast.now, code=5, dt=cast.now + 20))
            found = await until(rig, client, lambda found: kinds(found).count("manager_restarted") == 4)
    assert changes(found) == []
    whole(found, rig.secret)
    chained(found)
