"""What a row of the ledger holds comes back as it was."""

import json
import sqlite3
from dataclasses import fields, replace
from typing import get_args

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from relay import events, stored
from relay.decided import Agent, Ghost, Hold, HoldKind, Manager, Move
from relay.schema import AGENTS, GHOSTS, MANAGERS
from shared.models import AgentRow
from tests.relay.lab import T0

ANY_TEXT = st.text(st.characters(categories=None), max_size=20)  # lone surrogates too
ODD = ANY_TEXT | st.text(st.sampled_from("\\u0\0\ud800d8f"), max_size=12)


@given(ODD)
@example("\\u0000")
@example("\ud83d\ude00")
def test_every_text_is_stored_as_one_that_databases_hold_and_comes_back(text: str) -> None:
    written = stored.plain(text)
    written.encode()
    assert "\0" not in written
    assert stored.original(written) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\\")))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert stored.plain(text) == text


@given(st.dictionaries(ODD, ODD, max_size=3))
def test_headers_come_back_from_ascii(headers: dict[str, str]) -> None:
    text = stored.headers_text(headers)
    assert text.isascii()
    assert "\0" not in text
    assert stored.headers_of(text) == headers


NUMBERS = st.integers(0, 2**63 - 1)
TIMES = st.dictionaries(NUMBERS, NUMBERS, max_size=5)


@given(TIMES, st.frozensets(NUMBERS), TIMES)
def test_a_quiet_list_comes_back_with_whose_row_changed_since(quiet: dict[int, int], news: frozenset[int], woken: dict[int, int]) -> None:
    told = (quiet, news, woken, 2**64 - 1)
    assert stored.quiet_of(stored.quiet_bytes(told)) == told


def test_that_there_was_no_quiet_list_yet_comes_back() -> None:
    assert stored.quiet_of(stored.quiet_bytes(({}, None, {}, 7))) == ({}, None, {}, 7)


def test_a_quiet_list_of_an_older_version_has_no_digest() -> None:
    assert stored.quiet_of(msgpack.packb(({1: 2}, [3], {}))) == ({1: 2}, frozenset({3}), {}, None)


def test_the_largest_number_of_a_row_is_the_largest_that_a_database_holds() -> None:
    connection = sqlite3.connect(":memory:")
    assert connection.execute("SELECT ?", (stored.MAX_INT,)).fetchone() == (stored.MAX_INT,)
    try:
        connection.execute("SELECT ?", (stored.MAX_INT + 1,))
    except OverflowError:
        return
    finally:
        connection.close()
    raise AssertionError("a larger number fits")


MOMENTS = st.integers(0, stored.MAX_INT)
MOVES = st.builds(Move, node=ODD, since=MOMENTS, at=MOMENTS)
HOLDS = st.builds(Hold, kind=st.sampled_from(get_args(HoldKind)), since=MOMENTS, until=MOMENTS)
AGENT = st.builds(
    Agent, id=MOMENTS, name=ODD, date_add=MOMENTS, status=st.sampled_from(get_args(events.Status)),
    reason=st.sampled_from(get_args(events.Reason)), since=MOMENTS, ip=st.none() | ODD, last_keepalive=st.none() | MOMENTS,
    manager_node=ODD, witness=st.none() | ODD, contact=st.none() | MOMENTS, last_event_id=st.just("evt"), hold=st.none() | HOLDS,
    mirrored=st.booleans(), moving=st.none() | MOVES, overdue=st.none() | MOMENTS, refused=st.booleans(),
)  # fmt: skip
GHOST = st.builds(
    Ghost, id=MOMENTS, name=ODD, date_add=MOMENTS, since=MOMENTS, until=MOMENTS, last_event_id=st.just("evt"), told=st.booleans()
)
MANAGER = st.builds(
    Manager, node=ODD, reset_at=MOMENTS, unreachable=st.booleans(), clock_off=st.booleans(), twin_at=MOMENTS, last_event_id=st.just("evt")
)


AGENT_ONE = Agent(
    1000, "web", T0 + 2, "Active", "returned", T0, "10.0.0.1", T0 + 1, "m", "m", T0 + 1, "evt", None, went_at=T0
)  # fmt: skip


@given(AGENT)
def test_an_agent_comes_back_with_its_move_and_its_silence(agent: Agent) -> None:
    row = stored.agent_row(agent)
    assert stored.agents_of([row, row], [None, None]) == [agent, agent]
    assert len(row) == len(AGENTS.c)


def test_what_a_row_holds_of_an_agent_is_not_held_twice() -> None:
    """A hundred thousand agents that come back bring no name, no address and no time of their own."""
    row, odd = AgentRow(1000, "web", "10.0.0.1", "active", 0, T0, T0 + 1, T0 + 2, "m"), "m\0"
    text = json.dumps(stored.agent_row(AGENT_ONE._replace(manager_node=odd, witness=odd)))
    (first,), (second,) = (stored.agents_of([json.loads(text)], [row]) for _ in range(2))
    assert first == second == AGENT_ONE._replace(manager_node=odd, witness=odd)
    assert (first.id is row.id, first.name is row.name, first.ip is row.ip) == (True, True, True)
    assert (first.since is row.disconnection_time, first.contact is row.last_keepalive, first.date_add is row.date_add) == (True,) * 3
    assert (first.status is second.status, first.manager_node is second.manager_node, first.witness is second.witness) == (True,) * 3


@given(GHOST)
def test_a_ghost_comes_back(ghost: Ghost) -> None:
    row = stored.ghost_row(ghost)
    assert stored.ghost_of(row) == ghost
    assert len(row) == len(GHOSTS.c) == len(fields(Ghost))


@given(GHOST, st.integers(stored.MAX_INT, 2**70))
def test_a_ghost_until_a_time_that_no_database_holds_is_one_until_the_last_that_it_does(ghost: Ghost, until: int) -> None:
    assert stored.ghost_of(stored.ghost_row(replace(ghost, until=until))).until == stored.MAX_INT


@given(MANAGER)
def test_a_manager_comes_back(manager: Manager) -> None:
    row = stored.manager_row(manager)
    assert stored.manager_of(row) == manager
    assert len(row) == len(MANAGERS.c) == len(fields(Manager))


@given(AGENT | GHOST | MANAGER)
def test_what_is_stored_is_what_a_database_holds(value: Agent | Ghost | Manager) -> None:
    match value:
        case Agent():
            row = stored.agent_row(value)
        case Ghost():
            row = stored.ghost_row(value)
        case Manager():
            row = stored.manager_row(value)
    for field in row:
        if isinstance(field, str):
            assert "\0" not in field
            field.encode()
