"""What is encrypted opens in its own place alone, and no key and nonce are ever met again."""

import json
import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from relay import encryption, events, seal
from relay.encryption import EncryptionHandler, Secret
from relay.seal import Verdict
from shared import sealing
from shared.errors import Quarantine
from tests.relay.test_seal import BATCH, EVENT, KIND, SIGNER, STATUS

OLD, NEW = Secret(b"o" * 32), Secret(b"n" * 32)
CRYPT = EncryptionHandler(OLD, (), secrets.token_bytes)

texts = st.text(max_size=20)


@given(st.binary(max_size=200), texts, texts)
def test_what_was_encrypted_opens_in_its_place(data: bytes, subject: str, event_id: str) -> None:
    box = CRYPT.encrypt(data, subject, event_id)
    assert CRYPT.decrypt(box, subject, event_id, OLD.kid) == data
    assert len(box) == encryption.SALT + encryption.NONCE + len(data) + encryption.TAG


@given(st.binary(max_size=50), texts, texts, texts, texts)
def test_of_another_subject_or_event_it_does_not_open(data: bytes, subject: str, event_id: str, other: str, another: str) -> None:
    assume((subject, event_id) != (other, another))
    with pytest.raises(Quarantine, match="does not open"):
        CRYPT.decrypt(CRYPT.encrypt(data, subject, event_id), other, another, OLD.kid)


@given(st.binary(max_size=50), st.data())
def test_no_byte_of_it_can_be_changed_and_none_left_out(data: bytes, draw: st.DataObject) -> None:
    box = CRYPT.encrypt(data, "s", "e")
    place = draw.draw(st.integers(0, len(box) - 1))
    changed = box[:place] + bytes([box[place] ^ draw.draw(st.integers(1, 255))]) + box[place + 1 :]
    for wrong in (changed, box[:place], box + b"x"):
        with pytest.raises(Quarantine) as refused:
            CRYPT.decrypt(wrong, "s", "e", OLD.kid)
        assert refused.value.reason == "undecryptable"


def test_the_same_again_looks_like_nothing_that_was_there_before() -> None:
    """A message that is sealed again after a doubt, by the same relay or by another that has the same key."""
    other = EncryptionHandler(OLD, (), secrets.token_bytes)
    sent = [handler.encrypt(b"the same", "s", "e") for handler in (CRYPT, other) for _ in range(500)]
    drawn = {box[: encryption.SALT + encryption.NONCE] for box in sent}
    assert len(drawn) == len({box[-encryption.TAG :] for box in sent}) == 1000


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=2, unique=True))
def test_each_message_has_a_key_of_its_own(salts: list[bytes]) -> None:
    """So a nonce that is drawn twice, which 2**48 messages make likely, meets two keys."""
    same, plain = b"n" * 12, b"the same"
    first, second = (OLD.box(salt).encrypt(same, plain, b"") for salt in salts)
    assert first[: len(plain)] != second[: len(plain)]


def test_anybody_can_open_it() -> None:
    """HKDF-SHA256 (RFC 5869) and AES-256-GCM, over a JSON array as additional data."""
    box = CRYPT.encrypt(b"plain", "a.é", "evt_1")
    key = HKDF(SHA256(), 32, box[:16], b"wazuh-jetstream/1 message key").derive(OLD.value)
    extra = f'["wazuh-jetstream/1 encrypted","a.\\u00e9","evt_1","{OLD.kid}"]'.encode()
    assert AESGCM(key).decrypt(box[16:28], box[28:], extra) == b"plain"


def test_a_key_that_is_changed_leaves_nothing_unreadable() -> None:
    reader, writer = EncryptionHandler(None, [OLD, NEW], secrets.token_bytes), EncryptionHandler(OLD, [NEW], secrets.token_bytes)
    first = writer.encrypt(b"one", "s", "1")
    writer.renew(EncryptionHandler(NEW, [OLD], secrets.token_bytes))
    assert writer.kid == NEW.kid
    second = writer.encrypt(b"two", "s", "2")
    for handler in (reader, writer):
        assert handler.decrypt(first, "s", "1", OLD.kid) + handler.decrypt(second, "s", "2", NEW.kid) == b"onetwo"
    with pytest.raises(ValueError, match="no key to encrypt"):
        reader.encrypt(b"", "s", "e")


def test_neither_a_secret_s_repr_nor_its_id_nor_an_error_shows_it() -> None:
    assert repr(OLD) == "Secret()"
    assert OLD.kid != sealing.Key(OLD.value).kid
    with pytest.raises(Quarantine) as refused:
        CRYPT.decrypt(b"short", "s", "e", OLD.kid)
    assert OLD.value.hex() not in str(refused.value)


# Sealed and encrypted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [STATUS, KIND, BATCH])
def test_a_message_is_signed_then_encrypted_then_signed_as_it_is_sent(message: events.Message) -> None:
    subject, body, headers = seal.seal(message, 1, 2, SIGNER, crypt=CRYPT)
    assert EVENT.agent_name.encode() not in body
    assert headers["Wazuh-Encryption"] == f"aes-256-gcm;{OLD.kid}"
    assert headers["ce-datacontenttype"] == "application/octet-stream"
    assert SIGNER.verify_header(headers[sealing.SIGNATURE_HEADER], subject, body, events.covered(headers))
    assert seal.opened(subject, body, headers, CRYPT) == seal.seal(message, 1, 2, SIGNER)[1]
    assert seal.verify(subject, body, headers, SIGNER, CRYPT) == Verdict(True)
    assert seal.verify(subject, body, {name.lower(): value for name, value in headers.items()}, SIGNER, CRYPT).ok
    assert json.loads(seal.opened(subject, body, headers, CRYPT))


def test_without_a_key_to_encrypt_under_it_is_sent_in_the_clear() -> None:
    plain = EncryptionHandler(None, [OLD], secrets.token_bytes)
    assert seal.seal(STATUS, 1, 2, SIGNER, crypt=plain) == seal.seal(STATUS, 1, 2, SIGNER)
    assert "Wazuh-Encryption" not in seal.seal_apart(STATUS, SIGNER)[2]


def test_each_message_of_an_event_is_encrypted_anew_under_the_key_of_the_moment() -> None:
    crypt = EncryptionHandler(OLD, [NEW], secrets.token_bytes)
    sealer, found = seal.Sealer(SIGNER, crypt), []
    for current in (OLD, OLD, NEW, None):
        crypt.renew(EncryptionHandler(current, [OLD, NEW], secrets.token_bytes))
        sealed = sealer.seal(STATUS, 1, 2)
        assert seal.verify(sealed.subject, sealed.body, sealed.all_headers, SIGNER, crypt).ok
        assert sealed.all_headers.get("Wazuh-Encryption", "").removeprefix("aes-256-gcm;") == (current.kid if current else "")
        found.append(sealed.body)
    assert len({*found}) == 4


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (None, "no key to decrypt with is here"),
        (EncryptionHandler(None, [NEW], secrets.token_bytes), "which is not here"),
        (CRYPT, ""),
    ],
)
def test_who_cannot_open_it_is_told_why(keys: EncryptionHandler | None, why: str) -> None:
    verdict = seal.verify(*seal.seal(STATUS, 1, 2, SIGNER, crypt=CRYPT), SIGNER, keys)
    assert (verdict.ok, why in verdict.why) == (why == "", True)


def _without(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "Wazuh-Encryption"}


CHANGES: list[Callable[[dict[str, str]], dict[str, str]]] = [
    _without,
    lambda headers: {**headers, "Wazuh-Encryption": f"aes-256-gcm;{NEW.kid}"},
    lambda headers: {**headers, "Wazuh-Encryption": f"aes-128-gcm;{OLD.kid}"},
    lambda headers: {**headers, "Wazuh-Encryption": ""},
    lambda headers: {**headers, "ce-id": "evt_other"},
    lambda headers: _without(headers) | {"Wazuh-Kind": "batch"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_no_word_about_the_encryption_can_be_changed(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Neither in the header's signature, nor by somebody who may sign headers and has no key to encrypt with."""
    subject, body, headers = seal.seal(STATUS, 1, 2, SIGNER, crypt=CRYPT)
    reader = EncryptionHandler(None, [OLD, NEW], secrets.token_bytes)
    changed = change(headers)
    assert "header's signature" in seal.verify(subject, body, changed, SIGNER, reader).why
    forged = {**changed, sealing.SIGNATURE_HEADER: SIGNER.sign_header(subject, body, events.covered(changed))}
    assert not seal.verify(subject, body, forged, SIGNER, reader).ok
