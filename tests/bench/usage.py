"""What a process takes, as the kernel counts it (/proc, Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1024.0


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB resident: now, and the most there ever was."""

    now: float
    peak: float


def memory(pid: int) -> Memory:
    """Of a running process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Memory(*(int(fields[name].split()[0]) / MIB for name in ("VmRSS", "VmHWM")))


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process' threads so far; to the nanosecond where the kernel counts so."""
    if not Path(f"/proc/{pid}/schedstat").exists():
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICK
    return sum(map(_ran, Path(f"/proc/{pid}/task").glob("*/schedstat")))


def _ran(thread: Path) -> float:
    try:
        return int(thread.read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0
