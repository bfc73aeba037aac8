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

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from shared import jsapi, sealing
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
    """One message of the outbox as it is sent, as a `Sealer` seals it."""
    sealed = Sealer(signer, crypt).seal(message, sequence, position, link)
    return sealed.subject, sealed.body, sealed.all_headers


def seal_apart(message: events.Message, signer: sealing.MessageSigner) -> Sealed:
    """A message that does not go through the outbox as it is sent; never encrypted."""
    sealed = _sealed(message, _common(message, {}, (), signer.sign_message, None), {}, signer, None)
    return sealed.subject, sealed.body, sealed.all_headers


REMEMBERED: Final = 4 * events.BATCH_EVENTS
"""Signatures of events that are kept for the batch that follows them: 1 MB."""


class Sealer:
    """Seals the messages of the outbox. What those of one event have in common is made once, and kept until another event comes.

    `crypt`: encrypts bodies if it holds a key to encrypt under.
    """

    def __init__(self, signer: sealing.MessageSigner, crypt: encryption.EncryptionHandler | None = None) -> None:
        self._signer, self._crypt = signer, crypt
        self._known: tuple[tuple[object, ...], _Common] | None = None
        self._signed: dict[tuple[str, bytes], str] = {}

    def seal(self, message: events.Message, sequence: int, position: int, link: Mapping[str, str] = NO_LINK) -> jsapi.Message:
        """A message as it is sent: its sequence in the outbox, the RAW position that it was decided from, and its `link` to the message
        before (`chain.headers`) are headers."""
        made_of = message.body, message.headers, position, link.get(events.H_CHAIN), self._signer.signing, self._crypt and self._crypt.kid
        own = {events.H_OUTBOX: str(sequence)}
        if link:
            own[events.H_PREVIOUS] = link[events.H_PREVIOUS]
        if self._known is None or self._known[0] != made_of:
            self._known = made_of, _common(message, {events.H_POSITION: str(position), **link, **own}, own, self._sign, self._crypt)
        return _sealed(message, self._known[1], own, self._signer, self._crypt)

    def _sign(self, canonical: bytes) -> str:
        """The signature of an event's body: it is in its own messages, and in a batch soon after."""
        what = self._signer.kid, canonical
        found = self._signed.get(what)
        if found is None:
            if len(self._signed) >= REMEMBERED:
                self._signed.clear()
            found = self._signed[what] = self._signer.sign_message(canonical)
        return found


@dataclass(frozen=True, slots=True)
class _Common:
    """What the messages of one event have in common."""

    body: bytes  # signed, not encrypted
    digest: str  # its SHA-256 in hex
    encrypted: bool  # as it is sent
    headers: Mapping[str, str]  # but a message's own
    pairs: Mapping[str, str]  # of all covered headers, in the order in which they are signed


def _common(
    message: events.Message,
    places: Mapping[str, str],
    own: Collection[str],
    sign: Callable[[bytes], str],
    crypt: encryption.EncryptionHandler | None,
) -> _Common:
    """`places`: headers that the outbox gives; `own` names those that are of one message alone."""
    signed = _signed_batch if message.headers.get(events.H_KIND) == events.BATCH else _signed_one
    body = signed(message.body, sign)
    headers = {**message.headers, **places}
    encrypted = crypt is not None and crypt.kid is not None
    if crypt is not None and encrypted:
        headers |= {events.H_ENCRYPTION: f"{encryption.ALGORITHM};{crypt.kid}", events.CE_CONTENT: "application/octet-stream"}
    covered = {name: value for given, value in headers.items() if (name := events.covered_name(given))}
    pairs = {name: _pair(name, covered[name]) for name in sorted(covered)}
    shared = {name: value for name, value in headers.items() if name not in own}
    return _Common(body, hashlib.sha256(body).hexdigest(), encrypted, shared, pairs)


_pair: Final = lru_cache(maxsize=256)(sealing.pair)  # most headers say of each event in turn the same


def _sealed(
    message: events.Message,
    common: _Common,
    own: Mapping[str, str],
    signer: sealing.MessageSigner,
    crypt: encryption.EncryptionHandler | None,
) -> jsapi.Message:
    body, digest = common.body, common.digest
    if crypt is not None and common.encrypted:
        body = crypt.encrypt(body, message.subject, common.headers[events.CE_ID])
        digest = hashlib.sha256(body).hexdigest()
    pairs = {**common.pairs}
    for given, value in own.items():
        name = events.covered_name(given)
        pairs[name] = sealing.pair(name, value)
    signature = signer.sign_statement(sealing.stated(message.subject, digest, pairs.values()))
    own = {**own, events.H_MESSAGE_ID: message.message_id, sealing.SIGNATURE_HEADER: signature}
    return jsapi.Message(message.subject, body, own, common.headers)


def _signed_one(canonical: bytes, sign: Callable[[bytes], str]) -> bytes:
    return b'%s,"signature":"%s"}' % (canonical[:-1], sign(canonical).encode())


_EVENTS: Final = re.compile(rb'(?<=,"events":\[)\{.*\}(?=\],"manager_node":)', re.DOTALL)
_BETWEEN: Final = re.compile(rb',(?=\{"agent_id":)')


def _signed_batch(canonical: bytes, sign: Callable[[bytes], str]) -> bytes:
    """Each event's signature is put where the batch has room for it, without reading all of it again. What is looked for is in no text,
    as NO_SIGNATURE is not."""
    found = _EVENTS.search(canonical)
    if found is None:  # a baseline's
        return canonical
    signed = b",".join([_signed_inner(event, sign) for event in _BETWEEN.split(found[0])])
    return b"%s%s%s" % (canonical[: found.start()], signed, canonical[found.end() :])


def _signed_inner(event: bytes, sign: Callable[[bytes], str]) -> bytes:
    signature = sign(event.replace(events.NO_SIGNATURE, b",")).encode()
    return event.replace(events.NO_SIGNATURE, b',"signature":"%s",' % signature)


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
