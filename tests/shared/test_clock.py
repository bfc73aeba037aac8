"""Clocks give Unix milliseconds and seconds that never go back."""

import os
import subprocess
import sys
import time
from pathlib import Path

from shared import clock as module
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


PROGRAM = """
from pathlib import Path
from shared.clock import SystemClock
file, clock = Path({file!r}), SystemClock()
right = clock.now_ms()
file.write_text("-60000")
print(clock.now_ms() - right)
file.unlink()
print(clock.now_ms() - right)
"""


def test_a_test_can_set_the_clock_of_a_running_process(tmp_path: Path) -> None:
    file = str(tmp_path / "offset")
    program = [sys.executable, "-c", PROGRAM.format(file=file)]
    done = subprocess.run(program, env=os.environ | {module.ENVIRONMENT: file}, capture_output=True, text=True, timeout=60, check=True)
    back, right = map(int, done.stdout.split())
    assert -60000 <= back < -30000
    assert 0 <= right < 30000
