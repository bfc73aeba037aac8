"""Hands an operator's request to the relay that decides, and tells what became of it.

The request goes into RAW, under the relay's own credentials and key; the ledger says when it was taken up.
"""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Final

from shared import config, jetstream, sealing, subjects
from shared.clock import Clock
from shared.errors import Quarantine, Stop

from . import control, ledger, session, trust
from .stored import Quarantined

WAIT_S: Final = 15.0  # longer than a takeover by another relay
LOOK_S: Final = 0.1
TIMEOUT_S: Final = 5.0
NEWEST: Final = 100  # refused messages among which a refusal is looked for


class NotDone(Stop):
    """What was asked for is not there, or may not be done."""

    exit_code = 1


class NotYet(Stop):
    """The request is in RAW, and no relay has taken it up."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. `refusal`: the message that was refused again, or the request itself, as it is quarantined now."""

    position: int  # of the request in RAW
    refusal: Quarantined | None


def ask(settings: config.Config, request: control.Request, clock: Clock) -> Answer:
    """Publish a request and wait until it was taken up. Raises NotYet; ConfigError, a kind of Transient where it cannot be asked."""
    return asyncio.run(_asked(settings, request, clock))


async def _asked(settings: config.Config, request: control.Request, clock: Clock) -> Answer:
    signer = trust.signer(settings)
    async with session.connected(settings, "") as connection:
        position = await _publish(connection, settings.nats.subject_prefix, signer, request, clock)
    try:
        async with asyncio.timeout(WAIT_S):
            return await _answered(settings.relay.ledger_url, position, _subjects(settings, request))
    except TimeoutError:
        raise NotYet(f"the request is message {position} of RAW and waits for a relay: start one, or see why none takes it up") from None


def _subjects(settings: config.Config, request: control.Request) -> set[str]:
    """Under which a refusal would stand."""
    own = subjects.control(settings.nats.subject_prefix)
    return {own, request.subject} if isinstance(request, control.Retry) else {own}


async def _answered(url: str, position: int, told_under: set[str]) -> Answer:
    while True:
        answer = _answer(url, position, told_under)
        if answer is not None:
            return answer
        await asyncio.sleep(LOOK_S)


async def _publish(
    connection: jetstream.Connection, prefix: str, signer: sealing.MessageSigner, request: control.Request, clock: Clock
) -> int:
    subject, now, message_id = subjects.control(prefix), clock.now_ms(), f"control:{secrets.token_hex(16)}"
    body = control.encode(request, now)
    headers = {control.MESSAGE_ID: message_id, sealing.SIGNATURE_HEADER: control.signature(signer, subject, body, message_id)}
    try:
        return (await connection.publish(subject, body, headers, TIMEOUT_S)).seq
    except Quarantine as refusal:
        raise NotDone(f"the request does not fit into RAW: {refusal}") from refusal


def _answer(url: str, position: int, told_under: set[str]) -> Answer | None:
    book = ledger.Ledger.open(url, read_only=True)
    try:
        if book.position() < position:
            return None
        refused = (one for one in book.shelf.kept(NEWEST) if one.position == position and one.subject in told_under)
        return Answer(position, next(refused, None))
    finally:
        book.close()
