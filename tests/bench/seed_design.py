"""The seed's own design, as a peer: poll every 5 s, read all rows, compare them in a map, publish one by one.

    python tests/bench/seed_design.py --url nats://… --file HOME/queue/db/global.db     as the seed has it
    python tests/bench/seed_design.py --url nats://… --socket HOME/queue/db/wdb         a kinder one: over wazuh-db's socket

It works between the lines `go` and `rest` on its input, so that it can be measured in turn with something else.

Each event has the seed's ten keys and is signed with HMAC. Plain on purpose, and no worse than the plan: one connection, no clumsy
detour. It knows nothing of clusters, resets, outages or duplicates.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import socket
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats

POLL = 5.0  # seconds: the seed's poll_interval
PAGE = 400  # rows that fit into one answer of wazuh-db
STREAM, SUBJECTS = "SEED", "seed.agent.*.status"
COLUMNS = "id,name,ip,connection_status,last_keepalive,node_name"
STATUS = {"active": "Active", "disconnected": "Disconnected", "pending": "Pending", "never_connected": "NeverConnected"}

Row = dict[str, Any]
Read = Callable[[], Iterator[Row]]


def over_file(path: Path) -> Read:
    """All rows of the file; a lock is waited for as rusqlite does by default, five seconds."""

    def read() -> Iterator[Row]:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        database.row_factory = sqlite3.Row
        try:
            yield from map(dict, database.execute(f"select {COLUMNS} from agent where id>0"))
        except sqlite3.OperationalError:
            return  # locked still: the next poll
        finally:
            database.close()

    return read


def over_socket(path: Path) -> Read:
    """All rows over the socket, page by page."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))

    def page(after: int) -> list[Row]:
        request = f"global sql select {COLUMNS} from agent where id>{after} order by id limit {PAGE}".encode()
        connection.sendall(struct.pack("<I", len(request)) + request)
        answer = _exactly(connection, struct.unpack("<I", _exactly(connection, 4))[0])
        found: list[Row] = json.loads(answer.partition(b" ")[2])
        return found

    def read() -> Iterator[Row]:
        after, found = 0, page(0)
        while found:
            yield from found
            after = found[-1]["id"]
            found = page(after) if len(found) == PAGE else []

    return read


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


def event(row: Row, previous: str, key: bytes) -> bytes:
    """The seed's AgentStatusEvent, signed."""
    now = datetime.now(UTC)  # noqa: TID251
    seen = row.get("last_keepalive")
    body = {
        "agent_id": f"{row['id']:03d}",
        "agent_name": row["name"],
        "previous_status": STATUS[previous],
        "current_status": STATUS[row["connection_status"]],
        "ip_address": row.get("ip"),
        "last_keepalive": None if seen is None else datetime.fromtimestamp(seen, UTC).isoformat(),
        "manager_node": row.get("node_name"),
        "timestamp": now.isoformat(),
        "event_id": f"evt_{row['id']:03d}_{int(now.timestamp())}_status_change",
    }
    text = json.dumps(body, sort_keys=True).encode()
    return json.dumps(body | {"signature": hmac.new(key, text, hashlib.sha256).hexdigest()}).encode()


async def work(read: Read, url: str) -> None:
    client = await nats.connect(url)
    publish = client.jetstream().publish
    known: dict[int, str] = {row["id"]: row["connection_status"] for row in read()}
    loop, working = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, lambda: obey(working))
    print("ready", flush=True)
    while True:
        await working.wait()
        due = loop.time() + POLL
        for row in list(read()):
            before = known.get(row["id"])
            if before is not None and before != row["connection_status"]:
                await publish(f"seed.agent.{row['id']:03d}.status", event(row, before, b"k" * 32))
            known[row["id"]] = row["connection_status"]
        await asyncio.sleep(max(0.0, due - loop.time()))


def obey(working: asyncio.Event) -> None:
    word = sys.stdin.readline().strip()
    if word not in ("go", "rest"):
        sys.exit(0)
    working.set() if word == "go" else working.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--socket", type=Path)
    arguments = parser.parse_args()
    read = over_socket(arguments.socket) if arguments.socket else over_file(arguments.file)
    asyncio.run(work(read, arguments.url))


if __name__ == "__main__":
    main()
