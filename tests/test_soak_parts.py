"""Laws of the parts that `make soak` plays with: links lose what they are told to, processes are followed, a seed is a plan."""

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from relay.admit import Gate
from shared import login
from tests.manager.driver import unix_now
from tests.nats_server import NatsServer
from tests.soak import faults, killing, play, poison, proxy, run, takeover
from tests.soak.managers import Managers
from tests.soak.processes import Service
from tests.soak.stage import Plan, Stage
from tests.world.model import World, WorldConfig, cluster

pytestmark = pytest.mark.unmeasured

DEADLINE_S = 20.0


# Links --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def linked(server: NatsServer) -> AsyncIterator[tuple[proxy.Link, Client]]:
    link = await proxy.Link.open(server.port)
    client = login.SecureClient()  # nats-py's own leaves the sockets of failed attempts open
    await client.connect(f"nats://127.0.0.1:{link.port}", reconnect_time_wait=0, max_reconnect_attempts=-1, error_cb=_quiet)
    try:
        yield link, client
    finally:
        link.heal()
        await client.close()
        client.hang_up()
        await link.close()


async def _quiet(_: Exception) -> None: ...


async def test_exactly_one_puback_is_dropped(nats_server: NatsServer) -> None:
    """It is the next one; what it was for is stored, and deliveries and answers of the API pass."""
    async with linked(nats_server) as (link, client):
        stream = client.jetstream()
        await stream.add_stream(name="S", subjects=["s"])
        replies = await client.subscribe("answers")
        await client.publish("s", b"1", reply="answers")
        assert json.loads((await replies.next_msg(DEADLINE_S)).data)["seq"] == 1
        link.drop_next_puback()
        delivered = await client.subscribe("s")
        for body in (b"2", b"3", b"4"):
            await client.publish("s", body, reply="answers")
        acked = [json.loads((await replies.next_msg(DEADLINE_S)).data)["seq"] for _ in range(2)]
        assert acked == [3, 4]  # in order: the ack of 2 would have come before
        assert [(await delivered.next_msg(DEADLINE_S)).data for _ in range(3)] == [b"2", b"3", b"4"]
        assert ((await stream.stream_info("S")).state.messages, link.dropped) == (4, 1)


async def test_a_frozen_link_carries_nothing_until_it_thaws(nats_server: NatsServer) -> None:
    async with linked(nats_server) as (link, client):
        link.freeze()
        flushed = asyncio.create_task(client.flush(60))
        async with asyncio.timeout(DEADLINE_S):
            while not client._pings_outstanding and not client._pongs:
                await asyncio.sleep(0.01)
        assert not flushed.done()
        link.heal()
        await asyncio.wait_for(flushed, DEADLINE_S)


async def test_a_cut_link_resets_and_refuses_until_it_is_healed(nats_server: NatsServer) -> None:
    async with linked(nats_server) as (link, client):
        async with asyncio.timeout(DEADLINE_S):
            link.cut()
            while client.is_connected:
                await asyncio.sleep(0.01)
            link.heal()
            while not client.is_connected:
                await asyncio.sleep(0.01)
        await client.flush(DEADLINE_S)


PROTOCOL = [
    b'INFO {"max_payload":1048576}\r\n',
    b"+OK\r\n",
    b'MSG _INBOX.a 1 26\r\n{"stream":"RAW", "seq":12}\r\n',
    b"HMSG s 2 12 17\r\nNATS/1.0\r\n\r\nMSG 1\r\n",
    b"MSG empty 3 0\r\n\r\n",
    b"PING\r\n",
]


@given(st.lists(st.integers(0, sum(map(len, PROTOCOL)))))
def test_frames_are_the_same_however_they_arrive(cuts: list[int]) -> None:
    data, frames, found = b"".join(PROTOCOL), proxy.Frames(), []
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        found += frames.feed(data[begin:end])
    assert found == PROTOCOL
    assert [proxy.is_puback(frame) for frame in found] == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    "payload", [b'{"error":{"code":400},"stream":"S","seq":0}', b'{"type":"io.nats","stream":"S","seq":1}', b'{"stream":"S"}', b"{not json"]
)
def test_what_is_no_puback_passes(payload: bytes) -> None:
    assert not proxy.is_puback(b"MSG _INBOX.a 1 %d\r\n%s\r\n" % (len(payload), payload))


# Processes ----------------------------------------------------------------------------------------------------------


async def test_a_service_that_ends_by_itself_is_noted_and_one_that_was_told_to_is_not(tmp_path: Path) -> None:
    ill = Service("ill", "relay", ("-c", "print('my last words'); raise SystemExit(3)"), {}, tmp_path / "ill.log")
    well = Service("well", "relay", ("-c", "import signal; print('ready', flush=True); signal.pause()"), {}, tmp_path / "well.log")
    crash = "from shared import crashpoints; crashpoints.here('relay.after_ack')"
    crashing = Service("crashing", "relay", ("-c", crash), {}, tmp_path / "crashing.log")
    await ill.start()
    await well.start()
    await crashing.start(crash_at="relay.after_ack")
    async with asyncio.timeout(DEADLINE_S):
        while not ill.ended_unasked:
            await asyncio.sleep(0.01)
        while "ready" not in well.tail():
            await asyncio.sleep(0.01)
        assert await crashing.crashed(DEADLINE_S)
        for service in (ill, well, crashing):
            await service.kill()
    assert "ended by itself with 3" in ill.ended_unasked[0]
    assert "my last words" in ill.ended_unasked[0]
    assert not well.ended_unasked
    assert not crashing.ended_unasked


async def test_a_manager_that_lost_its_database_gets_back_what_the_world_says(tmp_path: Path) -> None:
    world = World(WorldConfig(nodes=cluster(0), start=unix_now()), seed=1)
    first, second = world.populate(2)
    managers = Managers(world, tmp_path, commit_seconds=60)
    try:
        await managers.start()
        await managers.kill("node01")
        world.stop(first)
        await managers.step(unix_now())
        await managers.bring_back("node01", as_left=0.01, emptied=True)
        assert [stood.status for stood in managers.stood["node01", first]] == ["active", "disconnected"]
        assert [stood.status for stood in managers.stood["node01", second]] == ["active"]
        before, after = managers.stood["node01", first]
        assert before.end <= after.begin
    finally:
        await managers.stop()


async def test_the_stage_stands_and_its_fleet_is_told(tmp_path: Path) -> None:
    """Every process of a soak starts with the configuration that it is given, and its streams fit on the server's disk."""
    async with Stage(tmp_path, Plan(seed=1, nodes=1, agents=8, relays=1, cluster=1, ledger="sqlite")) as stage:
        async with stage.judge() as client:
            await play.until_baseline(client)
        assert [service.ended_unasked for service in stage.services] == [[], []]


# The plan and the command line --------------------------------------------------------------------------------------


def stub() -> Stage:
    """As much of a stage as a plan asks for."""
    service = {name: SimpleNamespace(name=f"collector-{name}", kind="collector") for name in ("node01", "worker1")}
    relay = SimpleNamespace(name="relay1", kind="relay")
    world = SimpleNamespace(master=SimpleNamespace(name="node01"))
    managers = SimpleNamespace(nodes={"node01": None, "worker1": None})
    links: dict[str, list[proxy.Link]] = {"relay1": [], "collector-node01": []}
    every = [*service.values(), relay]
    return cast(
        "Stage",
        SimpleNamespace(
            collectors=service,
            relays=[relay],
            services=every,
            nats=[None],
            world=world,
            managers=managers,
            links=links,
            plan=SimpleNamespace(ledger="postgresql", encrypted=True),
        ),
    )


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    setting = play.Setting(minutes=20.0, seed=7, kinds=frozenset(faults.KINDS), pace=2.0)
    one, other, third = (play.plan(stub(), each) for each in (setting, setting, replace(setting, seed=8)))
    assert one == other
    assert one != third
    assert {type(planned.fault) for planned in one} == set(faults.KINDS.values())
    crashes = {planned.fault.counted_as for planned in one if isinstance(planned.fault, killing.Crash)}
    assert crashes == {f"crash {point}" for point in killing.POINTS}


def test_every_crash_point_comes_as_often_as_any_other() -> None:
    """However many services pass it, and never twice more than another one."""
    points = Counter(target.partition("@")[2] for target in killing.Crash.targets(stub()))
    assert points.keys() == set(killing.POINTS)
    assert len(set(points.values())) == 1
    planned = Counter(fall.fault.counted_as for fall in play.plan(stub(), play.Setting(20.0, 7, frozenset({"crash"}), 2.0)))
    assert max(planned.values()) - min(planned.values()) <= points["relay.after_ack"]


def test_a_relay_that_is_led_to_its_crash_point_keeps_all_relays_busy() -> None:
    stage = stub()
    stage.relays.append(cast("Service", SimpleNamespace(name="relay2", kind="relay")))
    assert killing.Crash("relay1@relay.after_ack", 0.0).befalls(stage) == {"relay1", "relay2"}
    assert killing.Crash("collector-node01@collector.after_spool", 0.0).befalls(stage) == {"collector-node01"}
    assert killing.KillRelay("relay1", 0.0).befalls(stage) == {"relay1"}


def test_a_silence_begins_where_the_relay_was_ended_or_later_and_one_without_an_end_is_for_ever() -> None:
    told = [0.0, 1.0, 2.0, 9.0, 9.5, 11.0, 13.0]
    found = takeover.silences(told, [("SIGKILL", 2.5), ("SIGTERM", 10.0), ("SIGKILL", 14.0)])
    assert found == {"SIGKILL": [6.5, float("inf")], "SIGTERM": [2.0]}


def test_every_reason_to_refuse_a_raw_message_is_among_the_poisons(tmp_path: Path) -> None:
    """As the gate's own documentation lists them."""
    for name in ("keyring/node01/current.key", "events.key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("00" * 32)
    listed = re.search(r"Raises Quarantine: ([\w\s,]+)\.", Gate.admit.__doc__ or "")
    assert listed is not None
    made = {reason for reason, *_ in poison.poisons(cast("Stage", SimpleNamespace(directory=tmp_path)))}
    assert made == set(re.findall(r"\w+", listed[1]))


def test_no_faults_are_none() -> None:
    assert play.plan(stub(), play.Setting(20.0, 7, frozenset(), 2.0)) == []


def test_the_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    wrong = {
        "--faults earthquake": "unknown faults: earthquake",
        "--relays 2": "a ledger of sqlite belongs to 1 relay",
        "--agents 1": "--agents must be 4 or more",
        f"--keep {tmp_path}": "is not empty",
    }
    for given_, sentence in wrong.items():
        with pytest.raises(SystemExit):
            run.parse(given_.split())
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("all", set(faults.KINDS)),
        ("none", set()),
        ("crash,cut-link", {"crash", "cut-link"}),
        ("all,-crash", set(faults.KINDS) - {"crash"}),
    ],
)
def test_faults_are_chosen_by_name(text: str, kinds: set[str]) -> None:
    assert run.parse(["--faults", text]).kinds == kinds


def test_help_explains_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.parse(["--help"])
    text = capsys.readouterr().out
    assert all(name in text and kind.help in text for name, kind in faults.KINDS.items())
