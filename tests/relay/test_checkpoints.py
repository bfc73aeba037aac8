"""Laws of checkpoints: each head once, what fails is tried again, and nothing is told that the stream does not hold."""

import asyncio
import json
from pathlib import Path

import pytest

from relay import checkpoints, seal, session
from relay.books import LEDGER, Books
from relay.chain import Head
from relay.checkpoints import Checkpoints
from relay.decided import Decision
from relay.fleet import Fleet
from relay.ledger import Ledger
from shared.clock import SystemClock
from shared.telemetry import Telemetry
from tests.guards import guard
from tests.nats_server import NatsServer
from tests.relay import ledgers
from tests.relay.rig import DEADLINE_S, Rig
from tests.relay.streams import SIGNER, messages


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    return Rig(tmp_path, nats_server)


def decided(ledger: Ledger, position: int) -> None:
    made = messages(2 * position)[-2:]
    ledger.record(Decision(position, 0, (), (), (), tuple(made), 0, None, settled=True), Fleet(""), None)


def test_a_checkpoint_is_signed_and_says_how_far_the_chain_has_come() -> None:
    head = Head("0123456789abcdef", 7, "d" * 64)
    sealed = seal.seal_apart(checkpoints.message("wazuh", "lab", head, 1_000), SIGNER)
    assert seal.verify(*sealed, SIGNER).ok
    fields = json.loads(sealed[1])
    assert fields.pop("signature")
    assert fields == {"chain": "0123456789abcdef", "sequence": 7, "digest": "d" * 64, "timestamp": "1970-01-01T00:00:01Z"}
    assert (sealed[0], sealed[2]["Wazuh-Kind"]) == ("wazuh.security.checkpoints", "checkpoint")


async def test_each_head_is_told_once_as_soon_as_there_is_a_stream_for_it(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    ledger, books, metrics = ledgers.opened(rig.settings.relay.ledger_url), Books(guard(LEDGER)), Telemetry("relay")
    async with session.connected(rig.settings, "") as connection, rig.client() as client:
        telling = Checkpoints(connection, books, ledger, SIGNER, "wazuh", 0.01, metrics, SystemClock())
        assert not await telling.tell()  # nothing to tell
        decided(ledger, 1)
        assert not await telling.tell()  # and nothing in the stream
        ledger.mark_sent(1)
        assert [await telling.tell(), await telling.tell()] == [False, False]
        assert caplog.text.count("the head of the chain cannot be kept") == 1
        await rig.provision()
        running = asyncio.create_task(telling.run())
        for sent in (1, 2):
            ledger.mark_sent(sent)
            async with asyncio.timeout(DEADLINE_S):
                while len(found := await rig.stored(client, "WAZUH_CHECKPOINTS")) < sent:
                    await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert await telling.tell()
    assert [one.fields["sequence"] for one in found] == [1, 2]
    assert b'checkpoints_total{outcome="failed"} 2.0' in metrics.text()
    assert b'checkpoints_total{outcome="acked"} 2.0' in metrics.text()
    books.close()
    ledger.close()
