"""A ledger whose relay was killed holds whole decisions, each once, in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.chain import Chain, Head, Linked
from relay.events import Message
from shared import crashpoints
from tests.relay import ledgers
from tests.relay.lab import Lab

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]


def start(url: str, crash_at: str = "") -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {crashpoints.ENVIRONMENT: crash_at, "PYTHONPATH": path}
    child = [sys.executable, str(Path(__file__).with_name("ledger_child.py")), url]
    return subprocess.Popen(child, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def messages_through(position: int) -> list[Message]:
    """What a relay that was never killed has to publish."""
    lab, made = Lab(), list[Message]()
    for number in range(1, position + 1):
        made += lab.step(ledgers.flip(number)).messages
    return made


def links_through(position: int) -> list[Linked]:
    """The chain of a relay that was never killed."""
    lab, chain, made = Lab(), Chain(Head("", 0, "")), list[Linked]()
    for number in range(1, position + 1):
        made += chain.extend(lab.step(ledgers.flip(number)).messages, number)
    return made


def assert_consistent(url: str, position: int) -> None:
    ledger = ledgers.opened(url)
    outgoing = ledger.outbox(1_000_000)
    lab = Lab()
    for number in range(1, position + 1):
        lab.step(ledgers.flip(number))
    assert ledger.position() == position
    assert [out.message for out in outgoing] == messages_through(position)
    assert [Linked(out.sequence, out.link, out.message) for out in outgoing] == links_through(position)
    assert [out.sequence for out in outgoing] == list(range(1, ledger.last_sequence() + 1))
    assert ledger.restore("lab", ledgers.POLICY) == lab.fleet
    ledger.close()


def test_a_relay_killed_at_either_crash_point_goes_on_where_the_ledger_stands(url: str) -> None:
    position = 0
    for crash_at, recorded in (
        ("relay.before_record", 0),
        ("relay.after_record", 1),
        ("relay.before_record:4", 3),
        ("relay.after_record:3", 3),
        ("relay.before_record:2", 1),
    ):
        with start(url, crash_at) as child:
            assert child.wait(30) == -signal.SIGKILL
        position += recorded
        assert_consistent(url, position)


def test_a_relay_killed_anywhere_has_lost_nothing_that_it_said_was_safe(url: str) -> None:
    safe = 0
    for records in (1, 17, 40):
        with start(url) as child:
            assert child.stdout is not None
            for _ in range(records):
                safe = int(child.stdout.readline())
            child.kill()
            safe = max([safe, *map(int, child.stdout.read().splitlines())])
        ledger = ledgers.opened(url)
        position = ledger.position()
        ledger.close()
        assert position in (safe, safe + 1)
        assert_consistent(url, position)
