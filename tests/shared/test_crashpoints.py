"""A crash point kills exactly there, and costs nothing unless it is asked for."""

import signal
import subprocess
import sys

import pytest

from shared import crashpoints

PROGRAM = """
from shared import crashpoints
for number in range(1, 6):
    crashpoints.here("relay.after_record")
    crashpoints.here("relay.after_ack")
    print(number, flush=True)
"""


def run(at: str | None) -> tuple[int, list[str]]:
    environment = {} if at is None else {crashpoints.ENVIRONMENT: at}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(("at", "passed"), [("relay.after_record", 0), ("relay.after_ack:1", 0), ("relay.after_record:3", 2)])
def test_it_kills_at_the_asked_time(at: str, passed: int) -> None:
    assert run(at) == (-signal.SIGKILL, [str(number) for number in range(1, passed + 1)])


@pytest.mark.parametrize("at", [None, "", "relay.after_mark", "relay.after_record:9"])
def test_it_passes_where_nobody_asked_for_it(at: str | None) -> None:
    assert run(at) == (0, ["1", "2", "3", "4", "5"])
