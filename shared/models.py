"""What a Wazuh manager node believes, as values.

Times are what Wazuh wrote: Unix seconds by that node's clock, or None where it wrote none.
Sources: wazuh/wazuh `src/wazuh_db/schema_global.sql` and `src/wazuh_db/wdb.h` (status codes).
"""

import hashlib
from typing import Final, Literal, NamedTuple, NewType

import msgpack

NodeId = NewType("NodeId", str)
"""A collector's name on the bus: `wazuh.manager_node` of its configuration."""

NodeType = Literal["master", "worker", "standalone"]
"""The cluster block's node_type; standalone where the cluster is disabled."""

SourceKind = Literal["socket", "file"]

SourceState = Literal["ok", "missing", "denied", "locked", "corrupt", "unsupported", "silent", "garbled", "recovering"]
"""ok, or why the source could not be read: no such path; no permission; locked by the daemon; not a database; a schema
without what we need; a socket that does not answer; a socket that answers nonsense; a hot journal that only wazuh-db can play back."""

KeysState = Literal["ok", "missing", "denied", "unread"]

ConnectionStatus = Literal["active", "disconnected", "pending", "never_connected"]
CONNECTION_STATUSES: Final[tuple[ConnectionStatus, ...]] = ("active", "disconnected", "pending", "never_connected")

# Why a row is as it is: `agent_status_code_t` in wdb.h, in the database since Wazuh 4.6.
CODE_NONE: Final = 0
CODE_INVALID_VERSION: Final = 1
CODE_VERSION_UNREADABLE: Final = 2
CODE_STOPPED: Final = 3  # HC_SHUTDOWN_RECV: the agent said goodbye
CODE_SILENT: Final = 4  # NO_KEEPALIVE: a sweep found the last keepalive too old
CODE_RESET: Final = 5  # RESET_BY_MANAGER: remoted started and reset every row


# Tuples, for there are a million of them: they are made and compared in a tenth of the time of dataclasses.


class AgentRow(NamedTuple):
    """One row of a node's `agent` table."""

    id: int
    name: str
    ip: str | None  # coalesce(ip, register_ip), as the Wazuh API shows it
    status: ConnectionStatus
    code: int | None  # None: the schema has no status_code (before 4.6)
    disconnection_time: int
    last_keepalive: int | None
    date_add: int
    node_name: str | None  # None: the schema has no node_name (5.0)


class KeyEntry(NamedTuple):
    """One line of client.keys without the key."""

    id: int
    name: str
    ip: str
    removed: bool


def row_digest(row: AgentRow) -> int:
    """64 bits of a row, last_keepalive left out: it moves with every keepalive and says nothing of the state.

    A table's digest is the sum of its rows' modulo 2**64, so that it is kept up to date at the cost of what changed.
    """
    packed = msgpack.packb((row.id, row.name, row.ip, row.status, row.code, row.disconnection_time, row.date_add, row.node_name))
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "big")


DIGEST_MODULUS: Final = 1 << 64

_KEEPALIVE: Final = AgentRow._fields.index("last_keepalive")


def are_digested_alike(row: AgentRow, other: AgentRow) -> bool:
    """Whether no more than their keepalives differ, at a tenth of the cost of two digests."""
    return row[:_KEEPALIVE] == other[:_KEEPALIVE] and row[_KEEPALIVE + 1 :] == other[_KEEPALIVE + 1 :]


UNKNOWN_PERIOD: Final = 60_000  # ms: the longest rhythm that Wazuh has (5.0 writes a keepalive once a minute), until one is learnt


def quiet_after(period: int) -> int:
    """Milliseconds after which an active agent without a keepalive is named in `quiet`: 1.5 periods."""
    return (period or UNKNOWN_PERIOD) * 3 // 2
