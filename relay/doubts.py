"""A table that lost most of its agents at once is a broken source, until a second full says so again and client.keys agrees:
rule 6 of `relay.decide`. Pure.

A database that was recreated, restored or not yet filled looks like a fleet that was removed. What is doubted is taken for
unread: the rows held before stay, they prove nothing any more, and the node counts as unheard until it is believed again.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from shared import wire

from . import tables
from .tables import Table

FEW: Final = 10
"""Agents whose loss at once is nothing strange: somebody tidied up."""

DOUBT: Final = "the table lost most of its agents at once; it is believed when a second full snapshot and client.keys agree"


def believed(doubted: bool, table: Table, snapshot: wire.Snapshot) -> wire.Snapshot:
    """The snapshot itself, or what is left of it without its rows; `doubted`: what this node said before was not believed."""
    if snapshot.source_state != "ok":
        return snapshot
    gone = tables.gone(table, snapshot)
    suspicious = len(gone) >= FEW and 2 * len(gone) > len(table.rows)
    confirmed = snapshot.kind == "full" and (not suspicious or (doubted and _agrees(snapshot, gone)))
    if confirmed or not (suspicious or doubted):
        return snapshot
    return replace(snapshot, source_state="recovering", source_error=DOUBT, rows=(), gone=(), quiet=None)


def _agrees(full: wire.Snapshot, gone: Iterable[int]) -> bool:
    registered = {entry.id for entry in full.keys if not entry.removed}
    return full.keys_state == "ok" and registered.isdisjoint(gone)
