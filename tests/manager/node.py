"""A simulated Wazuh manager node: a process that owns a home directory, global.db, client.keys and queue/db/wdb.

    python tests/manager/node.py --home DIR --schema 4.14 --node-name node01 --node-type master [--cluster wazuh]
                                 [--commit-seconds 61] [--disconnection-time 15m] [--manager-name HOST] [--wait]

It decides nothing; a driver plays a world's writes on it. Lines on stdin and stdout are JSON objects:
    {"id": 7, "writes": [{"op": "insert", "row": {…}}, {"op": "update", "ids": […], "columns": {…}},
                         {"op": "delete", "ids": […]}, {"op": "keys", "text": "…"}]}
With "at_once": true nobody sees the table between two of them.
    -> {"applied": 7, "at": 1795400000.25}    Unix time once the last write of the line is visible
    -> {"error": 7, "why": "…"}               the write that failed and those after it in the line were not played
The first line on stdout is {"ready": PID, "at": …}, when the socket answers; with --wait that is after the first line on
stdin was played. EOF on stdin or SIGTERM: commit, close, exit 0. kill -9 leaves what a killed wazuh-db leaves.
--manager-name names row 0 (4.x) as modulesd does. An empty --cluster disables the cluster. Standard library only.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.manager import home as layout
from tests.manager.commands import Commands
from tests.manager.database import Database
from tests.manager.server import Server


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    layout.lay_out(options.home, options)
    os.chdir(options.home)  # a socket path may have 107 bytes; relative to the home it is short, as in Wazuh's own
    database = Database(Path("queue/db/global.db"), options.schema, options.commit_seconds)
    if options.manager_name and options.schema == "4.14":
        _name_manager(database, options.manager_name, options.node_name)
    try:
        _run(database, wait=options.wait)
    except SystemExit:
        pass
    finally:
        database.close()
        Path("queue/db/wdb").unlink(missing_ok=True)
    return 0


def _run(database: Database, *, wait: bool) -> None:
    server = None if wait else _serve(database)
    for line in sys.stdin.buffer:
        _say(_play_line(database, line))
        server = server or _serve(database)


def _serve(database: Database) -> Server:
    server = Server(Path("queue/db/wdb"), Commands(database))
    _say({"ready": os.getpid()})
    return server


def _play_line(database: Database, line: bytes) -> dict[str, Any]:
    number: object = None
    try:
        batch = json.loads(line)
        number = batch["id"]
        writes = batch["writes"]
        if batch.get("at_once"):
            database.play([write for write in writes if write["op"] != "keys"])
            writes = [write for write in writes if write["op"] == "keys"]
        for write in writes:
            if write["op"] == "keys":
                layout.write_keys(Path("etc/client.keys"), write["text"])
            else:
                database.play([write])
    except (ValueError, KeyError, TypeError, OSError, sqlite3.Error) as error:
        return {"error": number, "why": f"{type(error).__name__}: {error}"}
    return {"applied": number}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer | {"at": time.time_ns() / 1e9}) + "\n")
    sys.stdout.flush()


def _name_manager(database: Database, host: str, node: str) -> None:
    with database.use() as connection:
        connection.execute(
            "UPDATE agent SET name = ?, manager_host = ?, node_name = ?, version = 'Wazuh v4.14.7' WHERE id = 0", (host, host, node)
        )


def _leave(*_: object) -> None:
    raise SystemExit


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A simulated Wazuh manager node.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--schema", choices=("4.14", "5.0"), default="4.14")
    parser.add_argument("--node-name", default="node01")
    parser.add_argument("--node-type", choices=("master", "worker"), default="master")
    parser.add_argument("--cluster", default="wazuh")
    parser.add_argument("--commit-seconds", type=float, default=61.0)
    parser.add_argument("--disconnection-time", default="15m")
    parser.add_argument("--manager-name", default="")
    parser.add_argument("--wait", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
