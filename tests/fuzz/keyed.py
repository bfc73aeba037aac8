"""Borders of keys: events under two signatures and encrypted, as a consumer proves them, and the files that keys come in."""

import json
import os
from pathlib import Path

from relay import chain, consumerkeys, encryption, events, seal, trust
from relay.chain import Chain, Head
from relay.verify import Told, Verifier
from shared import ed25519, keyring, logs, sealing
from shared.errors import ConfigError
from tests.fuzz.flat import flat, unflat

NOW = 1_750_000_000
HMAC, PAIR = sealing.Key(b"r" * 32), ed25519.PrivateKey.from_raw(b"p" * 32)
SIGNER = sealing.MessageSigner(PAIR, beside=[HMAC])
SECRET = encryption.Secret(b"e" * 32)
READER = sealing.Verifier([HMAC, PAIR.public])
_SCRATCH = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"wazuh-jetstream-fuzz-{os.getuid()}"


def scratch(name: str, data: bytes) -> Path:
    """A file of mode 600 with these bytes."""
    _SCRATCH.mkdir(mode=0o700, exist_ok=True)
    path = _SCRATCH / f"{os.getpid()}-{name}"
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def _random(count: int) -> bytes:
    return b"\7" * count  # that a seed gives the same inputs again


def sealed_events() -> list[bytes]:
    """A chain of one event and its batch, in the clear and encrypted."""
    told = (
        "disconnected",
        "stopped",
        1,
        "wéb\n\x1b[2J\u202e\U0001f600",
        "Active",
        "Disconnected",
        None,
        NOW - 9,
        "node01",
        NOW,
        "evt_1",
        False,
    )
    event = events.Event(*told)  # type: ignore[arg-type]
    summary = events.Summary(2, 0, 2, 1)
    made = [*events.messages("wazuh", "lab", event), *events.batches("wazuh", "lab", "node01", 7, NOW * 1000, [event], summary)]
    handlers = (None, encryption.EncryptionHandler(SECRET, (), _random))
    linked = list(Chain(Head("", 0, "")).extend(made, 7))
    return [_flat(seal.seal(one.message, one.sequence, 7, SIGNER, chain.headers(one.link), crypt)) for crypt in handlers for one in linked]


def _flat(sealed: seal.Sealed) -> bytes:
    subject, body, headers = sealed
    return flat(subject, headers, body)


def _meant(subject: str, headers: dict[str, str], body: bytes) -> tuple[object, ...]:
    return subject, body, tuple(sorted(events.covered(headers).items()))


SEALED = {_meant(*unflat(one)) for one in sealed_events()}


def prove_event(data: bytes) -> bool:
    """What `wazuh-relay verify` does with it, and a consumer with a key to decrypt."""
    subject, headers, body = unflat(data)
    crypt = encryption.EncryptionHandler(None, [SECRET], _random)
    verdict = seal.verify(subject, body, headers, READER, crypt)
    verifier = Verifier(READER, crypt=crypt)
    faults = [*verifier.take(Told(1, NOW * 1000, subject, headers, body)), *verifier.settle()]
    logs.printable(f"{verdict.why} {[fault.sentence for fault in faults]}")
    passed = verdict.ok or not any(fault.kind == "forged" for fault in faults)
    return passed and _meant(subject, headers, body) not in SEALED and seal.outbox_sequence(headers) is not None


def key_files() -> list[bytes]:
    """One of each kind of key, and a consumer's file of them."""
    there = Path("a.key")
    held = [
        trust.Held("signing", "current", HMAC, there),
        trust.Held("signing", "next", PAIR, there),
        trust.Held("encryption", "current", SECRET, there),
    ]
    keys = json.dumps(consumerkeys.document(held, with_secrets=True)).encode()
    return [b"72" * 32 + b"\n", PAIR.pem(), PAIR.public.pem(), keys]


def read_key_file(data: bytes) -> bool:
    """Wherever it may be named: each reader takes it, or refuses it with a ConfigError that the last raises."""
    path = scratch("secret.key", data)
    refused: list[Exception] = []
    for read in (keyring.read_any, keyring.read_key, keyring.read_secret, consumerkeys.reading):
        try:
            read(path)
        except ConfigError as error:
            refused.append(error)
    if len(refused) == 4:
        raise refused[0]
    return False
