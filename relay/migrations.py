"""How a ledger becomes what `relay.schema` says, step by step, by itself.

Rules
 * Steps are numbered from 1 and never change once they are released: a change of the schema is one more step at the end.
 * A step and the record of it are one transaction: it happened whole or not at all.
 * A ledger that is newer than the program is left alone, and so is a database that holds something else.
 * Relays that start together take turns; one that leads with the tables as they were is deposed (`relay.lease`).

To add a step: append it to STEPS, in SQL that SQLite and PostgreSQL both take, and change `relay.schema` to match.
`{big}` is a 64-bit number, `{blob}` bytes, `{serial}` a primary key that counts by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, insert, inspect, select, update

from shared.errors import ConfigError

from . import schema
from .database import Database

TYPES: Final[Mapping[str, Mapping[str, str]]] = {
    "sqlite": {"big": "INTEGER", "blob": "BLOB", "serial": "INTEGER PRIMARY KEY"},
    "postgresql": {"big": "BIGINT", "blob": "BYTEA", "serial": "BIGSERIAL PRIMARY KEY"},
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the schema."""

    number: int
    name: str
    statements: tuple[str, ...]


STEPS: Final[tuple[Step, ...]] = (
    Step(
        1,
        "first tables",
        (
            "CREATE TABLE migrations (number {big} NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
            """CREATE TABLE meta (
                id {big} NOT NULL PRIMARY KEY, position {big} NOT NULL, outbox_sequence {big} NOT NULL, sent_through {big} NOT NULL,
                began_at {big}, heard_at {big}, settled BOOLEAN NOT NULL)""",
            "INSERT INTO meta VALUES (1, 0, 0, 0, NULL, NULL, FALSE)",
            "CREATE TABLE nodes (number {big} NOT NULL PRIMARY KEY, node TEXT NOT NULL, facts TEXT NOT NULL)",
            "CREATE TABLE quiet (node_number {big} NOT NULL PRIMARY KEY, quiet {blob} NOT NULL)",
            """CREATE TABLE snapshots (
                node_number {big} NOT NULL, position {big} NOT NULL, now {big} NOT NULL, sent_at {big} NOT NULL,
                kind TEXT NOT NULL, payload {blob} NOT NULL, PRIMARY KEY (node_number, position))""",
            """CREATE TABLE agents (
                agent_id {big} NOT NULL PRIMARY KEY, name TEXT NOT NULL, date_add {big} NOT NULL, status TEXT NOT NULL,
                reason TEXT NOT NULL, since {big} NOT NULL, ip TEXT, last_keepalive {big}, manager_node TEXT NOT NULL, witness TEXT,
                contact {big}, last_event_id TEXT NOT NULL, hold_kind TEXT, hold_since {big}, hold_until {big})""",
            """CREATE TABLE history (
                number {serial} NOT NULL, position {big} NOT NULL, now {big} NOT NULL, muted BOOLEAN NOT NULL, kind TEXT NOT NULL,
                reason TEXT NOT NULL, agent_id {big} NOT NULL, agent_name TEXT NOT NULL, previous TEXT NOT NULL, current TEXT NOT NULL,
                ip TEXT, last_keepalive {big}, manager_node TEXT NOT NULL, timestamp {big} NOT NULL, event_id TEXT NOT NULL,
                late BOOLEAN NOT NULL)""",
            "CREATE INDEX history_agent_id ON history (agent_id, number)",
            """CREATE TABLE outbox (
                sequence {big} NOT NULL PRIMARY KEY, position {big} NOT NULL, subject TEXT NOT NULL, message_id TEXT NOT NULL,
                headers TEXT NOT NULL, body {blob} NOT NULL)""",
            """CREATE TABLE quarantine (
                number {serial} NOT NULL, position {big} NOT NULL, now {big} NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL,
                sentence TEXT NOT NULL, headers TEXT NOT NULL, payload {blob} NOT NULL)""",
        ),
    ),
    Step(
        2,
        "moves, silences, ghosts and managers",
        (
            "ALTER TABLE agents ADD COLUMN hold_began {big}",
            "ALTER TABLE agents ADD COLUMN mirrored BOOLEAN NOT NULL DEFAULT FALSE",
            "ALTER TABLE agents ADD COLUMN moving_node TEXT",
            "ALTER TABLE agents ADD COLUMN moving_since {big}",
            "ALTER TABLE agents ADD COLUMN moving_at {big}",
            "ALTER TABLE agents ADD COLUMN overdue {big}",
            "ALTER TABLE agents ADD COLUMN refused BOOLEAN NOT NULL DEFAULT FALSE",
            "ALTER TABLE history ADD COLUMN left_manager TEXT",
            """CREATE TABLE ghosts (
                agent_id {big} NOT NULL PRIMARY KEY, name TEXT NOT NULL, date_add {big} NOT NULL, since {big} NOT NULL,
                until {big} NOT NULL, last_event_id TEXT NOT NULL, told BOOLEAN NOT NULL)""",
            """CREATE TABLE managers (
                node TEXT NOT NULL PRIMARY KEY, reset_at {big} NOT NULL, unreachable BOOLEAN NOT NULL, clock_off BOOLEAN NOT NULL,
                twin_at {big} NOT NULL, last_event_id TEXT NOT NULL)""",
        ),
    ),
    Step(
        3,
        "lease",
        (
            "CREATE TABLE lease (id {big} NOT NULL PRIMARY KEY, epoch {big} NOT NULL, holder TEXT NOT NULL, until {big} NOT NULL)",
            "INSERT INTO lease VALUES (1, 0, '', 0)",
        ),
    ),
    Step(
        4,
        "refusals and disconnections that were told",
        (
            "ALTER TABLE agents ADD COLUMN refused_by TEXT",
            "ALTER TABLE agents ADD COLUMN refused_at {big}",
            "ALTER TABLE agents ADD COLUMN went_at {big}",
        ),
    ),
    Step(  # what waits in the outbox goes without a link: the chain begins with the next message that is decided
        5,
        "chain",
        (
            "ALTER TABLE meta ADD COLUMN chain TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE meta ADD COLUMN chain_digest TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE outbox ADD COLUMN chain TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE outbox ADD COLUMN previous TEXT NOT NULL DEFAULT ''",
        ),
    ),
)


def migrate(database: Database, steps: Sequence[Step] = STEPS) -> None:
    """Bring a ledger to the program's version. Raises ConfigError for a newer ledger, and for what is none."""
    while _known_version(database, steps) < len(steps):
        with database.write() as connection:
            database.serialize(connection)
            for step in steps[version(connection, database.where, steps) :][:1]:
                _take(connection, step)


def _take(connection: Connection, step: Step) -> None:
    types = TYPES[connection.dialect.name]
    for statement in step.statements:
        connection.exec_driver_sql(statement.format(**types))
    connection.execute(insert(schema.MIGRATIONS).values(number=step.number, name=step.name))
    if schema.LEASE.name in inspect(connection).get_table_names():
        # Who leads knows the tables as they were: it leads no more.
        connection.execute(update(schema.LEASE).values(epoch=schema.LEASE.c.epoch + 1, holder="", until=0))


def require(database: Database, steps: Sequence[Step] = STEPS) -> None:
    """Leave a ledger as it is, but raise ConfigError unless it is at the program's version."""
    found = _known_version(database, steps)
    if found < len(steps):
        raise ConfigError(
            f"the ledger {database.where} is at version {found}, this program needs version {len(steps)};"
            " start the relay once, it brings it there"
        )


def version(connection: Connection, where: str, steps: Sequence[Step] = STEPS) -> int:
    """How many steps a database has taken. Raises ConfigError where it took more than the program knows, or is no ledger."""
    found = _version(connection, where)
    if found > len(steps):
        raise ConfigError(
            f"the ledger {where} is at version {found}, this program knows versions up to {len(steps)};"
            " start the wazuh-jetstream that wrote it, or a newer one"
        )
    return found


def _known_version(database: Database, steps: Sequence[Step]) -> int:
    with database.read() as connection:
        return version(connection, database.where, steps)


def _version(connection: Connection, where: str) -> int:
    tables = inspect(connection).get_table_names()
    if schema.MIGRATIONS.name in tables:
        return connection.scalar(select(func.max(schema.MIGRATIONS.c.number))) or 0
    if tables:
        raise ConfigError(f"the database {where} holds something else than a ledger; give the relay a database of its own")
    return 0
