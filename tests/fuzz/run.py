"""`make fuzz`: mutated inputs at every border, in two processes; the last line is JSON with --json.

    make fuzz ARGS="--inputs 1000000 --seed 1 --json"

Counted are crashes (an error that is not documented there), hangs (above 1 s of a processor), inputs that took more memory than
twice the border's limit, and forgeries that were accepted. Exit code 0 only if there are none. What was found is written below
--findings.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.borders import MIB, Border, borders
from tests.fuzz.mutate import mutated

HANG_S = 1.0
SLACK = 16 * MIB  # what the interpreter takes for itself: its arenas, the mutator's copies
COUNTS = ("inputs", "crashes", "hangs", "over_memory", "forgeries")
BLOCK = 500  # inputs of one border between two looks at the others


class Hung(BaseException):
    """An input took a processor for more than HANG_S."""


@dataclass
class Tally:
    """What became of the inputs."""

    inputs: int = 0
    crashes: int = 0
    hangs: int = 0
    over_memory: int = 0
    forgeries: int = 0
    borders: Counter[str] = field(default_factory=Counter)
    found: list[tuple[str, str, bytes]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.borders += other.borders
        self.found = (self.found + other.found)[:100]

    @property
    def bad(self) -> int:
        return self.crashes + self.hangs + self.over_memory + self.forgeries


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    whole = play(options.inputs, options.seed, options.processes, lambda text: print(text, file=sys.stderr, flush=True))
    for name, what, data in whole.found:
        _keep(options.findings, name, what, data)
    told = {name: getattr(whole, name) for name in COUNTS} | {"borders": dict(whole.borders)}
    if options.json:
        print(json.dumps(told))
    else:
        counts = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in told.items() if key != "borders")
        print(counts, *(f"    {count:>9,}  {name}" for name, count in whole.borders.items()), sep="\n")
    return int(whole.bad > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N", help="mutated inputs in all (20000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same inputs (1)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="at once (2)")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), metavar="DIR", help="where bad inputs are kept (build/fuzz)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser


def play(inputs: int, seed: int, processes: int, say: Callable[[str], None] = lambda _: None) -> Tally:
    """All inputs, told of as they go."""
    shares = [(number, inputs // processes + (number < inputs % processes), seed) for number in range(processes)]
    whole, began = Tally(), time.monotonic()
    if processes == 1:
        for tally in worked(*shares[0]):
            whole.add(tally)
        return whole
    queue: multiprocessing.Queue[Tally | None] = multiprocessing.Queue()
    children = [multiprocessing.Process(target=_child, args=(share, queue)) for share in shares]
    for child in children:
        child.start()
    ended, told = 0, began
    while ended < processes:
        given = queue.get()
        ended += given is None
        whole.add(given or Tally())
        if time.monotonic() > told + 5:
            told = time.monotonic()
            say(_progress(whole, inputs, told - began))
    for child in children:
        child.join()
    return whole


def _progress(whole: Tally, inputs: int, seconds: float) -> str:
    rate = whole.inputs / seconds or 1.0
    left = (inputs - whole.inputs) / rate
    return f"{whole.inputs:,} of {inputs:,} inputs, {rate:,.0f} a second, {left:,.0f} s to go, {whole.bad} bad"


def _child(share: tuple[int, int, int], queue: "multiprocessing.Queue[Tally | None]") -> None:
    try:
        for tally in worked(*share):
            queue.put(tally)
    finally:
        queue.put(None)


def worked(number: int, inputs: int, seed: int) -> Iterator[Tally]:
    """Tallies, block by block."""
    chance = random.Random(f"{seed}/{number}")
    signal.signal(signal.SIGVTALRM, _hung)
    everywhere = borders()
    left = {index: _part(border, index, inputs, everywhere) for index, border in enumerate(everywhere)}
    while any(left.values()):
        for index, border in enumerate(everywhere):
            block = min(BLOCK, left[index])
            left[index] -= block
            if block:
                yield _block(border, block, chance)


def _part(border: Border, index: int, inputs: int, everywhere: list[Border]) -> int:
    share = inputs * border.share // 1000
    return share if index else inputs - sum(inputs * other.share // 1000 for other in everywhere[1:])


def _block(border: Border, count: int, chance: random.Random) -> Tally:
    tally = Tally(inputs=count, borders=Counter({border.name: count}))
    _forget_peak()
    before = _peak()
    for _ in range(count):
        data = mutated(border.seeds, chance)
        _one(border, data, tally)
        if _peak() - before > 2 * border.limit + SLACK:
            tally.over_memory += 1
            tally.found.append((border.name, "over memory", data))
            _forget_peak()
            before = _peak()
    return tally


def _one(border: Border, data: bytes, tally: Tally) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    try:
        if border.feed(data):
            tally.forgeries += 1
            tally.found.append((border.name, "forgery", data))
    except border.refusals:
        pass
    except Hung:
        tally.hangs += 1
        tally.found.append((border.name, "hang", data))
    except Exception as error:  # noqa: BLE001 -- that is what is looked for
        tally.crashes += 1
        tally.found.append((border.name, f"crash {type(error).__name__}: {error}"[:300], data))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Begin the process' peak anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _keep(directory: Path, name: str, what: str, data: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"{what!a} at {name}: {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
