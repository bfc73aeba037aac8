"""A ledger becomes what the program needs by itself, step by step, or is left alone."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, inspect

from relay import migrations, schema
from relay.database import Database
from relay.ledger import Ledger
from relay.migrations import STEPS, Step
from shared.errors import ConfigError, WazuhJetstreamError
from tests.relay import ledgers

NEXT = len(STEPS) + 1
COLOUR = Step(NEXT, "colour", ("ALTER TABLE agents ADD COLUMN colour TEXT", "CREATE TABLE colours (number {serial} NOT NULL)"))
BROKEN = Step(NEXT + 1, "broken", ("CREATE TABLE shapes (number {big} NOT NULL)", "ALTER TABLE nowhere ADD COLUMN shape TEXT"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def recorded(database: Database) -> list[tuple[int, str]]:
    with database.read() as connection:
        return [(number, name) for number, name in connection.exec_driver_sql("SELECT number, name FROM migrations ORDER BY number")]


def shape(engine: Engine) -> dict[str, object]:
    """Everything that a database says of its tables."""
    found = inspect(engine)
    return {
        name: (
            [(c["name"], repr(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            [(index["name"], index["column_names"]) for index in found.get_indexes(name)],
        )
        for name in found.get_table_names()
    }


def test_the_steps_make_the_tables_that_the_program_uses(database: Database, url: str) -> None:
    migrations.migrate(database)
    made = shape(database._engine)
    with database.write() as connection:
        schema.METADATA.drop_all(connection)
        schema.METADATA.create_all(connection)
    assert made == shape(database._engine)


def test_steps_are_numbered_from_one_without_a_gap() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))


def test_a_step_runs_once_and_keeps_what_is_there(url: str) -> None:
    desk = ledgers.settled(ledgers.opened(url))
    desk.ledger.close()
    database = Database.open(url)
    for _ in range(2):
        migrations.migrate(database, (*STEPS, COLOUR))
    assert recorded(database)[-1] == (NEXT, "colour")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM agents WHERE colour IS NULL").scalar() == 2
    database.close()


def test_a_step_that_fails_leaves_nothing_and_what_came_before_it_stays(database: Database) -> None:
    with pytest.raises(WazuhJetstreamError, match="nowhere"):
        migrations.migrate(database, (*STEPS, COLOUR, BROKEN))
    assert "colours" in tables(database)
    assert "shapes" not in tables(database)
    assert [number for number, _ in recorded(database)] == [*range(1, NEXT), NEXT]


def test_a_ledger_newer_than_the_program_is_refused_by_both_versions_and_not_touched(url: str) -> None:
    database = Database.open(url)
    migrations.migrate(database, (*STEPS, COLOUR))
    before = tables(database)
    database.close()
    for read_only in (False, True):
        with pytest.raises(
            ConfigError, match=f"is at version {NEXT}, this program knows versions up to {len(STEPS)}; start the wazuh-jetstream"
        ):
            Ledger.open(url, read_only=read_only)
    database = Database.open(url)
    assert tables(database) == before
    database.close()


def test_who_only_reads_does_not_migrate(url: str) -> None:
    Ledger.open(url).close()
    database = Database.open(url, read_only=True)
    migrations.require(database)
    with pytest.raises(ConfigError, match=f"is at version {len(STEPS)}, this program needs version {NEXT}; start the relay once"):
        migrations.require(database, (*STEPS, COLOUR))
    database.close()


def test_a_database_of_something_else_is_left_alone(database: Database, url: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE agent (id INTEGER)")
    database.close()
    with pytest.raises(ConfigError, match="holds something else than a ledger; give the relay a database of its own"):
        Ledger.open(url)
    reopened = Database.open(url)
    assert tables(reopened) == {"agent"}
    reopened.close()
