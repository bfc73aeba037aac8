"""The clock, passed to whoever needs one, so that a test can own the time. The only place that asks the system for it.

`WAZUH_JETSTREAM_CLOCK_OFFSET_FILE=/a/file` is set by tests alone: it sets a running process' wall clock off by the
milliseconds in that file, which is read at each look at the clock; a file that is not there is none. Unset, it costs nothing.
"""

import os
import time
from pathlib import Path
from typing import Final, Protocol

ENVIRONMENT: Final = "WAZUH_JETSTREAM_CLOCK_OFFSET_FILE"

_offset_file: Final = os.environ.get(ENVIRONMENT, "")


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000 + (_offset_ms(Path(_offset_file)) if _offset_file else 0)

    monotonic = staticmethod(time.monotonic)
    """Seconds since the machine started."""


def _offset_ms(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
