"""Signatures: who said it, and that nothing was changed.

Pure: keys come in as values (`shared.keyring` reads them from files).

Rules
 * A key signs with HMAC-SHA256 under a secret of 32 bytes (`Key`), or with Ed25519 (`shared.ed25519`). A key's id is made
   from the key, so a file's name can never lie about it; the algorithm is the key's own, never what a message claims.
 * Every message carries the header `Wazuh-Signature` over its *statement*: subject, SHA-256 of the body as sent, and
   every header that means something. So a message cannot be moved to another subject, nor a header be changed.
 * An event's body carries a second signature in its own `signature` field, over the RFC 8785 form of the body without
   that field: it stays with the body wherever a consumer stores it.
 * The header may hold several signatures, comma-separated, so that a key can be changed without an unverifiable message.
   The first is of the primary key, which alone signs bodies.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeGuard

SIGNATURE_HEADER: Final = "Wazuh-Signature"
HMAC_SHA256: Final = "hmac-sha256"
KEY_BYTES: Final = 32  # RFC 2104 3: a key of the hash's own length
MAX_SIGNATURES: Final = 8  # in one header: more is no rotation but an attack on the verifier's time
MAX_HEADER: Final = 2048  # characters: MAX_SIGNATURES of the longest, Ed25519's, have 1,280
STATEMENT_VERSION: Final = "wazuh-jetstream/1"


class VerifyingKey(Protocol):
    """What tells whether a signature is of its holder."""

    @property
    def kid(self) -> str:
        """16 hex digits that name the key."""

    @property
    def algorithm(self) -> str:
        """What the key signs with."""

    def verifies(self, message: bytes, signature: str) -> bool:
        """Whether `signature` (lower-case hex) is of `message` under this key; any text may come."""


class SigningKey(VerifyingKey, Protocol):
    """What also signs: a secret, or the private half of a pair. A public key is none."""

    def sign(self, message: bytes) -> str:
        """The signature of `message`, lower-case hex."""


def signs(key: VerifyingKey) -> TypeGuard[SigningKey]:
    """Whether a key is more than a public one."""
    return hasattr(key, "sign")


def key_id(what: bytes, value: bytes) -> str:
    """The id of a key: 16 hex digits; `what` keeps a secret and a public key of the same bytes apart."""
    return hashlib.sha256(b"wazuh-jetstream " + what + b"\0" + value).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Key:
    """An HMAC-SHA256 key: a secret of KEY_BYTES bytes; its repr never shows it."""

    secret: bytes = field(repr=False)
    kid: str = field(init=False, repr=False, compare=False)  # 16 hex digits that name the key without telling it
    _begun: hmac.HMAC = field(init=False, repr=False, compare=False)  # it has taken in the key: a quarter of the work of a short message
    algorithm: ClassVar[str] = HMAC_SHA256

    def __post_init__(self) -> None:
        object.__setattr__(self, "kid", key_id(b"key id", self.secret))
        object.__setattr__(self, "_begun", hmac.new(self.secret, digestmod="sha256"))

    def sign(self, message: bytes) -> str:
        """64 hex digits (RFC 2104)."""
        begun = self._begun.copy()
        begun.update(message)
        return begun.hexdigest()

    def verifies(self, message: bytes, signature: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(self.sign(message).encode(), signature.encode("utf-8", "replace"))


class Verifier:
    """Verifies under any of several keys. `renew` may be called while other threads verify."""

    def __init__(self, accepted: Iterable[VerifyingKey]) -> None:
        self.accepted: Mapping[str, VerifyingKey] = {key.kid: key for key in accepted}

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys whose signatures count."""
        return tuple(self.accepted)

    def verify_signature(self, message: bytes, signature: str) -> bool:
        """Whether `signature` (hex) is of `message` under any accepted key."""
        return any(key.verifies(message, signature) for key in self.accepted.values())

    def verify_header(self, value: str, subject: str, body: bytes, covered: Mapping[str, str]) -> bool:
        """Whether any signature in the header is of this message under an accepted key."""
        return verify_header(self.accepted, value, subject, body, covered)

    def verify_statement(self, value: str, message: bytes) -> bool:
        """The same, of a message whose `statement` is made already."""
        return verify_statement(self.accepted, value, message)


class MessageSigner(Verifier):
    """Signs with one key, and headers also with those `beside` it; verifies with these and all `accepted`.

    Raises TypeError for a key that cannot sign.
    """

    def __init__(self, signing: SigningKey, accepted: Iterable[VerifyingKey] = (), beside: Iterable[SigningKey] = ()) -> None:
        others = [key for key in beside if key.kid != signing.kid]
        for key in (signing, *others):
            if not signs(key):
                raise TypeError(f"key {key.kid} is a public key: it verifies and does not sign")
        super().__init__((signing, *others, *accepted))
        self.signing: tuple[SigningKey, ...] = (signing, *others)

    @property
    def kid(self) -> str:
        """The id of the primary key."""
        return self.signing[0].kid

    def renew(self, other: "MessageSigner") -> None:
        """Sign and verify with another signer's keys from now on."""
        self.accepted, self.signing = other.accepted, other.signing

    def sign_message(self, message: bytes) -> str:
        """The signature of `message` under the primary key, in hex."""
        return self.signing[0].sign(message)

    def sign_header(self, subject: str, body: bytes, covered: Mapping[str, str]) -> str:
        """The value of SIGNATURE_HEADER for a message; `covered` are the headers that mean something."""
        return self.sign_statement(statement(subject, body, covered))

    def sign_statement(self, message: bytes) -> str:
        """The value of SIGNATURE_HEADER for the message of which `statement`, or `stated`, tells."""
        return ", ".join([f"{key.algorithm};{key.kid};{key.sign(message)}" for key in self.signing])


def verify_header(keys: Mapping[str, VerifyingKey], value: str, subject: str, body: bytes, covered: Mapping[str, str]) -> bool:
    """Whether any signature in a SIGNATURE_HEADER is of this message under one of `keys` (by key id)."""
    return _is_bounded(value) and verify_statement(keys, value, statement(subject, body, covered))


def verify_statement(keys: Mapping[str, VerifyingKey], value: str, message: bytes) -> bool:
    """The same, of a message whose `statement` is made already."""
    return _is_bounded(value) and any(_holds(keys, entry.strip(" "), message) for entry in value.split(","))


def _is_bounded(value: str) -> bool:
    return len(value) <= MAX_HEADER and value.count(",") < MAX_SIGNATURES


def _holds(keys: Mapping[str, VerifyingKey], entry: str, message: bytes) -> bool:
    algorithm, _, rest = entry.partition(";")
    kid, _, signature = rest.partition(";")
    key = keys.get(kid)
    return key is not None and key.algorithm == algorithm and key.verifies(message, signature)


def statement(subject: str, body: bytes, covered: Mapping[str, str]) -> bytes:
    """What a header's signature is over: a JSON array of strings, so that no two messages share one."""
    digest = hashlib.sha256(body).hexdigest()
    return _compact([STATEMENT_VERSION, subject, digest, sorted(covered.items())]).encode()


def stated(subject: str, digest: str, pairs: Iterable[str]) -> bytes:
    """The same statement, of what was made before: the SHA-256 of the body in hex, and a `pair` of each covered header, sorted by name."""
    return f'["{STATEMENT_VERSION}",{_quoted(subject)},"{digest}",[{",".join(pairs)}]]'.encode()


def pair(name: str, value: str) -> str:
    """A covered header as it stands in a statement."""
    return f"[{_quoted(name)},{_quoted(value)}]"


_compact: Final = json.JSONEncoder(separators=(",", ":")).encode
_quoted: Final = json.encoder.encode_basestring_ascii
