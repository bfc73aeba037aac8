"""The floor of latency: the least that can be between a row and a stream. Polls a few rows, publishes what changed, and nothing else.

    python tests/bench/bare.py --url nats://… --socket HOME/queue/db/wdb --agents 200      over wazuh-db's socket
    python tests/bench/bare.py --url nats://… --file HOME/queue/db/global.db --agents 200  over the file

No decision, no signature, no spool, no ledger, and no look at the rest of the fleet: what it costs cannot be saved. It works between
the lines `go` and `rest` on its input, so that it can be measured in turn with something else.
"""

import argparse
import asyncio
import json
import socket
import sqlite3
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import nats

PACE = 0.02  # seconds between two looks
STREAM, SUBJECT = "BARE", "bare"

Look = Callable[[], dict[int, str]]


def over_socket(path: Path, agents: int) -> Look:
    """A look over wazuh-db's socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    request = f"global sql select id i,connection_status s from agent where id between 1 and {agents}".encode()

    def look() -> dict[int, str]:
        connection.sendall(struct.pack("<I", len(request)) + request)
        answer = _exactly(connection, struct.unpack("<I", _exactly(connection, 4))[0])
        return {row["i"]: row["s"] for row in json.loads(answer[3:])}

    return look


def over_file(path: Path, agents: int) -> Look:
    """A look into the file; where it is locked, nothing is seen."""

    def look() -> dict[int, str]:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        try:
            return dict(database.execute("select id,connection_status from agent where id between 1 and ?", (agents,)).fetchall())
        except sqlite3.OperationalError:
            return {}
        finally:
            database.close()

    return look


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += connection.recv(size - len(found))
    return found


async def work(look: Look, url: str) -> None:
    client = await nats.connect(url)
    publish = client.jetstream().publish
    working, known = asyncio.Event(), look()
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: _obey(working))
    print("ready", flush=True)
    while True:
        await working.wait()
        for number, status in look().items():
            if known.get(number) != status:
                known[number] = status
                await publish(SUBJECT, json.dumps({"agent_id": f"{number:03d}", "status": status}).encode())
        await asyncio.sleep(PACE)


def _obey(working: asyncio.Event) -> None:
    word = sys.stdin.readline().strip()
    if word == "go":
        working.set()
    elif word == "rest":
        working.clear()
    else:
        sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--agents", type=int, required=True)
    arguments = parser.parse_args()
    look = over_socket(arguments.socket, arguments.agents) if arguments.socket else over_file(arguments.file, arguments.agents)
    asyncio.run(work(look, arguments.url))


if __name__ == "__main__":
    main()
