"""Clocks give Unix milliseconds and seconds that never go back."""

import time

from shared.clock import Clock, SystemClock
from tests.clock import ManualClock


def test_the_system_s_clock_is_the_system_s() -> None:
    clock: Clock = SystemClock()
    before = time.time_ns() // 1_000_000
    assert before <= clock.now_ms() <= time.time_ns() // 1_000_000
    assert time.monotonic() <= clock.monotonic() <= time.monotonic()


def test_a_manual_clock_moves_only_when_it_is_moved() -> None:
    manual = ManualClock(1000)
    clock: Clock = manual
    assert (clock.now_ms(), clock.monotonic()) == (1000, 0)
    manual.advance(1.5)
    assert (clock.now_ms(), clock.monotonic()) == (2500, 1.5)
