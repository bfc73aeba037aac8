"""Ordinary jitter of keepalives, without a memory: which of a session's comes late by how much, and which never comes.

Of every BLOCK keepalives one is lost, and once in DOUBLE blocks the one after it as well. All follows from the session's key
and the keepalive's number, so that any of them can be asked for at any time.
"""

from collections.abc import Iterator
from typing import Final

BLOCK: Final = 300
DOUBLE: Final = 16
_MASK: Final = (1 << 64) - 1


def late(key: int, place: int, most: int) -> int:
    """Ticks by which keepalive number `place` is late: 0 to `most`."""
    return _mixed(key * 0x9E3779B1 + place) % (most + 1)


def is_lost(key: int, place: int) -> bool:
    block, offset = divmod(place, BLOCK)
    first, count = _loss(key, block)
    return first <= offset < first + count


def losses(key: int, places: range) -> Iterator[tuple[int, int]]:
    """(number of the first, how many in a row) of what is lost in a range."""
    for block in range(places.start // BLOCK, places.stop // BLOCK + 1):
        first, count = _loss(key, block)
        if block * BLOCK + first in places:
            yield block * BLOCK + first, count


def _loss(key: int, block: int) -> tuple[int, int]:
    mixed = _mixed(key * 0x85EBCA77 + block + 1)
    return 2 + mixed % (BLOCK - 4), 2 if (mixed >> 32) % DOUBLE == 0 else 1


def _mixed(value: int) -> int:
    """splitmix64's finish (Steele, Lea, Flood 2014)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
