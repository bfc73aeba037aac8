"""The chain in the ledger: decided with the messages, once, the same however often it was interrupted, lost or taken over."""

from collections.abc import Iterator

import pytest

from relay.chain import NO_LINK, Chain, Head, Linked
from relay.database import Database
from relay.decided import Decision
from relay.fleet import Fleet
from relay.ledger import Ledger
from relay.migrations import STEPS, migrate
from tests.relay import ledgers, streams
from tests.relay.streams import NONE, messages

MADE = messages(6)
pytestmark = pytest.mark.usefixtures("read_back")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = ledgers.opened(url)
    yield opened
    opened.close()


def record(ledger: Ledger, position: int, first: int, last: int) -> None:
    """Decide the messages from one sequence to another; all from one position, as the chain of `streams` has it."""
    decided = Decision(position, 0, (), (), (), tuple(MADE[first - 1 : last]), 0, None, settled=True)
    ledger.record(decided, Fleet(""), None)


def chained(start: Head, first: int, last: int, position: int) -> list[Linked]:
    return list(Chain(start).extend(MADE[first - 1 : last], position))


def outbox(ledger: Ledger) -> list[Linked]:
    return [Linked(out.sequence, out.link, out.message) for out in ledger.outbox(1000)]


def test_each_decision_goes_on_with_the_chain_where_the_one_before_ended(ledger: Ledger) -> None:
    record(ledger, 1, 1, 4)
    first = Chain(NONE)
    expected = [*first.extend(MADE[:4], 1), *first.extend(MADE[4:9], 2)]
    record(ledger, 2, 5, 9)
    record(ledger, 2, 5, 9)  # again, as after an error
    record(ledger, 3, 10, 9)  # nothing to tell
    assert outbox(ledger) == expected


def test_the_head_is_of_what_is_known_to_be_in_the_stream(ledger: Ledger) -> None:
    assert ledger.head() is None
    record(ledger, 1, 1, 4)
    assert ledger.head() is None
    digests = chained(NONE, 1, 4, 1)
    for sent in (1, 3):
        ledger.mark_sent(sent)
        assert ledger.head() == Head(digests[0].link.chain, sent, digests[sent].link.previous)
    ledger.mark_sent(4)
    end = Chain(NONE)
    list(end.extend(MADE[:4], 1))
    assert ledger.head() == end.head


def test_a_ledger_that_is_made_anew_goes_on_from_what_the_stream_ends_with(ledger: Ledger) -> None:
    head = Head("0123456789abcdef", 40, "d" * 64)
    for _ in range(2):  # told again, as after an error
        ledger.start_sequence_at(40, head)
        assert ledger.head() == head
    record(ledger, 1, 1, 3)
    assert outbox(ledger) == chained(head, 1, 3, 1)
    ledger.start_sequence_at(40, head._replace(digest="e" * 64))  # it knows better by now
    ledger.start_sequence_at(20, head._replace(sequence=20, digest="e" * 64))
    assert outbox(ledger) == chained(head, 1, 3, 1)


def test_what_a_power_failure_took_is_tied_to_what_the_stream_holds_of_it(ledger: Ledger) -> None:
    """Its last decisions are made again; what of them was published is the chain's end, whatever comes of deciding again."""
    record(ledger, 1, 1, 2)
    head = Head(chained(NONE, 1, 2, 1)[0].link.chain, 5, "d" * 64)
    ledger.mark_sent(5, head)
    assert ledger.head() == head
    record(ledger, 2, 3, 4)
    assert (outbox(ledger), ledger.head()) == ([], head)
    record(ledger, 3, 5, 8)
    assert outbox(ledger) == chained(head, 6, 8, 3)


def test_a_ledger_from_before_the_chain_begins_one_with_the_next_message_that_is_decided(url: str) -> None:
    database = Database.open(url)
    migrate(database, STEPS[:4])
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET outbox_sequence = 3, sent_through = 2, position = 9")
        empty = "x''" if url.startswith("sqlite") else "''::bytea"
        connection.exec_driver_sql(f"INSERT INTO outbox VALUES (3, 9, 's', 'm', '{{}}', {empty})")
    database.close()
    opened = ledgers.opened(url)
    assert (opened.head(), [out.link for out in opened.outbox(9)]) == (None, [NO_LINK])
    record(opened, 10, 1, 3)
    start = Head("", 3, "")
    assert outbox(opened)[1:] == chained(start, 1, 3, 10)
    for sent in (2, 3):
        opened.mark_sent(sent)
        assert opened.head() is None
    opened.mark_sent(4)
    assert opened.head() == Head(chained(start, 1, 1, 10)[0].link.chain, 4, chained(start, 1, 2, 10)[1].link.previous)
    opened.close()
    assert streams.heads(MADE[:1], start)[0].sequence == 4
