"""Columns of a raw snapshot's payload: what the wire says of many rows, checked to be one list of values for each field. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from .errors import Quarantine

MAX_TEXT: Final = 64 * 1024  # characters of one name, address or sentence
MAX_INT: Final = 2**63 - 1

Column = Sequence[Any]
Columns = Sequence[Column]
"""One sequence for each field of a value, in their order: checked, and equally long."""


def malformed(what: str) -> Quarantine:
    """The refusal of bytes that are not what `what` says they should be."""
    return Quarantine("malformed", f"raw message refused: {what}; the sender is not a collector of this version")


class Reader:
    """Takes columns out of a payload's fields. Every method raises Quarantine: malformed."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def ints(self, name: str, *, nullable: bool = False) -> Column:
        """Numbers from 0 to MAX_INT."""
        column = self._take(name, {int, type(None)} if nullable else {int})
        values = [value for value in column if value is not None] if nullable else column
        if values and (min(values) < 0 or max(values) > MAX_INT):
            raise malformed(f"{name!r} holds a value out of range")
        return column

    def texts(self, name: str, *, nullable: bool = False) -> Column:
        """Texts of at most MAX_TEXT characters."""
        column = self._take(name, {str, type(None)} if nullable else {str})
        if max(map(len, filter(None, column)), default=0) > MAX_TEXT:
            raise malformed(f"{name!r} holds a value out of range")
        return column

    def words(self, name: str, words: Sequence[object]) -> Column:
        """Words that are sent as bytes: their places in `words`."""
        codes = self._fields.get(name)
        if not isinstance(codes, bytes) or (codes and max(codes) >= len(words)):
            raise malformed(f"{name!r} holds an unknown code")
        return [words[code] for code in codes]

    def _take(self, name: str, kinds: set[type]) -> list[Any]:
        column = self._fields.pop(name, None)  # a column of a great table is let go as soon as its values are made
        if not isinstance(column, list) or not set(map(type, column)) <= kinds:
            raise malformed(f"{name!r} is not a list of the right type")
        return column


def equally_long(columns: Columns, name: str) -> Columns:
    """The columns themselves."""
    if len({len(column) for column in columns}) > 1:
        raise malformed(f"the columns of {name!r} differ in length")
    return columns
