"""Ed25519 keys (RFC 8032): whoever holds the public half verifies, and cannot sign.

Pure. The only module of `shared` that imports cryptography, 6.5 MB of memory: `shared.keyring` imports it where a key file
holds such a key, and not before.

Files are PEM as RFC 8410 has it: `openssl genpkey -algorithm ed25519` makes one, `openssl pkey -pubout` its public half.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from . import sealing

ALGORITHM: Final = "ed25519"


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """Verifies. It has no way to sign."""

    raw: bytes  # 32 bytes, RFC 8032 5.1.5
    kid: str
    _key: Ed25519PublicKey = field(repr=False)
    algorithm: ClassVar[str] = ALGORITHM

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> Self:
        """The key with its id."""
        raw = key.public_bytes_raw()
        return cls(raw, sealing.key_id(b"ed25519 key id", raw), key)

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """From its 32 bytes. Raises ValueError where they are not."""
        return cls.of(Ed25519PublicKey.from_public_bytes(raw))

    def verifies(self, message: bytes, signature: str) -> bool:
        """Only the one spelling that `sign` gives: 128 lower-case hex digits."""
        try:
            given = bytes.fromhex(signature)
            if given.hex() != signature:
                return False
            self._key.verify(given, message)
        except (ValueError, InvalidSignature):
            return False
        return True

    def pem(self) -> bytes:
        """As the file of a public key."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKey:
    """Signs, and verifies what it signed. Its repr never shows it."""

    public: PublicKey
    _key: Ed25519PrivateKey = field(repr=False)
    algorithm: ClassVar[str] = ALGORITHM

    @classmethod
    def of(cls, key: Ed25519PrivateKey) -> Self:
        """The key with its public half."""
        return cls(PublicKey.of(key.public_key()), key)

    @classmethod
    def generate(cls) -> Self:
        """A new one."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, seed: bytes) -> Self:
        """From its 32 secret bytes. Raises ValueError where they are not."""
        return cls.of(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def kid(self) -> str:
        """The public half's."""
        return self.public.kid

    def sign(self, message: bytes) -> str:
        """128 hex digits; the same message has the same signature."""
        return self._key.sign(message).hex()

    def verifies(self, message: bytes, signature: str) -> bool:
        """As the public half does."""
        return self.public.verifies(message, signature)

    def pem(self) -> bytes:
        """As a key file: unencrypted PKCS #8."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )  # fmt: skip


def read(pem: bytes) -> PrivateKey | PublicKey:
    """The key in a PEM file. Raises ValueError where there is none of Ed25519, or it has a passphrase."""
    try:
        private = b"PRIVATE KEY-----" in pem
        key = serialization.load_pem_private_key(pem, None) if private else serialization.load_pem_public_key(pem)
    except (TypeError, UnsupportedAlgorithm, InternalError) as error:  # a passphrase; an algorithm that is not known, or does not fit
        raise ValueError("it cannot be used") from error
    if isinstance(key, Ed25519PrivateKey):
        return PrivateKey.of(key)
    if isinstance(key, Ed25519PublicKey):
        return PublicKey.of(key)
    raise ValueError("it is of another algorithm")
