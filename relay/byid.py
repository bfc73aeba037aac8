"""Values by agent id, at a tenth of a dict's bytes. Pure.

Wazuh counts its agents from 1 upward, so that ids lie close together: a page holds the values of PAGE ids in a row, 8 bytes each,
and no id. A lone id far from all others costs a page.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import islice
from operator import lt
from typing import Final, TypeVar, overload

_BITS: Final = 6
PAGE: Final = 1 << _BITS
_WITHIN: Final = PAGE - 1
_EMPTY: Final[tuple[None, ...]] = (None,) * PAGE

T = TypeVar("T")
D = TypeVar("D")


class ById(MutableMapping[int, T]):
    """A mapping whose keys are ids (0 or more) and whose values are never None."""

    __slots__ = ("_count", "_pages")

    def __init__(self, items: Mapping[int, T] | None = None) -> None:
        self._pages: dict[int, list[T | None]] = {}
        self._count = 0
        self.fill(items or {})

    def __getitem__(self, number: int) -> T:
        found = self.get(number)
        if found is None:
            raise KeyError(number)
        return found

    @overload
    def get(self, number: int, default: None = None) -> T | None: ...
    @overload
    def get(self, number: int, default: T | D) -> T | D: ...
    def get(self, number: int, default: object = None) -> object:
        """Its value, or the default."""
        page = self._pages.get(number >> _BITS)
        found = None if page is None else page[number & _WITHIN]
        return default if found is None else found

    def of(self, numbers: Sequence[int]) -> list[T | None]:
        """The value of each, None where there is none; many that ascend cost little."""
        if not self._pages:
            return [None] * len(numbers)
        found: list[T | None] = []
        for at, begin, end in _runs(numbers):
            page = self._pages.get(at, _EMPTY)
            found += page if end - begin == PAGE else [page[number & _WITHIN] for number in numbers[begin:end]]
        return found

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.get(number) is not None

    def __setitem__(self, number: int, value: T) -> None:
        self.fill({number: value})

    def fill(self, items: Mapping[int, T]) -> None:
        """Set many; what ascends costs little."""
        self.put(list(items), list(items.values()))

    def put(self, numbers: Sequence[int], values: Sequence[T]) -> None:
        """Set the value of each number, the last where one comes twice; what ascends costs little."""
        for at, begin, end in _runs(numbers):
            page = self._pages.get(at)
            if page is None:
                page = self._pages[at] = list(_EMPTY)
            self._count -= PAGE - page.count(None)
            if end - begin == PAGE:
                page[:] = values[begin:end]
            else:
                for number, value in zip(numbers[begin:end], values[begin:end], strict=True):
                    page[number & _WITHIN] = value
            self._count += PAGE - page.count(None)

    def copy(self) -> "ById[T]":
        """The same values in another mapping."""
        other = ById[T]()
        other._pages = {at: page.copy() for at, page in self._pages.items()}
        other._count = self._count
        return other

    def __delitem__(self, number: int) -> None:
        page = self._pages.get(number >> _BITS)
        if page is None or page[number & _WITHIN] is None:
            raise KeyError(number)
        page[number & _WITHIN] = None
        self._count -= 1
        if page.count(None) == PAGE:
            del self._pages[number >> _BITS]

    def __iter__(self) -> Iterator[int]:
        for at, page in self._pages.items():
            for number, value in enumerate(page, at << _BITS):
                if value is not None:
                    yield number

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"ById({dict(self.items())})"


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(page, begin, end) of the numbers that stand together and are of one page, where they ascend; else of each number."""
    ascending = all(map(lt, numbers, islice(numbers, 1, None)))
    begin = 0
    while begin < len(numbers):
        at = numbers[begin] >> _BITS
        end = bisect_left(numbers, (at + 1) << _BITS, begin, min(begin + PAGE, len(numbers))) if ascending else begin + 1
        yield at, begin, end
        begin = end
