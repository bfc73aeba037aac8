"""`wazuh-relay quarantine`: what could not be accepted or published, why, and what to do with it.

`list` and `show` read the ledger. `retry` and `drop` are requests to the relay that decides (`relay.requests`).
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, TextIO

from shared import cli, config, wire
from shared.clock import Clock
from shared.errors import Quarantine
from shared.logs import printable

from . import control, events, ledger, requests
from .requests import NotDone
from .stored import Quarantined

HEADERS: Final = ("NUMBER", "POSITION", "TIME", "SUBJECT", "REASON", "BYTES", "WHY")
PAGE: Final = 20  # messages with their payloads in memory at once
SHOWN_BYTES: Final = 4096
SHOWN_ROWS: Final = 20
_WIDTH: Final = 16


def show_list(settings: config.Config, limit: int, out: TextIO, *, as_json: bool) -> int:
    """Print the last `limit` messages, the newest first; 0. Raises ConfigError where there is no ledger."""
    told = [_facts(one) for one in _last(settings.relay.ledger_url, limit)]
    if as_json:
        cli.print_json(told, out)
    else:
        cli.print_table(HEADERS, [tuple(facts.values()) for facts in told], out)
    return 0


def show_one(settings: config.Config, number: int, out: TextIO, *, as_json: bool) -> int:
    """Print all that is known of a message; 0. Raises NotDone where there is none of this number."""
    one = _find(settings, number)
    if as_json:
        whole = {"headers": dict(one.headers), "payload": base64.b64encode(one.payload).decode(), "decoded": decoded(one.payload)}
        cli.print_json(_facts(one) | whole, out)
    else:
        out.writelines(printable(line) + "\n" for line in _lines(one))
    return 0


def retry(settings: config.Config, number: int, clock: Clock, out: TextIO, *, as_json: bool) -> int:
    """Have a message taken in again; 0 where it was accepted. Raises NotDone where it cannot be, or was refused again."""
    one = _find(settings, number)
    _check_retry(settings, one)
    answer = requests.ask(settings, control.Retry(one.position, one.now, one.subject, one.headers, one.payload), clock)
    again = answer.refusal
    if again is not None:
        raise NotDone(f"message {number} was refused again, it is number {again.number} of the quarantine now: {again.sentence}")
    return _done(f"message {number} was taken in again", {"number": number, "position": answer.position}, out, as_json=as_json)


def drop(settings: config.Config, number: int, clock: Clock, out: TextIO, *, as_json: bool) -> int:
    """Have a message deleted; 0. Raises NotDone where there is none of this number."""
    one = _find(settings, number)
    answer = requests.ask(settings, control.Drop(one.position, one.subject), clock)
    if answer.refusal is not None:
        raise NotDone(answer.refusal.sentence)
    return _done(f"message {number} was dropped", {"number": number, "position": answer.position}, out, as_json=as_json)


def _done(sentence: str, facts: dict[str, int], out: TextIO, *, as_json: bool) -> int:
    if as_json:
        cli.print_json(facts, out)
    else:
        out.write(sentence + "\n")
    return 0


def _check_retry(settings: config.Config, one: Quarantined) -> None:
    if not one.subject.startswith(f"{settings.nats.subject_prefix}.raw."):
        raise NotDone(
            f"message {one.number} is an event that the stream refused, and what came after it is published: it cannot take its place"
            " any more; hand it on by hand (quarantine show), raise the server's max_payload, and drop it"
        )
    if not one.payload:
        raise NotDone(f"message {one.number} stands for a snapshot whose parts never came: there is nothing to take in")


# Reading ------------------------------------------------------------------------------------------------------------


def _last(url: str, limit: int) -> Iterator[Quarantined]:
    book = ledger.Ledger.open(url, read_only=True)
    try:
        before = None
        while limit > 0 and (page := book.shelf.kept(min(limit, PAGE), before)):
            yield from page
            limit, before = limit - len(page), page[-1].number
    finally:
        book.close()


def _find(settings: config.Config, number: int) -> Quarantined:
    book = ledger.Ledger.open(settings.relay.ledger_url, read_only=True)
    try:
        found = book.shelf.kept(1, number + 1)
    finally:
        book.close()
    if not found or found[0].number != number:
        raise NotDone(f"there is no message {number} in the quarantine; see: wazuh-relay quarantine list")
    return found[0]


# Showing ------------------------------------------------------------------------------------------------------------


def _facts(one: Quarantined) -> dict[str, Any]:
    return {
        "number": one.number,
        "position": one.position,
        "time": events.utc(one.now // 1000),
        "subject": one.subject,
        "reason": one.reason,
        "bytes": len(one.payload),
        "sentence": one.sentence,
    }


def _lines(one: Quarantined) -> Iterator[str]:
    yield from (f"{name + ':':<10} {value}" for name, value in _facts(one).items())
    yield "headers:"
    yield from (f"  {name}: {value}" for name, value in one.headers.items())
    told = decoded(one.payload)
    if told is not None:
        yield "decoded:"
        yield from (f"  {line}" for line in json.dumps(told, indent=2).splitlines())
    yield "payload:"
    yield from (f"  {line}" for line in hexdump(one.payload[:SHOWN_BYTES]))
    if len(one.payload) > SHOWN_BYTES:
        yield f"  ... and {len(one.payload) - SHOWN_BYTES} bytes more; --json gives all"


def hexdump(data: bytes) -> Iterator[str]:
    """Lines like those of `hexdump -C`."""
    for at in range(0, len(data), _WIDTH):
        line = data[at : at + _WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{at:08x}  {line.hex(' '):<{3 * _WIDTH - 1}}  |{text}|"


def decoded(payload: bytes) -> object:
    """What a payload says, as far as it can be read; None where it cannot. A snapshot shows its first SHOWN_ROWS rows."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        pass  # raw messages are msgpack
    try:
        part = wire.open_part(payload)
    except Quarantine:
        return None
    if isinstance(part, wire.Tick):
        return asdict(part)
    envelope = {name: value for name, value in asdict(part).items() if name != "data"}
    try:
        return envelope | {"snapshot": _snapshot(wire.decode(part.data))} if part.total == 1 else envelope
    except Quarantine:
        return envelope


def _snapshot(snapshot: wire.Snapshot) -> dict[str, Any]:
    told = {name: value for name, value in asdict(snapshot).items() if name not in ("rows", "keys", "quiet")}
    counts = {"keys": len(snapshot.keys), "quiet": len(snapshot.quiet or ()), "rows": len(snapshot.rows)}
    return told | counts | {"first_rows": [row._asdict() for row in snapshot.rows[:SHOWN_ROWS]]}
