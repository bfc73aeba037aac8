"""Test vectors that another language can read, in tests/vectors: held to the code, and made anew by `python tests/test_vectors.py`.

All bytes are hex, all texts are JSON's. What they say of each other is in docs/keys.md and in examples/node.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from relay import encryption, events, seal
from shared import ed25519, sealing

VECTORS: Final = Path(__file__).parent / "vectors"
SECRET: Final = bytes(range(32))
SEED: Final = bytes(range(32, 64))
ENCRYPTION: Final = bytes(range(64, 96))
HMAC_KEY: Final = sealing.Key(SECRET)
PAIR: Final = ed25519.PrivateKey.from_raw(SEED)
CIPHER: Final = encryption.Secret(ENCRYPTION)

EVENT: Final = events.Event(
    kind="disconnected",
    reason="stopped",
    agent_id=1,
    agent_name='wéb "01"\n\U0001f600\x7f\u2028 \\ / \x1f',
    previous="Active",
    current="Disconnected",
    ip="192.168.1.100",
    last_keepalive=1748428245,
    manager_node="wazuh-manager-01",
    timestamp=1748428500,
    event_id="evt_001_1748428500_disconnected_0123456789abcdef",
    late=True,
)
PLAIN: Final = events.Event(
    kind="moved",
    reason="moved",
    agent_id=12345,
    agent_name="db",
    previous="Active",
    current="Active",
    ip=None,
    last_keepalive=None,
    manager_node="worker.1 \u00fc",
    timestamp=0,
    event_id="evt_12345_0_moved_0123456789abcdef",
    late=False,
    left="a/b",
)
MANAGER: Final = events.ManagerEvent(
    "clock_off", "node01", 1748428500, "evt_node01_1748428500_clock_off_0123456789abcdef", {"behind_seconds": -1.5e-7}
)


class Fixed:
    """In place of the random source: 0, 1, 2 …"""

    def __init__(self) -> None:
        self.next = 0

    def __call__(self, size: int) -> bytes:
        self.next += size
        return bytes((self.next - size + i) % 256 for i in range(size))


def messages() -> dict[str, events.Message]:
    summary = events.Summary(150, 145, 5, 2)
    (batch,) = events.batches("wazuh", "lab", "wazuh-manager-01", 7, 1748428500000, [EVENT, PLAIN], summary)
    return {
        "an event with every kind of character": events.messages("wazuh", "lab", EVENT)[0],
        "an event with nulls": events.messages("wazuh", "lab", PLAIN)[0],
        "an event of a manager, with a number": events.manager_message("wazuh", "lab", MANAGER),
        "a batch": batch,
    }


SIGNERS: Final = {
    "hmac-sha256": sealing.MessageSigner(HMAC_KEY),
    "ed25519": sealing.MessageSigner(PAIR),
    "both, as while a key is changed": sealing.MessageSigner(PAIR, beside=[HMAC_KEY]),
}


def keys() -> dict[str, Any]:
    return {
        "hmac-sha256": {"kid": HMAC_KEY.kid, "secret": SECRET.hex()},
        "ed25519": {"kid": PAIR.kid, "seed": SEED.hex(), "public_key": PAIR.public.raw.hex(), "public_pem": PAIR.public.pem().decode()},
        "aes-256-gcm": {"kid": CIPHER.kid, "secret": ENCRYPTION.hex()},
    }


def bodies() -> list[dict[str, Any]]:
    """Body, canonical bytes, and both signatures over them."""
    found = []
    for what, message in messages().items():
        if what != "a batch":
            found.append({
                "what": what,
                "body": json.loads(message.body),
                "canonical": message.body.hex(),
                "signatures": {key.algorithm: key.sign(message.body) for key in (HMAC_KEY, PAIR)},
            })  # fmt: skip
    return found


def sealed() -> list[dict[str, Any]]:
    """Whole messages as they stand in the stream, with the statement that the header's signature is over."""
    found = []
    for (what, message), (who, signer) in itertools.product(messages().items(), SIGNERS.items()):
        subject, body, headers = seal.seal(message, 41, 7, signer)
        found.append({"what": f"{what}, {who}", **_told(subject, body, headers)})
    return found


def encrypted() -> list[dict[str, Any]]:
    """The same, encrypted, with all that was made on the way."""
    found = []
    for what, message in messages().items():
        signer, crypt = SIGNERS["ed25519"], encryption.EncryptionHandler(CIPHER, (), Fixed())
        subject, body, headers = seal.seal(message, 42, 7, signer, crypt=crypt)
        salt, nonce = body[: encryption.SALT], body[encryption.SALT : encryption.SALT + encryption.NONCE]
        found.append({
            "what": what,
            **_told(subject, body, headers),
            "plaintext": seal.opened(subject, body, headers, crypt).hex(),
            "aad": encryption.context(subject, headers["ce-id"], CIPHER.kid).hex(),
            "salt": salt.hex(),
            "message_key": CIPHER.derived(salt).hex(),
            "nonce": nonce.hex(),
            "ciphertext": body[encryption.SALT + encryption.NONCE : -encryption.TAG].hex(),
            "tag": body[-encryption.TAG :].hex(),
        })  # fmt: skip
    return found


def forged() -> list[dict[str, Any]]:
    """What must be refused."""
    subject, body, headers = seal.seal(messages()["an event with nulls"], 41, 7, SIGNERS["ed25519"])
    value = headers[sealing.SIGNATURE_HEADER]
    confused = f"hmac-sha256;{PAIR.kid};{sealing.Key(PAIR.public.raw).sign(sealing.statement(subject, body, events.covered(headers)))}"
    changes: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "another subject": ("wazuh.agent.001.moved", body, headers),
        "another body": (subject, body.replace(b"Active", b"Pending"), headers),
        "another kind": (subject, body, {**headers, "Wazuh-Kind": "removed"}),
        "a header that was not there": (subject, body, {**headers, "Wazuh-Late": "true"}),
        "a header that is gone": (subject, body, {name: value for name, value in headers.items() if name != "Wazuh-Left-Manager"}),
        "no signature": (subject, body, {name: value for name, value in headers.items() if name != sealing.SIGNATURE_HEADER}),
        "a signature in upper case": (subject, body, {**headers, sealing.SIGNATURE_HEADER: value.upper().replace("ED25519", "ed25519")}),
        "HMAC under the public key": (subject, body, {**headers, sealing.SIGNATURE_HEADER: confused}),
        "nine signatures": (subject, body, {**headers, sealing.SIGNATURE_HEADER: ", ".join([value] * 9)}),
    }
    return [{"what": what, **_told(*changed)} for what, changed in changes.items()]


def _told(subject: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    statement = sealing.statement(subject, body, events.covered(headers))
    return {"subject": subject, "headers": headers, "body": body.hex(), "statement": statement.hex()}


MAKERS: Final = {"keys": keys, "bodies": bodies, "sealed": sealed, "encrypted": encrypted, "forged": forged}


def written(name: str) -> str:
    return json.dumps(MAKERS[name](), indent=1) + "\n"


@pytest.mark.parametrize("name", MAKERS)
def test_the_vectors_are_what_the_code_does(name: str) -> None:
    """If this fails, what is signed has changed: consumers of every language must be told, and the version in it raised."""
    assert json.loads((VECTORS / f"{name}.json").read_text()) == json.loads(written(name))  # headers have no order


VERIFIER: Final = sealing.Verifier([HMAC_KEY, PAIR.public])
CRYPT: Final = encryption.EncryptionHandler(None, [CIPHER], Fixed())


@pytest.mark.parametrize(("name", "good"), [("sealed", True), ("encrypted", True), ("forged", False)])
def test_the_vectors_verify_as_they_should(name: str, good: bool) -> None:
    for one in json.loads((VECTORS / f"{name}.json").read_text()):
        verdict = seal.verify(one["subject"], bytes.fromhex(one["body"]), one["headers"], VERIFIER, CRYPT)
        assert verdict.ok == good, one["what"]


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    for made in MAKERS:
        (VECTORS / f"{made}.json").write_text(written(made))
