"""Laws of putting aside: what is kept is counted, and what gives way is told."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.admit import Raw
from relay.books import LEDGER, Books
from relay.events import Message
from relay.keeper import Keeper
from relay.ledger import Ledger
from relay.stored import Outgoing
from shared.errors import Quarantine
from shared.telemetry import Telemetry
from tests.guards import guard
from tests.relay.ledgers import fresh_url, opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(opened(fresh_url(tmp_path))) as made:
        yield made


async def test_above_its_bound_the_oldest_give_way_counted_and_told(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    books, metrics = Books(guard(LEDGER)), Telemetry("relay")
    keeper = Keeper(books, ledger, metrics, most=1000)
    for position in (1, 2, 3):
        await keeper.refuse(Raw("wazuh.raw.node01", {}, b"x" * 400, position, 0), Quarantine("malformed", "refused"))
    out = Outgoing(9, 3, Message("wazuh.agent.001.status", "evt_1", b"y" * 400, {"A": "b"}))
    await keeper.leave_out(out, Quarantine("too_large", "too large"), 0)
    books.close()
    event, raw = ledger.shelf.kept(10)
    assert (event.headers, event.position, raw.position) == ({"A": "b", "Nats-Msg-Id": "evt_1", "Wazuh-Outbox-Sequence": "9"}, 3, 3)
    text = metrics.text().decode()
    assert "wazuh_jetstream_relay_quarantine_overflow_total 2.0" in text
    assert 'wazuh_jetstream_relay_quarantined_total{reason="too_large"} 1.0' in text
    assert caplog.text.count("its 1 oldest messages gave way") == 2
