"""`make soak`: kill and break everything while agents live, then read EVENTS and hold it against what the agents did.

    make soak ARGS="--minutes 5 --seed 7 --nodes 3 --agents 500 --relays 2 --faults all --json"

Exit code 0 only if nothing was lost, doubled, false, reordered or unverified, no service ended by itself, and all was decided
soon after the last fault.

Measured apart, each with a --help of its own:

    make soak ARGS="takeover"     how long events stand still when the relay that leads ends
    make soak ARGS="outage"       NATS away for minutes
    make soak ARGS="poison"       raw messages that cannot be accepted
"""

import argparse
import asyncio
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run by path: the repository is where `tests` is found

from tests.soak import ledgers, outage, poison, report, takeover
from tests.soak.faults import KINDS
from tests.soak.play import Result, Setting, play
from tests.soak.stage import Plan, Stage


class Scenario(Protocol):
    """A module that measures one thing on a stage without faults."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Its part of the command line."""

    def plan(self, arguments: argparse.Namespace) -> Plan:
        """The stage that it needs."""

    async def play(self, stage: Stage, arguments: argparse.Namespace, say: Callable[[str], None]) -> bool:
        """Whether its bars are met."""


SCENARIOS: Final[dict[str, Scenario]] = {"takeover": takeover, "outage": outage, "poison": poison}


def main() -> int:
    words = sys.argv[1:]
    scenario = SCENARIOS.get(words[0]) if words else None
    arguments = parse(words) if scenario is None else _parse_scenario(scenario, words)
    with _directory(arguments.keep) as directory:
        try:
            playing = _play(arguments, Path(directory)) if scenario is None else _measure(scenario, arguments, Path(directory))
            return asyncio.run(_interruptible(playing))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("\nStopped; nothing is left running.", file=sys.stderr)
            return 130


def parse(given: list[str]) -> argparse.Namespace:
    """The command line; a word that makes no sense ends the program with a sentence."""
    faults = "\n".join(f"  {name:<18}{kind.help}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, epilog=f"faults:\n{faults}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="how long agents act and faults fall (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the agents' chances and of the faults (default 1)")
    parser.add_argument("--nodes", type=int, default=2, help="Wazuh managers: the master and its workers (default 2)")
    parser.add_argument("--agents", type=int, default=60, help="size of the fleet (default 60)")
    parser.add_argument("--relays", type=int, default=1, help="relays on one ledger; more than one needs postgresql (default 1)")
    parser.add_argument(
        "--ledger", choices=tuple(ledgers.LEDGERS), default="sqlite", help="what the relay keeps its books in (default sqlite)"
    )
    parser.add_argument("--cluster", type=int, choices=(1, 3), default=1, help="nats-servers (default 1)")
    parser.add_argument("--encrypt", action="store_true", help="the relays encrypt what they tell (security.encrypt_messages)")
    parser.add_argument(
        "--faults", default="all", help="all, none, or some of those below, with commas; -x leaves x out, as in all,-crash (default all)"
    )
    parser.add_argument("--pace", type=float, default=2.5, help="mean seconds between two faults (default 2.5)")
    parser.add_argument("--timelines", type=int, default=5, help="how many of what is wrong to explain (default 5)")
    _common(parser)
    arguments = parser.parse_args(given)
    arguments.kinds = _chosen(arguments.faults, parser)
    _check(arguments, parser)
    return arguments


def _parse_scenario(scenario: Scenario, words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"make soak {words[0]}", description=scenario.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scenario.options(parser)
    _common(parser)
    arguments = parser.parse_args(words[1:])
    _check_keep(arguments, parser)
    return arguments


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", metavar="DIR", help="keep logs, databases and configurations in this directory, which must be new or empty"
    )
    parser.add_argument("--json", action="store_true", help="the numbers as one JSON object on the last line")


def _chosen(text: str, parser: argparse.ArgumentParser) -> frozenset[str]:
    words = text.split(",")
    left_out = {word.removeprefix("-") for word in words if word.startswith("-")}
    named = {kind for word in words if not word.startswith("-") for kind in {"all": KINDS, "none": ()}.get(word, (word,))}
    if unknown := (named | left_out) - KINDS.keys():
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}; --help lists them")
    return frozenset(named - left_out)


def _check(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if arguments.agents < 4 or arguments.nodes < 1 or arguments.relays < 1 or arguments.minutes <= 0 or arguments.pace <= 0:
        parser.error("--agents must be 4 or more, --nodes and --relays 1 or more, --minutes and --pace above 0")
    most = ledgers.LEDGERS[arguments.ledger].most_relays
    if arguments.relays > most:
        parser.error(f"a ledger of {arguments.ledger} belongs to {most} relay; --relays {arguments.relays} needs --ledger postgresql")
    _check_keep(arguments, parser)


def _check_keep(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if arguments.keep and Path(arguments.keep).exists() and any(Path(arguments.keep).iterdir()):
        parser.error(f"--keep {arguments.keep} is not empty; name a new directory")


def _directory(keep: str | None) -> AbstractContextManager[str]:
    return nullcontext(str(Path(keep).resolve())) if keep else tempfile.TemporaryDirectory(prefix="wazuh-jetstream-soak-")


async def _interruptible(play: Coroutine[Any, Any, int]) -> int:
    playing = asyncio.ensure_future(play)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    return await playing


async def _measure(scenario: Scenario, arguments: argparse.Namespace, directory: Path) -> int:
    stage = Stage(directory, scenario.plan(arguments))
    async with stage:
        return 0 if await scenario.play(stage, arguments, _say) else 1


async def _play(arguments: argparse.Namespace, directory: Path) -> int:
    plan = Plan(
        arguments.seed,
        arguments.nodes,
        arguments.agents,
        arguments.relays,
        arguments.cluster,
        arguments.ledger,
        encrypted=arguments.encrypt,
    )
    setting = Setting(arguments.minutes, arguments.seed, arguments.kinds, arguments.pace)
    size = f"{plan.nodes} managers, {plan.agents} agents, {plan.relays} relays on {plan.ledger}, {plan.cluster} nats-servers"
    _say(f"seed {plan.seed}: {size}")
    stage = Stage(directory, plan)
    try:
        async with stage:
            result = await play(stage, setting, _say)
            for line in report.trouble(result, arguments.timelines):
                _say(line)
    except Exception:
        _say(f"{stage.tails()}\n{_again(arguments)}")
        raise
    return _end(result, arguments)


def _end(result: Result, arguments: argparse.Namespace) -> int:
    for line in report.table(result):
        _say(line)
    if not result.clean:
        _say(_again(arguments))
    if arguments.json:
        _say(json.dumps(result.numbers))
    return 0 if result.clean else 1


def _again(arguments: argparse.Namespace) -> str:
    return f"FAILED with seed {arguments.seed}; again: make soak ARGS={shlex.quote(shlex.join(_given(sys.argv[1:])))}"


def _given(words: list[str]) -> list[str]:
    """The command line without --keep, whose directory is taken now."""
    at = words.index("--keep") if "--keep" in words else len(words)
    return words[:at] + words[at + 2 :]


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
