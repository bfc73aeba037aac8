"""The floor of a collector's CPU: looks at wazuh-db that ask and read and no more, and changes made safe, signed and published.

    python tests/bench/bare_collector.py --socket HOME/queue/db/wdb --sql "select …" --looks 24 [--changes 5 --url nats://… --spool FILE]

Nothing is compared, decoded or measured; no table is held. A change is what a snapshot of one agent is: one row into a SQLite file and
the last one out of it, in one transaction; an HMAC; a message and its ack. It works between the lines `go` and `rest` on its input, so
that it can be measured in turn with something else.
"""

import argparse
import asyncio
import hashlib
import hmac
import socket
import sqlite3
import struct
import sys
import threading
import time
from pathlib import Path

import nats

STREAM, SUBJECT = "LEAST", "least"
SNAPSHOT = 450  # bytes of one with a single row, as a collector sends it


def look(path: Path, sql: str, rate: float, working: threading.Event) -> None:
    """For ever, `rate` times a second. A blocking thread costs the least."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    request = f"global sql {sql}".encode()
    frame, buffer = struct.pack("<I", len(request)) + request, bytearray(65536)
    while working.wait():
        connection.sendall(frame)
        connection.recv_into(buffer)
        time.sleep(1 / rate)


async def change(url: str, path: Path, rate: float, working: threading.Event) -> None:
    """For ever, `rate` times a second."""
    stream, spool = (await nats.connect(url)).jetstream(), sqlite3.connect(path)
    await stream.add_stream(name=STREAM, subjects=[SUBJECT])
    spool.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE items (number INTEGER PRIMARY KEY, payload BLOB)")
    number, payload = 0, bytes(SNAPSHOT)
    while True:
        await asyncio.sleep(1 / rate)
        if not working.is_set():
            continue
        number += 1
        with spool:
            spool.execute("DELETE FROM items WHERE number < ?", (number,))
            spool.execute("INSERT INTO items VALUES (?, ?)", (number, payload))
        signature = hmac.new(b"k" * 32, payload, hashlib.sha256).hexdigest()
        await stream.publish(SUBJECT, payload, headers={"Nats-Msg-Id": str(number), "Wazuh-Signature": signature})


async def work(arguments: argparse.Namespace) -> None:
    working = threading.Event()

    def obey() -> None:
        word = sys.stdin.readline().strip()
        if word not in ("go", "rest"):
            sys.exit(0)
        working.set() if word == "go" else working.clear()

    asyncio.get_running_loop().add_reader(sys.stdin, obey)
    threading.Thread(target=look, args=(arguments.socket, arguments.sql, arguments.looks, working), daemon=True).start()
    print("ready", flush=True)
    if arguments.changes:
        await change(arguments.url, arguments.spool, arguments.changes, working)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--sql", required=True, help="what a look asks")
    parser.add_argument("--looks", type=float, required=True, help="a second")
    parser.add_argument("--changes", type=float, default=0.0, help="a second")
    parser.add_argument("--url")
    parser.add_argument("--spool", type=Path)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
