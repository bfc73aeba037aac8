"""Streams of events for tests: chained and sealed as the relay does it, and spoilt in every way that there is."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from relay import chain, checkpoints, encryption, events, heartbeat, seal
from relay.chain import Chain, Head
from relay.events import Event, Message, Summary
from relay.verify import Told
from shared import sealing
from tests.relay import lab

SIGNER = sealing.MessageSigner(sealing.Key(b"r" * sealing.KEY_BYTES))
OTHER = sealing.MessageSigner(sealing.Key(b"o" * sealing.KEY_BYTES))
T0 = 1_748_428_500
NONE = Head("", 0, "")


def event(number: int, agent: int = 1, name: str = "web-01") -> Event:
    """The number-th change of an agent."""
    gone = number % 2 == 1
    return Event(
        kind="disconnected" if gone else "connected",
        reason="stopped" if gone else "returned",
        agent_id=agent,
        agent_name=name,
        previous="Active" if gone else "Disconnected",
        current="Disconnected" if gone else "Active",
        ip=None,
        last_keepalive=T0 + number,
        manager_node="node01",
        timestamp=T0 + number,
        event_id=f"evt_{agent:03d}_{T0 + number}_{'disconnected' if gone else 'connected'}_{number:016x}",
        late=False,
    )


def messages(count: int) -> list[Message]:
    """The messages of so many events: two each, a batch for every other one, and an event of a manager now and then."""
    made = list[Message]()
    for number in range(1, count + 1):
        one = event(number)
        made += events.messages("wazuh", "lab", one)
        if number % 2 == 0:
            made += events.batches("wazuh", "lab", "node01", number, number, [event(number - 1), one], Summary(1, 1, 0, 2))
        if number % 3 == 0:
            of_manager = events.ManagerEvent("clock_off", "node01", T0 + number, f"evt_node01_{number}", {"behind_seconds": number / 8})
            made.append(events.manager_message("wazuh", "lab", of_manager))
    return made


def stream(
    made: Sequence[Message],
    signer: sealing.MessageSigner = SIGNER,
    head: Head = NONE,
    *,
    first: int = 1,
    chained: bool = True,
    crypt: encryption.EncryptionHandler | None = None,
) -> list[Told]:
    """What EVENTS holds of these messages, from stream sequence `first` on."""
    linked = Chain(head).extend(made, 7)
    return [
        told(first + place, seal.seal(one.message, one.sequence, 7, signer, chain.headers(one.link if chained else chain.NO_LINK), crypt))
        for place, one in enumerate(linked)
    ]


def told(sequence: int, sealed: seal.Sealed, at: int | None = None) -> Told:
    """A sealed message as it stands in a stream."""
    subject, body, headers = sealed
    return Told(sequence, (T0 + sequence) * 1000 if at is None else at, subject, headers, body)


def heads(made: Sequence[Message], head: Head = NONE) -> list[Head]:
    """The head after each message."""
    growing, found = Chain(head), list[Head]()
    for _ in growing.extend(made, 7):
        found.append(growing.head)
    return found


def checkpoint(head: Head, at: int = T0 * 1000, sequence: int = 1, signer: sealing.MessageSigner = SIGNER) -> Told:
    """A head as it stands in CHECKPOINTS."""
    return told(sequence, seal.seal_apart(checkpoints.message("wazuh", "lab", head, at), signer), at)


def beat(head: Head | None, at: int = T0 * 1000, sequence: int = 1, signer: sealing.MessageSigner = SIGNER) -> Told:
    """A head as it stands in HEARTBEATS."""
    made = lab.Lab()
    made.node("node01")
    made.full("node01", [], lab.T0)
    (body,) = heartbeat.bodies(made.fleet, at, head)
    return told(sequence, seal.seal_apart(heartbeat.message("wazuh", "lab", body, at), signer), at)


def restored(found: Iterable[Told]) -> list[Told]:
    """The messages as somebody published them again, into a fresh stream."""
    return [replace(one, stream_sequence=place) for place, one in enumerate(found, start=1)]


def flipped(one: Told, place: int, bit: int) -> Told:
    """With one bit of its body changed."""
    spoilt = bytearray(one.body)
    spoilt[place % len(spoilt)] ^= 1 << bit
    return replace(one, body=bytes(spoilt))


def fields(one: Told) -> dict[str, object]:
    """What a body says."""
    said: dict[str, object] = json.loads(one.body)
    return said
