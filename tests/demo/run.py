"""`make demo`: a fleet's life on this machine, and every event of it checked against what the agents really did.

    make demo                                  a tour, scene by scene, with the events as they come
    make demo ARGS="--seconds 30 --json"       the same without prose; the last line is one JSON object

Exit code 0 only if nothing was lost, doubled, false or unverifiable.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run by path: the repository is where `tests` is found

from tests.demo.audience import Audience, Seen
from tests.demo.scenes import Tour
from tests.demo.stage import GRACE, Stage
from tests.manager.driver import Applied, unix_now
from tests.world import oracle, verdict
from tests.world.config import Fact

HELD = ("pending", "manager_reset")  # waited for a grace on purpose: not a latency
BASELINE_PATIENCE = 30.0  # seconds
SHOWN = 0.5  # seconds: a state that lasts shorter may pass between two looks of a collector


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it."""

    expected: int
    verdict: verdict.Verdict
    events: list[Seen]
    notices: list[Seen]
    unverified: int
    latencies: list[float]  # ms
    seconds: float

    def clean(self) -> bool:
        return not (self.verdict.lost or self.duplicates or self.verdict.false or self.unverified)

    @property
    def duplicates(self) -> int:
        notices = [one.body["event_id"] for one in self.notices]
        return len(self.verdict.duplicates) + len(notices) - len(set(notices))


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="wazuh-jetstream-demo-") as directory:
        try:
            return asyncio.run(_interruptible(arguments, Path(directory)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("\nStopped; nothing is left running.", file=sys.stderr)
            return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0, help="play at least so long (the tour alone takes about a minute)")
    parser.add_argument("--agents", type=int, default=20, help="size of the fleet, 8 or more (default 20)")
    parser.add_argument("--crowd", type=int, default=0, help="agents beside them that only keep alive, each second (default 0)")
    parser.add_argument("--seed", type=int, default=1, help="of the fleet's chances (default 1)")
    parser.add_argument("--json", action="store_true", help="no prose; one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.agents < 8:
        parser.error("--agents must be 8 or more: the scenes need that many")
    return arguments


async def _interruptible(arguments: argparse.Namespace, directory: Path) -> int:
    playing = asyncio.ensure_future(_play(arguments, directory))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    return await playing


async def _play(arguments: argparse.Namespace, directory: Path) -> int:
    say = _quiet if arguments.json else _loud
    say("Starting nats-server, two simulated Wazuh managers, two collectors, the relay and a subscriber ...")
    began = unix_now()
    async with (
        Stage(directory, agents=arguments.agents, crowd=arguments.crowd, seed=arguments.seed) as stage,
        Audience(stage.url, stage.key) as audience,
    ):
        await stage.open()
        if not await audience.until(lambda: audience.batches, unix_now() + BASELINE_PATIENCE):
            print(f"no baseline came; the services say:\n{stage.trouble()}", file=sys.stderr)
            return 1
        baseline = stage.world.now - 0.001  # what is commanded from here on comes after it
        say(f"Ready after {unix_now() - began:.1f} s: the relay has seen the fleet as it is, which makes no event.")
        tour = Tour(stage, audience)
        await play_tour(tour, stage.cluster.applied, say)
        await tour.encore(began + arguments.seconds - 8)
        await tour.settle()
        played = judge(stage.world.history, stage.cluster.applied, audience, tour, baseline, unix_now() - began)
        if not played.clean():
            explain(played, stage.trouble())
    _report(played, stage, as_json=arguments.json)
    return 0 if played.clean() else 1


Say = Callable[[str], None]


async def play_tour(tour: Tour, applied: Sequence[Applied], say: Say) -> None:
    shown = number = 0
    async for sentence in tour.scenes():
        shown = _show(tour, applied, shown, say)
        number += 1
        say(f"\n{number}. {sentence}")
    _show(tour, applied, shown, say)


def _loud(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    """With --json nothing is said before the end."""


def _show(tour: Tour, applied: Sequence[Applied], shown: int, say: Say) -> int:
    fresh = tour.audience.told[shown:]
    for one in fresh[:6]:
        say(_line(tour, applied, one))
    if len(fresh) > 6:
        say(f"   ... and {len(fresh) - 6} more, each verified" if all(one.verified for one in fresh) else "   ... and more")
    if not fresh and shown:
        say("   no event, as it should be")
    return shown + len(fresh)


def _line(tour: Tour, applied: Sequence[Applied], one: Seen) -> str:
    verified = "verified" if one.verified else "NOT VERIFIED"
    if not one.subject.endswith(".status"):
        return f"   {_notice(one)}  {verified}"
    body, reason = one.body, one.headers.get("Wazuh-Reason", "")
    latency = latency_of(tour, applied, one)
    time = "" if latency is None else f"  {latency:.0f} ms after the manager wrote it"
    return (
        f"   {body['agent_id']} {body['agent_name']:<16} {body['previous_status']} -> {body['current_status']} ({reason}) "
        f"at {body['manager_node']}  {verified}{time}"
    )


def _notice(one: Seen) -> str:
    """What is told besides a change: of an agent, or of a manager."""
    body, kind = one.body, one.headers.get("Wazuh-Kind", "")
    if "details" in body:
        details = ", ".join(f"{key} {value}" for key, value in body["details"].items())
        return f"manager {body['manager_node']}  {kind} ({details})" if details else f"manager {body['manager_node']}  {kind}"
    left = f" from {one.headers['Wazuh-Left-Manager']}" if "Wazuh-Left-Manager" in one.headers else ""
    return f"{body['agent_id']} {body['agent_name']:<16} {body['current_status']}, {kind}{left} at {body['manager_node']}"


def latency_of(tour: Tour, applied: Sequence[Applied], one: Seen) -> float | None:
    """Milliseconds from the status write in wazuh-db to the subscriber's hands; None where it was held or NATS was away."""
    if one.headers.get("Wazuh-Reason") in HELD or any(began <= one.at <= ended for began, ended in tour.outages):
        return None
    number, status = int(one.body["agent_id"]), _WRITTEN.get(one.body["current_status"])
    written = [
        at
        for at, node, ids, columns in applied
        if number in ids and columns.get("connection_status") == status and node == one.body["manager_node"] and at <= one.at
    ]
    return (one.at - written[-1]) * 1000 if written else None


_WRITTEN = {"Active": "active", "Disconnected": "disconnected", "NeverConnected": "never_connected"}


def judge(history: Sequence[Fact], applied: Sequence[Applied], audience: Audience, tour: Tour, baseline: float, seconds: float) -> Played:
    """What came of it, by what the agents really did since `baseline` (Unix s)."""
    wanted = oracle.expected(history, until=unix_now(), grace=GRACE, baseline_at=baseline, shown=SHOWN)
    latencies = [latency for one in audience.events if (latency := latency_of(tour, applied, one)) is not None]
    return Played(
        expected=sum(one.certain for one in wanted),
        verdict=verdict.compare(wanted, [one.body for one in audience.events]),
        events=audience.events,
        notices=audience.notices,
        unverified=sum(not one.verified for one in (*audience.seen, *audience.batches)),
        latencies=sorted(latencies),
        seconds=seconds,
    )


def quantile(values: list[float], share: float) -> float | None:
    if len(values) < 2:
        return round(values[0], 1) if values else None
    return round(statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1], 1)


def _report(played: Played, stage: Stage, *, as_json: bool) -> None:
    numbers = {
        "events": len(played.events),
        "expected": played.expected,
        "lost": len(played.verdict.lost),
        "duplicates": played.duplicates,
        "false": len(played.verdict.false),
        "unverified": played.unverified,
        "notices": dict(sorted(Counter(one.headers["Wazuh-Kind"] for one in played.notices).items())),
        "latency_ms": {"p50": quantile(played.latencies, 0.50), "p99": quantile(played.latencies, 0.99)},
        "agents": len(stage.agents) + len(stage.crowd),
        "nodes": len(stage.cluster.nodes),
        "seconds": round(played.seconds, 1),
    }
    if as_json:
        print(json.dumps(numbers))
        return
    besides = Counter(one.headers["Wazuh-Kind"] for one in played.notices)
    if besides:
        print(f"\nBesides, no change of a status: {', '.join(f'{count} {kind}' for kind, count in sorted(besides.items()))}.")
    print(
        f"\n{numbers['events']} events, {numbers['expected']} expected from what the agents did: {numbers['lost']} lost, "
        f"{numbers['duplicates']} twice, {numbers['false']} false, {numbers['unverified']} unverified. Latency from wazuh-db's write to "
        f"the subscriber: p50 {quantile(played.latencies, 0.50)} ms, p99 {quantile(played.latencies, 0.99)} ms."
    )


def explain(played: Played, trouble: str) -> None:
    """What went wrong, for whoever must find out why."""
    for one in played.verdict.lost:
        print(f"lost: {one}", file=sys.stderr)
    for kind in ("duplicates", "false"):
        for body in getattr(played.verdict, kind):
            print(f"{kind}: {json.dumps(body)}", file=sys.stderr)
    print(trouble, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
