"""global.db as Wazuh 4.14 and 5.0 create it (schema_global.sql of 4.14.7 and of the 5.0.0 branch)."""

import sqlite3
import time
from pathlib import Path
from typing import Final

_HEAD: Final = """
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, ip TEXT, register_ip TEXT, internal_key TEXT,
    os_name TEXT, os_version TEXT, os_major TEXT, os_minor TEXT,"""

_TAIL: Final = """
    `group` TEXT DEFAULT 'default', group_hash TEXT default NULL,
    group_sync_status TEXT NOT NULL CHECK (group_sync_status IN ('synced', 'syncreq')) DEFAULT 'synced',
    sync_status TEXT NOT NULL CHECK (sync_status IN ('synced', 'syncreq', 'syncreq_status', 'syncreq_keepalive')) DEFAULT 'synced',
    connection_status TEXT NOT NULL
        CHECK (connection_status IN ('pending', 'never_connected', 'active', 'disconnected')) DEFAULT 'never_connected',
    disconnection_time INTEGER DEFAULT 0,"""

_AGENT_4: Final = f"""CREATE TABLE agent ({_HEAD}
    os_codename TEXT, os_build TEXT, os_platform TEXT, os_uname TEXT, os_arch TEXT, version TEXT,
    config_sum TEXT, merged_sum TEXT, manager_host TEXT, node_name TEXT DEFAULT 'unknown',
    date_add INTEGER NOT NULL, last_keepalive INTEGER,{_TAIL}
    group_config_status TEXT NOT NULL CHECK (group_config_status IN ('synced', 'not synced')) DEFAULT 'not synced',
    status_code INTEGER DEFAULT 0)"""

_AGENT_5: Final = f"""CREATE TABLE agent ({_HEAD}
    os_type TEXT, os_platform TEXT, os_arch TEXT, version TEXT,
    date_add INTEGER NOT NULL, last_keepalive INTEGER,{_TAIL}
    status_code INTEGER DEFAULT 0)"""

_AGENT_INDEXES: Final = (
    "CREATE INDEX agent_name ON agent (name)",
    "CREATE INDEX agent_ip ON agent (ip)",
    "CREATE INDEX agent_group_hash ON agent (group_hash)",
)
_GROUP: Final = "CREATE TABLE `group` ( id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, UNIQUE (name))"
_BELONGS: Final = """CREATE TABLE belongs (
    id_agent INTEGER REFERENCES agent (id) ON DELETE CASCADE, id_group INTEGER REFERENCES `group` (id) ON DELETE CASCADE,
    priority INTEGER NOT NULL DEFAULT 0, UNIQUE (id_agent, priority), PRIMARY KEY (id_agent, id_group))"""
_LABELS: Final = """CREATE TABLE labels (
    id INTEGER REFERENCES agent (id) ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (id,key))"""
_METADATA: Final = "CREATE TABLE metadata ( key TEXT PRIMARY KEY, value TEXT)"

_SCRIPTS: Final = {
    "4.14": (
        _AGENT_4,
        *_AGENT_INDEXES,
        _LABELS,
        "CREATE TABLE info ( key TEXT PRIMARY KEY, value TEXT)",
        _GROUP,
        "CREATE INDEX group_name ON `group` (name)",
        _BELONGS,
        "CREATE INDEX belongs_id_agent ON belongs (id_agent)",
        "CREATE INDEX belongs_id_group ON belongs (id_group)",
        _METADATA,
        "INSERT INTO info (key, value) VALUES ('openssl_support', 'yes')",
        "INSERT INTO metadata (key, value) VALUES ('db_version', '7')",
    ),
    "5.0": (
        _AGENT_5,
        *_AGENT_INDEXES,
        _GROUP,
        _BELONGS,
        "CREATE INDEX belongs_id_group ON belongs (id_group)",
        _METADATA,
        "PRAGMA user_version = 1",
    ),
}
_ROW_0: Final = """INSERT INTO agent (id, name, ip, register_ip, date_add, last_keepalive, `group`, connection_status)
    VALUES (0, 'localhost', '127.0.0.1', '127.0.0.1', ?, 253402300799, NULL, 'active')"""


def create(path: Path, schema: str) -> None:
    """Make global.db where there is none, on a connection of its own: the daemon's total_changes() starts at 0."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("BEGIN")
        for statement in _SCRIPTS[schema]:
            connection.execute(statement)
        if schema == "4.14":
            connection.execute(_ROW_0, (time.time_ns() // 10**9,))
        connection.execute("COMMIT")
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """The daemon's one connection: autocommit towards Python, no waiting for locks, the pragmas of wazuh-db."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False, cached_statements=256)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "cache_size = -2000"):
        connection.execute(f"PRAGMA {pragma}")
    # A read recovers what a killed daemon left in a hot journal.
    connection.execute("SELECT count(*) FROM agent").fetchone()
    return connection
