"""Floors of the relay: the same bytes into the same places, with nothing decided, checked or remembered."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
from nats.aio.client import Client

from shared.jsapi import Message

FLOOR: Final = "FLOOR"
BATCH: Final = 500  # relay.batch_messages
PATIENCE: Final = 30.0


async def stream(client: Client, subject: str) -> None:
    """A stream like EVENTS for these messages, made anew and empty."""
    for verb, config in (("DELETE", None), ("CREATE", {"name": FLOOR, "subjects": [subject], "storage": "file", "allow_atomic": True})):
        await client.request(f"$JS.API.STREAM.{verb}.{FLOOR}", json.dumps(config).encode() if config else b"", timeout=PATIENCE)


async def publish(client: Client, messages: Sequence[Message], prefix: str) -> float:
    """Seconds to publish them in atomic batches, one in flight at a time, on subjects behind `prefix`."""
    began = time.perf_counter()
    for start in range(0, len(messages), BATCH):
        batch = messages[start : start + BATCH]
        for number, message in enumerate(batch[:-1], start=1):
            await client.publish(prefix + message.subject, message.body, headers=_numbered(message, start, number))
        last = _numbered(batch[-1], start, len(batch)) | {"Nats-Batch-Commit": "1"}
        answer = await client.request(prefix + batch[-1].subject, batch[-1].body, timeout=PATIENCE, headers=last)
        if "seq" not in json.loads(answer.data):
            raise RuntimeError(f"the floor's batch was refused: {answer.data!r}")
    return time.perf_counter() - began


def _numbered(message: Message, start: int, number: int) -> dict[str, str]:
    return {**message.headers, "Nats-Batch-Id": f"floor-{start}", "Nats-Batch-Sequence": str(number)}


Rows = Sequence[Sequence[Any]]


def insert(url: str, directory: Path, rows: Rows, each: int) -> float:
    """Seconds to put rows into a table of the same database, by one executemany in a transaction for each `each` of them."""
    return _insert_postgresql(url, rows, each) if url.startswith("postgresql") else _insert_sqlite(directory / "floor.db", rows, each)


_TABLE: Final = "(sequence bigint primary key, position bigint, subject text, message_id text, headers text, body {})"


def _insert_sqlite(path: Path, rows: Rows, each: int) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; DROP TABLE IF EXISTS floor; CREATE TABLE floor {_TABLE.format('blob')}"
        )
        began = time.perf_counter()
        for start in range(0, len(rows), each):
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO floor VALUES (?,?,?,?,?,?)", rows[start : start + each])
            database.execute("COMMIT")
        return time.perf_counter() - began


def _insert_postgresql(url: str, rows: Rows, each: int) -> float:
    with psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:")) as session, session.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS floor")
        cursor.execute(f"CREATE TABLE floor {_TABLE.format('bytea')}".encode())
        session.commit()
        began = time.perf_counter()
        for start in range(0, len(rows), each):
            cursor.executemany("INSERT INTO floor VALUES (%s,%s,%s,%s,%s,%s)", rows[start : start + each])
            session.commit()
        return time.perf_counter() - began


async def until(condition: Any, seconds: float, what: str) -> None:
    """Wait for an awaitable condition, looking again and again. RuntimeError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(0.02)
