"""Durations and sizes as people write them: "5s", "64MiB".

Pure.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)\Z")


def _quantity(value: object, units: Mapping[str, float], plain: str) -> float:
    match = _QUANTITY.match(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    factor = units.get(match[2] or plain) if match else None
    if match is None or factor is None:
        raise ValueError("not a quantity")
    return float(match[1]) * factor


def seconds(value: object) -> float:
    """The seconds of "500ms", "5s", "2m", "1h", "3d" or a number. Raises ValueError."""
    return _quantity(value, _SECONDS, "s")


def size(value: object) -> int:
    """The bytes of "512KiB", "64MiB", "8GiB" or a number. Raises ValueError."""
    return math.floor(_quantity(value, _BYTES, "B"))


def show_seconds(value: float) -> str:
    """A duration in the largest unit that keeps it whole."""
    for unit in ("d", "h", "m", "s"):
        if value and value % _SECONDS[unit] == 0:
            return f"{value / _SECONDS[unit]:.0f}{unit}"
    return f"{value * 1000:.3f}".rstrip("0").rstrip(".") + "ms" if value else "0s"


def show_size(value: int) -> str:
    """A size in the largest unit that keeps it whole."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"
