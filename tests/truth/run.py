"""`make truth`: days of a cluster's life against the relay's pure core, in minutes. Exit code 0 if nothing is false or missed.

python tests/truth/run.py --days 3 --nodes 5 --agents 1000 --seed 1 --json
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.truth import report
from tests.truth.collectors import Cadence
from tests.truth.explain import Explain
from tests.truth.faults import KINDS
from tests.truth.play import START, Setting, play


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make truth", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--hours", type=float, help="instead of --days")
    parser.add_argument("--nodes", type=int, default=5, help="the master and its workers")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schema", choices=("4.2", "4.5", "4.14", "5.0", "mixed"), default="4.14")
    parser.add_argument("--jitter", type=float, default=5.0, help="seconds by which keepalives may be late; 0: none is lost either")
    parser.add_argument("--sources", choices=("socket", "file", "mixed"), default="mixed")
    parser.add_argument("--faults", default="all", help=f"all, none, or some of: {', '.join(KINDS)}; all-x leaves x out")
    parser.add_argument("--action", type=float, default=20.0, help="mean seconds between two things that agents do")
    parser.add_argument("--registrations", type=float, default=0.0, help="a day, with as many removals")
    parser.add_argument("--pace", type=float, default=1.0, help="how many times more often things go wrong")
    parser.add_argument("--cadence", choices=("sparse", "real"), default="sparse", help="real: beats every 5 s, fulls every 60 s")
    parser.add_argument("--no-naive", action="store_true", help="leave out the rules that it is compared with")
    parser.add_argument("--timelines", type=int, default=5, help="how many of what is wrong to explain")
    parser.add_argument("--agent", type=int, help="print this agent's whole timeline")
    parser.add_argument(
        "--explain", type=float, nargs=2, metavar=("T0", "T1"), help="print each judgement of --agent between these seconds"
    )
    parser.add_argument("--json", action="store_true", help="the numbers as the last line")
    args = parser.parse_args(given)
    if args.explain and args.agent is None:
        parser.error("--explain needs --agent: whose judgements?")
    return args


def chosen(text: str) -> frozenset[str]:
    """The kinds of faults that a word of the command line names. SystemExit for an unknown one."""
    if text == "none":
        return frozenset()
    named, _, without = text.partition("-")
    kinds = set(KINDS) if named == "all" else set(named.split(","))
    left_out = set(without.split(",")) if without else set()
    if unknown := (kinds | left_out) - KINDS.keys():
        sys.exit(f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return frozenset(kinds - left_out)


def setting(args: argparse.Namespace) -> Setting:
    return Setting(
        seed=args.seed,
        hours=args.hours if args.hours is not None else args.days * 24,
        nodes=args.nodes,
        agents=args.agents,
        schema=args.schema,
        sources=args.sources,
        faults=chosen(args.faults),
        action=args.action,
        registrations=args.registrations,
        pace=args.pace,
        cadence=Cadence() if args.cadence == "real" else Cadence(beat=10.0, full=3600.0),
        naive=not args.no_naive,
        jitter=args.jitter,
    )


def main() -> int:
    args, began = arguments(), time.monotonic()

    def progress(hours: float, events: int) -> None:
        if hours % 6 == 0:
            print(f"{hours:>5.0f} h played in {time.monotonic() - began:.0f} s, {events} events", flush=True)

    watch = Explain(args.agent, START + args.explain[0], START + args.explain[1], START) if args.explain else None
    result = play(setting(args), progress, watch)
    for line in report.table(result):
        print(line)
    if watch is not None:
        print("\n".join(watch.lines))
    if args.agent is not None:
        begin, end = args.explain or (0.0, float("inf"))
        print("\n".join(report.timeline(result, args.agent, START + begin, START + end)))
    for line in report.wrong(result, args.timelines):
        print(line)
    numbers = report.numbers(result)
    clean = not numbers["false"] and not numbers["missed"]
    if not clean:
        print(f"\nagain: python tests/truth/run.py {' '.join(sys.argv[1:])}")
    print(f"seed {args.seed}, {time.monotonic() - began:.0f} s: {'true' if clean else 'NOT TRUE'}")
    if args.json:
        print(json.dumps(numbers))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
