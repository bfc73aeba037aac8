"""The requests of queue/db/wdb and their answers, word for word as wazuh-db of 4.14 and 5.0 gives them (wdb_parser.c)."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from tests.manager.database import Database

MAX_ANSWER: Final = 65536  # OS_MAXSTR: longer answers are cut without a word
_PAGE_LIMIT: Final = MAX_ANSWER - 16  # WDB_MAX_RESPONSE_SIZE: where ids are cut into pages
_DATA_4: Final = (
    "os_name", "os_version", "os_major", "os_minor", "os_codename", "os_platform", "os_build", "os_uname", "os_arch", "version",
    "config_sum", "merged_sum", "manager_host", "node_name", "connection_status", "group_config_status",
)  # fmt: skip
_DATA_5: Final = ("os_name", "os_version", "os_major", "os_minor", "os_type", "os_platform", "os_arch", "version", "connection_status")
_STRENGTH: Final = {"synced": 0, "syncreq_keepalive": 1, "syncreq_status": 2, "syncreq": 3}


class Refused(Exception):
    """An answer that starts with err."""


class Commands:
    """Answers requests from one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table: dict[str, Callable[[sqlite3.Connection, str], str]] = {
            "sql": lambda connection, text: _rows(connection, text),
            "insert-agent": self._insert_agent,
            "update-agent-data": self._update_agent_data,
            "update-keepalive": self._update_keepalive,
            "update-connection-status": self._update_connection_status,
            "update-status-code": self._update_status_code,
            "delete-agent": self._delete_agent,
            "disconnect-agents": self._disconnect_agents,
            "reset-agents-connection": self._reset_agents_connection,
            "get-all-agents": self._get_all_agents,
            "get-agents-by-connection-status": self._get_agents_by_connection_status,
            "get-agent-info": self._get_agent_info,
        }

    def answer(self, request: bytes) -> bytes:
        """The whole answer to one request, at most 65536 bytes; one newline more where the request ended in one."""
        lined = request.endswith(b"\n")
        text = request.removesuffix(b"\n").split(b"\0")[0].decode("utf-8", "replace")
        try:
            found = self._obey(text.lstrip(" \n"))
        except Refused as refused:
            found = f"err {refused}"
        return found.encode()[:MAX_ANSWER] + (b"\n" if lined else b"")

    def _obey(self, text: str) -> str:
        actor, _, query = text.partition(" ")
        if not query:
            raise Refused(f"Invalid DB query syntax, near '{text[:32]}'")
        if actor != "global":
            raise Refused(f"Invalid DB query actor: '{actor[:32]}'")
        command, _, rest = query.partition(" ")
        play = self._table.get(command)
        if play is None or not rest:
            raise Refused(f"Invalid DB query syntax, near '{query[:32]}'")
        try:
            with self._database.use() as connection:
                return play(connection, rest)
        except sqlite3.Error as error:
            raise Refused(f"Cannot execute Global database query; {error}") from error

    def _insert_agent(self, connection: sqlite3.Connection, text: str) -> str:
        data = _json(text, numbers=("id", "date_add"), words=("name",))
        names = [name for name in ("id", "name", "ip", "register_ip", "internal_key", "date_add") if name in data]
        places = ", ".join("?" * len(names))
        connection.execute(
            f"INSERT INTO agent ({', '.join(names)}, `group`) VALUES ({places}, ?)", [*_pick(data, names), data.get("group")]
        )
        return "ok"

    def _update_agent_data(self, connection: sqlite3.Connection, text: str) -> str:
        data = _json(text, numbers=("id",), words=())
        names = _DATA_4 if self._database.version == "4.14" else _DATA_5
        left = _validated(connection, data)
        places = ", ".join(f"{name} = ?" for name in names)
        kept = 253402300799 if data["id"] == 0 else _now()
        connection.execute(
            f"UPDATE agent SET {places}, ip = ?, sync_status = ?, last_keepalive = ? WHERE id = ?",
            [*_pick(data, names), data.get("agent_ip"), left, kept, data["id"]],
        )
        if self._database.version == "4.14":
            _set_labels(connection, data["id"], data.get("labels") or "")
        return "ok"

    def _update_keepalive(self, connection: sqlite3.Connection, text: str) -> str:
        data = _json(text, numbers=("id",), words=("connection_status", "sync_status"))
        connection.execute(
            "UPDATE agent SET last_keepalive = ?, connection_status = ?, sync_status = ?, disconnection_time = 0, status_code = 0"
            " WHERE id = ?",
            (_now(), data["connection_status"], _validated(connection, data), data["id"]),
        )
        return "ok"

    def _update_connection_status(self, connection: sqlite3.Connection, text: str) -> str:
        data = _json(text, numbers=("id", "status_code"), words=("connection_status", "sync_status"))
        gone = _now() if data["connection_status"] == "disconnected" else 0
        connection.execute(
            "UPDATE agent SET connection_status = ?, sync_status = ?, disconnection_time = ?, status_code = ? WHERE id = ?",
            (data["connection_status"], _validated(connection, data), gone, data["status_code"], data["id"]),
        )
        return "ok"

    def _update_status_code(self, connection: sqlite3.Connection, text: str) -> str:
        data = _json(text, numbers=("id", "status_code"), words=("sync_status",))
        connection.execute(
            "UPDATE agent SET status_code = ?, version = ?, sync_status = ? WHERE id = ?",
            (data["status_code"], data.get("version"), _validated(connection, data), data["id"]),
        )
        return "ok"

    def _delete_agent(self, connection: sqlite3.Connection, text: str) -> str:
        connection.execute("DELETE FROM agent WHERE id = ?", (_integer(text),))
        return "ok"

    def _disconnect_agents(self, connection: sqlite3.Connection, text: str) -> str:
        words = text.split()
        for place, missing in enumerate(("last id", "keepalive", "sync_status")):
            if len(words) <= place:
                raise Refused(f"Invalid arguments {missing} not found")
        ids = _ids(
            connection,
            "id > ? AND connection_status IN ('active', 'pending') AND last_keepalive < ?",
            (_integer(words[0]), _integer(words[1])),
        )
        connection.executemany(
            "UPDATE agent SET connection_status = 'disconnected', sync_status = ?, disconnection_time = ?, status_code = 4 WHERE id = ?",
            [(words[2], _now(), number) for number in ids],
        )
        return _page(ids)

    def _reset_agents_connection(self, connection: sqlite3.Connection, text: str) -> str:
        connection.execute(
            "UPDATE agent SET connection_status = 'disconnected', status_code = 5, sync_status = ?, disconnection_time = ?"
            " WHERE connection_status NOT IN ('disconnected', 'never_connected') AND id != 0",
            (text, _now()),
        )
        return "ok"

    def _get_all_agents(self, connection: sqlite3.Connection, text: str) -> str:
        words = text.split()
        if not words or words[0] not in ("last_id", "context"):
            raise Refused("Invalid arguments 'last_id' or 'context' not found")
        if len(words) < 2:
            raise Refused("Invalid arguments 'last_id' not found")
        return _page(_ids(connection, "id > ?", (_integer(words[1]),)))

    def _get_agents_by_connection_status(self, connection: sqlite3.Connection, text: str) -> str:
        words = text.split()
        if len(words) < 2:
            raise Refused("Invalid arguments 'connection_status' not found")
        last, status = _integer(words[0]), words[1]
        if self._database.version == "5.0" or len(words) == 2:
            return _page(_ids(connection, "id > ? AND connection_status = ?", (last, status)))
        if len(words) < 4:
            raise Refused("Invalid arguments 'limit' not found")
        limit = _integer(words[3])
        return _page(_ids(connection, "id > ? AND connection_status = ? AND node_name = ?", (last, status, words[2]), limit))

    def _get_agent_info(self, connection: sqlite3.Connection, text: str) -> str:
        return _rows(connection, "SELECT * FROM agent WHERE id = ?", (_integer(text),))


def _rows(connection: sqlite3.Connection, sql: str, parameters: Iterable[object] = ()) -> str:
    """All rows as a JSON array of objects; a NULL column is left out."""
    cursor = connection.execute(sql, tuple(parameters))
    names = [column[0] for column in cursor.description or ()]
    found = [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in cursor]
    return f"ok {_dump(found)}"


def _ids(connection: sqlite3.Connection, where: str, parameters: tuple[object, ...], limit: int = -1) -> list[int]:
    found = connection.execute(f"SELECT id FROM agent WHERE {where} ORDER BY id LIMIT {int(limit)}", parameters)
    return [number for (number,) in found]


def _page(ids: list[int]) -> str:
    """`ok` and the ids, or `due` and as many as fit."""
    size = 2
    for fitting, number in enumerate(ids):
        size += len(f'{{"id":{number}}},')
        if size > _PAGE_LIMIT:
            return f"due {_dump([{'id': number} for number in ids[:fitting]])}"
    return f"ok {_dump([{'id': number} for number in ids])}"


def _json(text: str, numbers: tuple[str, ...], words: tuple[str, ...]) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"Invalid JSON syntax, near '{text[:32]}'") from error
    fits = isinstance(data, dict)
    fits = fits and all(type(data.get(name)) in (int, float) for name in numbers) and all(isinstance(data.get(name), str) for name in words)
    if not fits:
        raise Refused(f"Invalid JSON data, near '{text[:32]}'")
    return dict(data)


def _validated(connection: sqlite3.Connection, data: dict[str, Any]) -> str:
    """wdb_global_validate_sync_status: a weaker pending mark never replaces a stronger one."""
    requested = str(data.get("sync_status", "synced"))
    held = connection.execute("SELECT sync_status FROM agent WHERE id = ?", (data["id"],)).fetchone()
    if held is None or requested == "synced" or _STRENGTH.get(requested, 4) >= _STRENGTH[held[0]]:
        return requested
    return str(held[0])


def _set_labels(connection: sqlite3.Connection, number: int, labels: str) -> None:
    connection.execute("DELETE FROM labels WHERE id = ?", (number,))
    pairs = [line.partition(":") for line in labels.splitlines() if ":" in line]
    sql = "INSERT OR REPLACE INTO labels (id, key, value) VALUES (?, ?, ?)"
    connection.executemany(sql, [(number, key, value) for key, _, value in pairs])


def _pick(data: dict[str, Any], names: Iterable[str]) -> list[Any]:
    return [data.get(name) for name in names]


def _integer(text: str) -> int:
    """atoi: the leading digits, 0 where there are none."""
    word = text.strip()
    digits = word[: len(word) - len(word.lstrip("-0123456789"))]
    return int(digits) if digits.lstrip("-").isdigit() else 0


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _now() -> int:
    return time.time_ns() // 10**9
