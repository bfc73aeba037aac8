"""`make bench`: how fast and how small, each figure beside a floor or a peer of the same run, and its bar.

    make bench                                           everything: about three quarters of an hour
    make bench ARGS="--only latency --only cost --json"  some of it; the last line is one JSON object
    make bench ARGS="--quick"                            a glance at each part, to see that it works: no figure of it counts
    make bench ARGS="--list"                             the parts

Exit code 0 where every bar that was measured is met, 1 where one is not, 2 where a part could not be measured.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run by path: the repository is where `tests` is found

from tests.bench import cost, latency, outage, peer, plot, publisher, relayed, scale, table
from tests.bench.figures import Figure, as_json
from tests.bench.parts import Bench, Part, Progress

PARTS: Final[dict[str, Part]] = {part.NAME: part for part in (latency, cost, publisher, relayed, outage, scale, peer)}
ROUNDS: Final = 3


def main() -> int:
    arguments = parse(sys.argv[1:])
    if arguments.list:
        print("\n".join(f"{name:<10} {part.HELP}" for name, part in PARTS.items()))
        return 0
    with tempfile.TemporaryDirectory(prefix="wazuh-jetstream-bench-") as directory:
        try:
            return asyncio.run(_interruptible(_all(arguments, Path(directory))))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("\nStopped; nothing is left running.", file=sys.stderr)
            return 130


def parse(given: list[str]) -> argparse.Namespace:
    """The command line; a word that makes no sense ends the program with a sentence."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PART", action="append", choices=tuple(PARTS), help="measure this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each measurement (default {ROUNDS})")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write bench.json and bench.svg into this directory")
    parser.add_argument("--quick", action="store_true", help="small fleets and one round: shows that it works, measures nothing")
    parser.add_argument("--list", action="store_true", help="list the parts")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line, and no table")
    arguments = parser.parse_args(given)
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return arguments


async def _interruptible(measuring: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(measuring)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _all(arguments: argparse.Namespace, directory: Path) -> int:
    progress = Progress()
    bench = Bench(directory, 1 if arguments.quick else arguments.rounds, arguments.quick, progress.say)
    figures, failed = list[Figure](), list[str]()
    for name in arguments.only or PARTS:
        try:
            async for figure in PARTS[name].measure(bench):
                figures.append(figure)
                progress.clear()
                if not arguments.json:
                    print(f"  {' | '.join(cell.strip() for cell in table.row(figure) if cell)}", flush=True)
        except Exception:  # noqa: BLE001 -- told whole below; the other parts are measured all the same
            progress.clear()
            failed.append(name)
            print(f"{name} could not be measured:\n{traceback.format_exc()}", file=sys.stderr)
    progress.clear()
    _report(arguments, figures, failed)
    return 2 if failed else int(any(figure.met is False for figure in figures))


def _report(arguments: argparse.Namespace, figures: list[Figure], failed: list[str]) -> None:
    result = {"machine": machine(), "quick": arguments.quick, "failed": failed, "figures": [as_json(figure) for figure in figures]}
    if not arguments.json:
        print("\n" + "\n".join(table.lines(figures)) + f"\n\n{json.dumps(result['machine'])}")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        charts = plot.charts(figures)
        if charts:
            (arguments.out / "bench.svg").write_text(plot.svg(charts))
    if arguments.json:
        print(json.dumps(result))


def machine() -> dict[str, object]:
    """What it was measured on, and how busy that was: figures of a loaded machine are no figures."""
    cores = os.cpu_count() or 1
    return {
        "cores": cores,
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "model": _model(),
    }


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(main())
