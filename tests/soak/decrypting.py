"""Decrypts what a relay encrypted, as docs/keys.md has it."""

import json
from collections.abc import Collection, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def decrypted(subject: str, headers: Mapping[str, str], body: bytes, secrets: Collection[bytes]) -> bytes | None:
    """A message's body in the clear; None where none of the secrets opens it."""
    algorithm, _, kid = headers.get("Wazuh-Encryption", "").partition(";")
    if not algorithm:
        return body
    context = json.dumps(["wazuh-jetstream/1 encrypted", subject, headers.get("ce-id", ""), kid], separators=(",", ":")).encode()
    for secret in secrets:
        key = HKDF(SHA256(), 32, body[:16], b"wazuh-jetstream/1 message key").derive(secret)
        try:
            return AESGCM(key).decrypt(body[16:28], body[28:], context)
        except (InvalidTag, ValueError):
            continue
    return None
