"""Places where a crash would hurt most, by name, so that a test can kill the program exactly there.

`WAZUH_JETSTREAM_CRASH_AT=relay.after_record` kills the process with SIGKILL when it first passes that point;
`relay.after_record:7` at the seventh time. Unset, a point costs one look at an empty dictionary.
"""

import os
import signal
from typing import Final, Literal

CrashPoint = Literal[
    "collector.before_spool",  # a snapshot is made and on no disk yet
    "collector.after_spool",  # it is in the spool and not published
    "collector.after_publish",  # NATS has acked it and the spool still holds it
    "collector.after_forget",  # the spool has let go of it
    "relay.before_record",  # decided, nothing written
    "relay.after_record",  # the ledger's transaction is committed, the message not acked
    "relay.after_ack",  # acked, nothing published
    "relay.before_publish",  # sealed, nothing sent
    "relay.after_publish",  # the stream has acked the batch, the outbox not marked
    "relay.after_mark",  # marked as sent
]

ENVIRONMENT: Final = "WAZUH_JETSTREAM_CRASH_AT"


def _armed(value: str) -> dict[str, int]:
    name, _, count = value.partition(":")
    return {name: int(count or 1)} if name else {}


_remaining: Final = _armed(os.environ.get(ENVIRONMENT, ""))


def here(point: CrashPoint) -> None:
    """Die here, if the environment asked for it."""
    if point not in _remaining:
        return
    _remaining[point] -= 1
    if _remaining[point] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
