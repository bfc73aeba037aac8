"""Seals what was decided: signatures in the body and over the whole message, encryption, and the headers that recovery reads.

Pure: keys come in as values.

Rules
 * An event's `signature` is of its body's RFC 8785 form without that field. It is put at the body's end: JSON has no
   order, and what was signed stays as it was signed.
 * An event in a batch has the same signature as on its own subjects. A batch has none of its own: its body is the
   seed's, and its header's signature covers all of it.
 * The header's signature covers the subject, the body as sent and every header that means something, the outbox
   sequence and the RAW position among them.
 * What goes through the outbox is encrypted, where a key for that is given: first signed, then encrypted, then the header
   is signed. So whoever has no key to decrypt with still knows whose message it is, and where it stands.

An event's values are texts or null and its keys ASCII, so that sorted compact JSON is its RFC 8785 form; a test holds it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared import sealing
from shared.errors import Quarantine

from . import encryption, events

NO_LINK: Final[Mapping[str, str]] = {}
_MAX_DIGITS: Final = 19  # of 2**63 - 1: int() of a hostile header stays cheap


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a message is the relay's word; `why` not, in a few words."""

    ok: bool
    why: str = ""


Sealed = tuple[str, bytes, dict[str, str]]
"""Subject, body as sent, headers."""


def seal(
    message: events.Message,
    sequence: int,
    position: int,
    signer: sealing.MessageSigner,
    link: Mapping[str, str] = NO_LINK,
    crypt: encryption.EncryptionHandler | None = None,
) -> Sealed:
    """A message of the outbox as it is sent: its sequence there, the RAW position that it was decided from, and its `link` to the
    message before (`chain.headers`) are headers.

    `crypt`: encrypts the body if it holds a key to encrypt under.
    """
    return _sealed(message, {events.H_OUTBOX: str(sequence), events.H_POSITION: str(position), **link}, signer, crypt)


def seal_apart(message: events.Message, signer: sealing.MessageSigner) -> Sealed:
    """A message that does not go through the outbox as it is sent; never encrypted."""
    return _sealed(message, {}, signer, None)


def _sealed(
    message: events.Message, places: Mapping[str, str], signer: sealing.MessageSigner, crypt: encryption.EncryptionHandler | None
) -> Sealed:
    sign = _sign_batch if message.headers.get(events.H_KIND) == events.BATCH else _sign_one
    body = sign(message.body, signer)
    headers = {**message.headers, **places, events.H_MESSAGE_ID: message.message_id}
    if crypt is not None and crypt.kid is not None:
        body = crypt.encrypt(body, message.subject, headers[events.CE_ID])
        headers |= {events.H_ENCRYPTION: f"{encryption.ALGORITHM};{crypt.kid}", events.CE_CONTENT: "application/octet-stream"}
    signature = signer.sign_header(message.subject, body, events.covered(headers))
    return message.subject, body, {**headers, sealing.SIGNATURE_HEADER: signature}


def _sign_one(canonical: bytes, signer: sealing.MessageSigner) -> bytes:
    return b'%s,"signature":"%s"}' % (canonical[:-1], signer.sign_message(canonical).encode())


def _sign_batch(canonical: bytes, signer: sealing.MessageSigner) -> bytes:
    batch = json.loads(canonical)
    for event in batch["events"]:
        event.pop("signature")
        event["signature"] = signer.sign_message(_compact(event))
    return _compact(batch)


_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def _compact(value: object) -> bytes:
    return _encode(value).encode()


# Reading what was sealed --------------------------------------------------------------------------------------------


def verify(
    subject: str, body: bytes, headers: Mapping[str, str], signer: sealing.Verifier, crypt: encryption.EncryptionHandler | None = None
) -> Verdict:
    """Whether a message is as a holder of one of the signer's keys sent it: header, body, and each event of a batch."""
    given = _header(headers, sealing.SIGNATURE_HEADER)
    if given is None:
        return Verdict(False, "unsigned")
    if not signer.verify_header(given, subject, body, events.covered(headers)):
        return Verdict(False, "the header's signature is not of this message, or under another key")
    try:
        return _verify_body(opened(subject, body, headers, crypt), signer)
    except Quarantine as refusal:
        return Verdict(False, str(refusal))


def opened(subject: str, body: bytes, headers: Mapping[str, str], crypt: encryption.EncryptionHandler | None) -> bytes:
    """The body of a message as it was before it was encrypted, if it was.

    Raises Quarantine: unknown_key, undecryptable, malformed; the sentence begins with "it".
    """
    given = _header(headers, events.H_ENCRYPTION)
    if given is None:
        return body
    algorithm, _, kid = given.partition(";")
    if algorithm != encryption.ALGORITHM:
        raise Quarantine("malformed", f"it is encrypted in a way that is not known here: {algorithm[:32]!r}")
    if crypt is None:
        raise Quarantine("unknown_key", f"it is encrypted under key {kid[:16]!r}, and no key to decrypt with is here")
    return crypt.decrypt(body, subject, _header(headers, events.CE_ID) or "", kid)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """NATS keeps the case of a header's name, proxies may not."""
    exact = headers.get(name)
    return exact if exact is not None else next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def _verify_body(body: bytes, signer: sealing.Verifier) -> Verdict:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return Verdict(False, "the body is not JSON")
    if not isinstance(fields, dict):
        return Verdict(False, "the body is not a JSON object")
    inner = fields.get("events")
    signed = inner if isinstance(inner, list) else [fields]
    if not all(_is_signed(event, signer) for event in signed):
        return Verdict(False, "a signature in the body is not of it")
    return Verdict(True)


def _is_signed(fields: Any, signer: sealing.Verifier) -> bool:
    if not isinstance(fields, dict) or not isinstance(fields.get("signature"), str):
        return False
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    try:
        # Nearly every body's RFC 8785 form is plain compact JSON, made in a tenth of the time.
        return any(signer.verify_signature(form(unsigned), fields["signature"]) for form in (_compact, events.canonical))
    except (ValueError, RecursionError):
        return False  # a number or text that RFC 8785 has no form for was never signed


def outbox_sequence(headers: Mapping[str, str]) -> int | None:
    """A message's place in the relay's outbox; None where no relay wrote it."""
    return _number(headers.get(events.H_OUTBOX))


def message_id(headers: Mapping[str, str]) -> str:
    """The Nats-Msg-Id that a message has in the outbox, also where another one stands for it; empty where it has none."""
    return headers.get(events.H_MESSAGE_ID, "").removesuffix(f":{events.LEFT_OUT}")


def raw_position(headers: Mapping[str, str]) -> int | None:
    """The sequence in RAW of the message that it was decided from; None where no relay wrote it."""
    return _number(headers.get(events.H_POSITION))


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS:
        return None
    return int(text)
