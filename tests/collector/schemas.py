"""Wazuh's `agent` table through its versions, and rows to fill it: columns and types as in schema_global.sql of each tag."""

import sqlite3
from collections.abc import Mapping

_HEAD = "id INTEGER PRIMARY KEY, name TEXT NOT NULL, ip TEXT, register_ip TEXT, internal_key TEXT, version TEXT"
_TIMES = "date_add INTEGER NOT NULL, last_keepalive INTEGER"
_STATUS = (
    "connection_status TEXT NOT NULL CHECK (connection_status IN ('pending', 'never_connected', 'active', 'disconnected')) "
    "DEFAULT 'never_connected'"
)
_NODE = "node_name TEXT DEFAULT 'unknown'"
_GONE = "disconnection_time INTEGER DEFAULT 0"
_CODE = "status_code INTEGER DEFAULT 0"

AGENT: Mapping[str, str] = {
    "4.2": f"CREATE TABLE agent ({_HEAD}, {_NODE}, {_TIMES}, {_STATUS})",
    "4.3": f"CREATE TABLE agent ({_HEAD}, {_NODE}, {_TIMES}, {_STATUS}, {_GONE})",
    "4.6": f"CREATE TABLE agent ({_HEAD}, {_NODE}, {_TIMES}, {_STATUS}, {_GONE}, {_CODE})",
    "4.14": f"CREATE TABLE agent ({_HEAD}, {_NODE}, {_TIMES}, {_STATUS}, {_GONE}, {_CODE})",
    "5.0": f"CREATE TABLE agent ({_HEAD}, {_TIMES}, {_STATUS}, {_GONE}, {_CODE})",
}
DB_VERSION: Mapping[str, int] = {"4.2": 2, "4.3": 3, "4.6": 5, "4.14": 7, "5.0": 500}
INDEXES = ("CREATE INDEX agent_name ON agent (name)", "CREATE INDEX agent_ip ON agent (ip)")


def create(database: sqlite3.Connection, version: str = "4.14", *, checked: bool = True) -> None:
    """An empty database of a version; unchecked: without its CHECKs, for hostile values."""
    table = AGENT[version]
    if not checked:
        table = table.replace("TEXT NOT NULL CHECK (connection_status IN ('pending', 'never_connected', 'active', 'disconnected'))", "")
    for statement in (table, *INDEXES, "CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT)"):
        database.execute(statement)
    if version == "5.0":
        database.execute("PRAGMA user_version = 1")
    else:
        database.execute("INSERT INTO metadata VALUES ('db_version', ?)", (str(DB_VERSION[version]),))
        database.execute(
            "INSERT INTO agent (id, name, ip, register_ip, date_add, last_keepalive, connection_status) "
            "VALUES (0, 'manager', '127.0.0.1', '127.0.0.1', 1, 253402300799, 'active')"
        )


INSERT = "INSERT INTO agent (id, name, ip, register_ip, internal_key, date_add, last_keepalive, connection_status) VALUES (?,?,?,?,?,?,?,?)"


def agent(number: int, status: str = "active") -> tuple[object, ...]:
    """Values for INSERT."""
    heard = None if status == "never_connected" else 1_795_400_000 + number % 60
    return (
        number,
        f"agent-{number}",
        f"10.0.{number // 256 % 256}.{number % 256}",
        "any",
        "s3cret" * 10,
        1_795_000_000 + number,
        heard,
        status,
    )
