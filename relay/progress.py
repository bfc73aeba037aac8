"""How far a long reading has come, on one line of a terminal that is written over; nothing where it is none."""

from types import TracebackType
from typing import Final, Self, TextIO

from shared.clock import Clock

EVERY_S: Final = 0.2
EVERY: Final = 256  # messages between two looks at the clock


class Progress:
    """A line on `out`, and none after it is left."""

    def __init__(self, out: TextIO, clock: Clock, *, shown: bool = True) -> None:
        self._out, self._clock = out, clock
        self._shown = shown and out.isatty()
        self._name, self._first, self._last, self._count = "", 0, 0, 0
        self._began = self._drawn = 0.0

    def begin(self, name: str, first: int, last: int) -> None:
        """What is read now goes from one sequence to another."""
        self._name, self._first, self._last = name, first, last
        self._began = self._clock.monotonic()

    def at(self, sequence: int) -> None:
        """It has come so far."""
        self._count += 1
        if not self._shown or self._count % EVERY:
            return
        now = self._clock.monotonic()
        if now - self._drawn >= EVERY_S:
            self._drawn = now
            done, whole = sequence - self._first, max(1, self._last - self._first)
            left = (now - self._began) * (whole - done) / max(1, done)
            self._out.write(f"\r\x1b[K{self._name}  {100 * done // whole} %  {done:,} of {whole:,} messages, {left:.0f} s left")
            self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()
