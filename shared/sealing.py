"""Signatures: who said it, and that nothing was changed.

Pure: keys come in as values (`shared.keyring` reads them from files).

Rules
 * HMAC-SHA256 under a key of 32 bytes; a key's id is made from the key, so a file's name can never lie about it.
 * Every message carries the header `Wazuh-Signature` over its *statement*: subject, SHA-256 of the body as sent, and
   every header that means something. So a message cannot be moved to another subject, nor a header be changed.
 * An event's body carries a second signature in its own `signature` field, over the RFC 8785 form of the body without
   that field: it stays with the body wherever a consumer stores it.
 * The header may hold several signatures, comma-separated, so that a key can be changed without an unverifiable message.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

SIGNATURE_HEADER: Final = "Wazuh-Signature"
ALGORITHM: Final = "hmac-sha256"
KEY_BYTES: Final = 32  # RFC 2104 3: a key of the hash's own length
MAX_SIGNATURES: Final = 8  # in one header: more is no rotation but an attack on the verifier's time
_STATEMENT_VERSION: Final = "wazuh-jetstream/1"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret of KEY_BYTES bytes; its repr never shows it."""

    secret: bytes = field(repr=False)

    @property
    def kid(self) -> str:
        """16 hex digits that name the key without telling it."""
        return hashlib.sha256(b"wazuh-jetstream key id\0" + self.secret).hexdigest()[:16]


class MessageSigner:
    """Signs with one key and verifies with several, so that a rotation leaves nothing unverifiable."""

    def __init__(self, signing: Key, accepted: Iterable[Key] = ()) -> None:
        self._signing = signing
        self.kid = signing.kid
        self._keys = {key.kid: key for key in (signing, *accepted)}

    def sign_message(self, message: bytes) -> str:
        """HMAC-SHA256 of `message` under the signing key, 64 hex digits."""
        return _mac(self._signing, message)

    def verify_signature(self, message: bytes, signature: str) -> bool:
        """Whether `signature` (hex) is of `message` under any accepted key."""
        return any(_matches(key, message, signature) for key in self._keys.values())

    def sign_header(self, subject: str, body: bytes, covered: Mapping[str, str]) -> str:
        """The value of SIGNATURE_HEADER for a message; `covered` are the headers that mean something."""
        return f"{ALGORITHM};{self.kid};{self.sign_message(statement(subject, body, covered))}"

    def verify_header(self, value: str, subject: str, body: bytes, covered: Mapping[str, str]) -> bool:
        """Whether any signature in the header is of this message under an accepted key."""
        return verify_header(self._keys, value, subject, body, covered)


def verify_header(keys: Mapping[str, Key], value: str, subject: str, body: bytes, covered: Mapping[str, str]) -> bool:
    """Whether any signature in a SIGNATURE_HEADER is of this message under one of `keys` (by key id)."""
    message = statement(subject, body, covered)
    for entry in value.split(",")[:MAX_SIGNATURES]:
        algorithm, _, rest = entry.strip().partition(";")
        kid, _, signature = rest.partition(";")
        key = keys.get(kid)
        if algorithm == ALGORITHM and key is not None and _matches(key, message, signature):
            return True
    return False


def statement(subject: str, body: bytes, covered: Mapping[str, str]) -> bytes:
    """What a header's signature is over: a JSON array of strings, so that no two messages share one."""
    digest = hashlib.sha256(body).hexdigest()
    return json.dumps([_STATEMENT_VERSION, subject, digest, sorted(covered.items())], separators=(",", ":")).encode()


def _mac(key: Key, message: bytes) -> str:
    return hmac.new(key.secret, message, hashlib.sha256).hexdigest()


def _matches(key: Key, message: bytes, signature: str) -> bool:
    return hmac.compare_digest(_mac(key, message).encode(), signature.encode("utf-8", "replace"))
