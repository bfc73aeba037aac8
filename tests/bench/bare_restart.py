"""The floor of a restart: a process that imports what a relay does, and reads and unpacks what the ledger holds of nodes and agents.

python tests/bench/bare_restart.py LEDGER_FILE
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgpack
import zstandard

import relay.run  # noqa: F401 -- imported for what that costs

ZSTD = b"\x01"


def main() -> None:
    with closing(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)) as ledger:
        agents = ledger.execute("SELECT * FROM agents").fetchall()
        payloads = [payload for (payload,) in ledger.execute("SELECT payload FROM snapshots")]
    for payload in payloads:
        msgpack.unpackb(zstandard.decompress(payload[1:]) if payload[:1] == ZSTD else payload[1:])
    print(len(agents), len(payloads))


if __name__ == "__main__":
    main()
