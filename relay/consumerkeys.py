"""The file that a consumer holds: which keys count, so that it can tell what is the relay's word.

    {"format": "wazuh-jetstream keys", "version": 1, "keys": [
      {"kid": "…", "use": "signing", "state": "current", "algorithm": "ed25519", "public_key": "64 hex digits"},
      {"kid": "…", "use": "signing", "state": "next", "algorithm": "hmac-sha256", "secret": "64 hex digits"},
      {"kid": "…", "use": "encryption", "state": "current", "algorithm": "aes-256-gcm", "secret": "64 hex digits"}]}

Rules
 * A secret is in it only where that was asked for. Whoever verifies HMAC-SHA256 holds the secret and could sign with it;
   whoever decrypts holds the secret of that. Without, such a key is named by its id alone.
 * A key's id is made anew from the key: a file cannot call one key by the name of another.
"""

import json
import os
import secrets as random
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from shared import ed25519, sealing
from shared.errors import ConfigError

from .encryption import EncryptionHandler, Secret
from .trust import Held, Reading

FORMAT: Final = "wazuh-jetstream keys"
VERSION: Final = 1
_MAX_FILE: Final = 1 << 20  # bytes: some thousand keys


def document(keys: Iterable[Held], *, with_secrets: bool) -> dict[str, Any]:
    """The file's content. The nodes' keys are not in it: a consumer has no use for them."""
    told = [_entry(one, with_secrets=with_secrets) for one in keys if one.use != "node"]
    return {"format": FORMAT, "version": VERSION, "keys": told}


def _entry(one: Held, *, with_secrets: bool) -> dict[str, str]:
    entry = {"kid": one.key.kid, "use": one.use, "state": one.state, "algorithm": one.key.algorithm}
    match one.key:
        case ed25519.PrivateKey(public=public):
            return {**entry, "public_key": public.raw.hex()}
        case ed25519.PublicKey(raw=raw):
            return {**entry, "public_key": raw.hex()}
        case sealing.Key(secret=value) | Secret(value=value) if with_secrets:
            return {**entry, "secret": value.hex()}
    return entry


def reading(path: Path) -> Reading:
    """The keys of such a file. Raises ConfigError, which never shows one."""
    entries = _entries(path)
    try:
        signing: list[sealing.VerifyingKey] = [_verifying(entry) for entry in entries if entry["use"] == "signing" and _has_key(entry)]
        opening = [Secret(bytes.fromhex(entry["secret"])) for entry in entries if entry["use"] == "encryption" and _has_key(entry)]
        named = [entry["kid"] for use in ("signing", "encryption") for entry in entries if entry["use"] == use and _has_key(entry)]
    except (KeyError, TypeError, ValueError):  # its words may quote a key
        raise _refused(path, "it holds an entry that is no key") from None
    if named != [key.kid for key in signing] + [key.kid for key in opening]:
        raise _refused(path, "it calls a key by an id that is not its own")
    if not signing:
        raise _refused(path, "it holds no key to verify with")
    return Reading(sealing.Verifier(signing), EncryptionHandler(None, opening, random.token_bytes))


def _entries(path: Path) -> list[dict[str, str]]:
    try:
        with path.open("rb") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read(_MAX_FILE)
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be read ({error.strerror}); the relay's host makes it: wazuh-relay keys export"
        ) from error
    try:
        content = json.loads(text)
        entries, version, known = list(content["keys"]), content["version"], content["format"] == FORMAT
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _refused(path, "it is no such file") from None
    if not known or not all(isinstance(entry, dict) for entry in entries):
        raise _refused(path, "it is no such file")
    if version != VERSION:
        raise ConfigError(f"key file {path} is of version {version!a:.20}, this program reads {VERSION}; upgrade it")
    if any("secret" in entry for entry in entries) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"key file {path} holds secrets and can be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}")
    return entries


def _has_key(entry: dict[str, str]) -> bool:
    return "secret" in entry or "public_key" in entry


def _verifying(entry: dict[str, str]) -> sealing.VerifyingKey:
    if entry["algorithm"] == ed25519.ALGORITHM:
        return ed25519.PublicKey.from_raw(bytes.fromhex(entry["public_key"]))
    secret = bytes.fromhex(entry["secret"])
    if entry["algorithm"] != sealing.HMAC_SHA256 or len(secret) != sealing.KEY_BYTES:
        raise ValueError
    return sealing.Key(secret)


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"key file {path} cannot be used: {why}; make it anew on the relay's host: wazuh-relay keys export --out {path.name}"
    )
