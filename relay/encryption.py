"""Encryption of what is told: AES-256-GCM (NIST SP 800-38D) over the signed body.

Pure but for the random source that is handed in.

Rules
 * Each message has a key of its own: HKDF-SHA256 (RFC 5869) of the secret with a random salt of 16 bytes, as the AWS
   Encryption SDK derives its data keys (its "algorithm suites" with key derivation). With the random nonce of 12 bytes that
   are 224 random bits a message: SP 800-38D 8.3 allows 2**32 messages under one key with random nonces, which a fleet in a
   storm would reach in days; here a pair of key and nonce is as good as never met again after 2**64 messages (2**-96).
 * Nothing is remembered: not over a crash, not between two relays on one key, not where a message is sealed once more
   after a doubt. Each sealing draws anew; a counter would need a disk that never goes back.
 * Bound to its place: subject, event id and key id are additional data. Moved elsewhere it does not open.

    what is sent    salt (16 bytes)  nonce (12)  ciphertext  tag (16)
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared import sealing
from shared.errors import Quarantine

ALGORITHM: Final = "aes-256-gcm"
SALT: Final = 16  # bytes
NONCE: Final = 12
TAG: Final = 16
_INFO: Final = b"wazuh-jetstream/1 message key"
_CONTEXT: Final = "wazuh-jetstream/1 encrypted"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of 32 bytes to encrypt under; its repr never shows it."""

    value: bytes = field(repr=False)
    algorithm: ClassVar[str] = ALGORITHM

    @property
    def kid(self) -> str:
        """16 hex digits that name the key without telling it."""
        return sealing.key_id(b"encryption key id", self.value)

    def box(self, salt: bytes) -> AESGCM:
        """The cipher of the one message that has this salt."""
        return AESGCM(self.derived(salt))

    def derived(self, salt: bytes) -> bytes:
        """That message's key, 32 bytes."""
        return HKDF(SHA256(), 32, salt, _INFO).derive(self.value)


def context(subject: str, event_id: str, kid: str) -> bytes:
    """The additional data of a message: a JSON array of strings, ASCII."""
    return json.dumps([_CONTEXT, subject, event_id, kid], separators=(",", ":")).encode()


class EncryptionHandler:
    """Encrypts under one key, if there is one, and decrypts under several. `renew` may be called while other threads read."""

    def __init__(self, encrypting: Secret | None, accepted: Iterable[Secret], random: Callable[[int], bytes]) -> None:
        own = () if encrypting is None else (encrypting,)
        self.encrypting = encrypting
        self.accepted: Mapping[str, Secret] = {secret.kid: secret for secret in (*own, *accepted)}
        self._random = random

    @property
    def kid(self) -> str | None:
        """The id of the key to encrypt under; None: messages are sent in the clear."""
        return None if self.encrypting is None else self.encrypting.kid

    def renew(self, other: "EncryptionHandler") -> None:
        """Use another handler's keys from now on."""
        self.encrypting, self.accepted = other.encrypting, other.accepted

    def encrypt(self, data: bytes, subject: str, event_id: str) -> bytes:
        """salt, nonce, ciphertext and tag. Raises ValueError where there is no key to encrypt under."""
        if self.encrypting is None:
            raise ValueError("there is no key to encrypt under")
        salt, nonce = self._random(SALT), self._random(NONCE)
        return salt + nonce + self.encrypting.box(salt).encrypt(nonce, data, context(subject, event_id, self.encrypting.kid))

    def decrypt(self, data: bytes, subject: str, event_id: str, kid: str) -> bytes:
        """What was encrypted. Raises Quarantine: unknown_key, undecryptable."""
        secret = self.accepted.get(kid)
        if secret is None:
            raise Quarantine("unknown_key", f"it is encrypted under key {kid[:16]!r}, which is not here")
        salt, nonce, rest = data[:SALT], data[SALT : SALT + NONCE], data[SALT + NONCE :]
        try:
            return secret.box(salt).decrypt(nonce, rest, context(subject, event_id, kid))
        except (InvalidTag, ValueError):  # changed, moved, or too short
            raise Quarantine("undecryptable", f"it does not open under key {kid}: changed, or of another subject or event") from None
