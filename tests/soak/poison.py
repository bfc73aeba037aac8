"""Raw messages that cannot be accepted, one of each kind: each is in the quarantine with its reason, and what comes next is not late.

    make soak ARGS="poison --rounds 5 --json"

An agent is stopped, and one poisoned message after the other comes until that is told. What is measured is how long RAW's next
change behind each takes to be in EVENTS, by the streams' own times. Exit code 0 only if every one was quarantined and nothing
behind one was late by a second.
"""

import argparse
import asyncio
import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgpack
from nats.aio.client import Client

from relay import control, quarantine
from shared import config, sealing, wire
from tests.manager.driver import unix_now
from tests.relay.lab import Speaker
from tests.soak import reader
from tests.soak.play import until_baseline
from tests.soak.stage import Plan, Stage
from tests.soak.takeover import spread

BAR: Final = 1.0  # seconds
PAUSE: Final = 0.02  # seconds between two poisoned messages: RAW must hold them all, and some are of half a megabyte
PATIENCE: Final = 30.0
NODE: Final = "node01"
SUBJECT: Final = f"wazuh.raw.{NODE}"
KEPT: Final = 10_000  # of the quarantine that are looked at


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line may say."""
    parser.add_argument("--rounds", type=int, default=5, help="changes among each kind (default 5)")
    parser.add_argument("--agents", type=int, default=100, help="size of the fleet (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="of the agents' chances (default 1)")


def plan(arguments: argparse.Namespace) -> Plan:
    """One relay on SQLite."""
    return Plan(arguments.seed, 1, arguments.agents, 1, 1, "sqlite")


async def play(stage: Stage, arguments: argparse.Namespace, say: Callable[[str], None]) -> bool:
    """Whether the bar is met."""
    places: dict[str, list[int]] = {}
    async with stage.judge() as client:
        await until_baseline(client)
        for _ in range(arguments.rounds):
            for reason, *_ in poisons(stage):
                places.setdefault(reason, []).extend(await _poisoned_change(stage, client, reason))
        delays = await _delays(client, places)
    kept = _kept(stage)
    numbers: dict[str, Any] = {}
    for reason in sorted(places):
        missing = [place for place in places[reason] if kept.get(place) != reason]
        numbers[reason] = {"sent": len(places[reason]), "not_quarantined": len(missing), "next_told_after": spread(delays[reason])}
        say(f"{reason:<14} {len(places[reason])} sent, {len(missing)} not quarantined; the next change {spread(delays[reason])} s")
    if arguments.json:
        say(json.dumps(numbers))
    return all(found["not_quarantined"] == 0 and found["next_told_after"]["max"] < BAR for found in numbers.values())


def poisons(stage: Stage) -> Iterator[tuple[str, str, bytes, Mapping[str, str]]]:
    """One of each kind: reason, subject, body, headers. What is signed is signed with the node's own key."""
    own = sealing.MessageSigner(_key(stage, f"keyring/{NODE}/current.key"))
    other = sealing.MessageSigner(sealing.Key(bytes(32)))
    speaker = Speaker(NODE, "master", boot=int(unix_now()) + 10)
    honest = speaker.snapshot("full", int(unix_now()), cluster="wazuh")
    (good,) = _bodies(honest)

    def signed(body: bytes, by: sealing.MessageSigner = own, subject: str = SUBJECT) -> tuple[str, bytes, Mapping[str, str]]:
        return subject, body, {sealing.SIGNATURE_HEADER: by.sign_header(subject, body, {})}

    yield "unsigned", SUBJECT, good, {}
    yield "bad_signature", *signed(good, other)
    yield "unknown_node", *signed(good, own, "wazuh.raw.nobody")
    yield "malformed", *signed(b"not msgpack")
    yield "newer_schema", *signed(_altered(good, v=99))
    yield "oversized", *signed(_altered(good, data=b"x" * (wire.PART_BYTES + 1)))
    yield "wrong_node", *signed(_bodies(replace(honest, node="worker9"))[0])
    yield "wrong_cluster", *signed(_bodies(replace(honest, cluster="other"))[0])
    yield "incomplete", *signed(_bodies(honest, part_bytes=100)[1])
    yield "stale", *_request(stage)


def _request(stage: Stage) -> tuple[str, bytes, Mapping[str, str]]:
    """An operator's request of long ago."""
    subject, body, identity = "wazuh.raw._control", control.encode(control.Forget(NODE, force=True), 0), f"poison:{unix_now()}"
    relay = sealing.MessageSigner(_key(stage, "events.key"))
    return (
        subject,
        body,
        {control.MESSAGE_ID: identity, sealing.SIGNATURE_HEADER: control.signature(relay, subject, body, identity)},
    )


def _key(stage: Stage, name: str) -> sealing.Key:
    return sealing.Key(bytes.fromhex((stage.directory / name).read_text()))


def _bodies(of: wire.Snapshot, part_bytes: int = wire.PART_BYTES) -> list[bytes]:
    return wire.split(wire.encode(of), of.node, of.boot, of.seq, of.taken_at, part_bytes)


def _altered(body: bytes, **fields: object) -> bytes:
    return bytes(msgpack.packb(msgpack.unpackb(body) | fields))


async def _poisoned_change(stage: Stage, client: Client, reason: str) -> list[int]:
    """Stop an agent and send poisoned messages until that is told; their places in RAW."""
    before, places = await reader.last(client, "WAZUH_EVENTS"), list[int]()
    active = [agent for agent in stage.world.agents.values() if agent.session is not None and agent.session.accepted]
    stage.world.stop(active[len(active) // 2].id)
    async with asyncio.timeout(PATIENCE):
        while await reader.last(client, "WAZUH_EVENTS") == before:
            _, subject, body, headers = next(one for one in poisons(stage) if one[0] == reason)
            places.append((await client.jetstream().publish(subject, body, headers=dict(headers))).seq)
            await asyncio.sleep(PAUSE)
    return places


async def _delays(client: Client, places: Mapping[str, list[int]]) -> dict[str, list[float]]:
    """Seconds from the first message of RAW behind a poisoned one that made events, to its first event."""
    raws = {message.sequence: message.at for message in await reader.whole(client, "WAZUH_RAW")}
    told: dict[int, float] = {}
    for message in await reader.whole(client, "WAZUH_EVENTS"):
        told.setdefault(int(message.headers["Wazuh-Raw-Position"]), message.at)
    positions = sorted(told)

    def next_told(place: int) -> float:
        following = positions[bisect_right(positions, place)]
        return told[following] - raws[following]

    return {reason: [next_told(place) for place in several if place < positions[-1]] for reason, several in places.items()}


def _kept(stage: Stage) -> dict[int, str]:
    """What `wazuh-relay quarantine list` says: reasons by place in RAW."""
    out = io.StringIO()
    quarantine.show_list(config.load(stage.directory / "relay1.yaml", {}), KEPT, out, as_json=True)
    return {one["position"]: one["reason"] for one in json.loads(out.getvalue())}
