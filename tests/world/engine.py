"""The clockwork of a world: what is due when. In one instant, what keeps a connection alive comes before anything else."""

import heapq
from collections.abc import Callable
from typing import Any, Final

KEEPALIVE: Final = 0
REST: Final = 1


class Engine:
    """A queue of things to play at world times, and ticks: whole multiples of `tick` seconds."""

    def __init__(self, start: float, tick: float) -> None:
        self.now = start
        self._tick = tick
        self._queue: list[tuple[float, int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def schedule(self, at: float, command: Callable[..., Any], *arguments: object) -> None:
        """Play a command at world time `at`, not before now."""
        self.push(max(at, self.now), REST, command, *arguments)

    def push(self, at: float, rank: int, play: Callable[..., Any], *arguments: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, rank, self._count, play, arguments))

    def at_tick(self, tick: int, play: Callable[..., Any], *arguments: object) -> None:
        """Play something of a connection at a tick."""
        self.push(self.time_of(tick), KEEPALIVE, play, *arguments)

    def play_until(self, to: float) -> None:
        if to < self.now:
            raise ValueError(f"World time runs forward: it is {self.now}, and {to} was asked for.")
        while self._queue and self._queue[0][0] <= to:
            self.now, _, _, play, arguments = heapq.heappop(self._queue)
            play(*arguments)
        self.now = to

    def next_due(self) -> float | None:
        """When the next thing happens by itself."""
        return self._queue[0][0] if self._queue else None

    def time_of(self, tick: int) -> float:
        return tick * self._tick

    def tick_of(self, at: float) -> int:
        """The last tick that is not after `at`."""
        tick = int(at / self._tick)
        while (tick + 1) * self._tick <= at:
            tick += 1
        while tick * self._tick > at:
            tick -= 1
        return tick

    @property
    def tick(self) -> int:
        """The last tick that is not after now."""
        return self.tick_of(self.now)
