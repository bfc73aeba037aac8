"""What a part of the bench is given, and how it says how far it is."""

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.figures import Figure


@dataclass(frozen=True, slots=True)
class Bench:
    """How to measure: where files may be put, how many rounds, and whether a glance is enough."""

    directory: Path
    rounds: int
    quick: bool
    say: Callable[[str], None]

    def place(self, name: str) -> Path:
        """A directory of this name, made."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path


class Part(Protocol):
    """A module that measures one thing."""

    NAME: str
    HELP: str

    def measure(self, bench: Bench) -> AsyncIterator[Figure]:
        """Its figures, one by one as they are known."""


class Progress:
    """One line on a terminal that is written over; nothing where nobody looks."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """What is being done now."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text[:150]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
