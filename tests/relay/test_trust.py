"""Which keys count for the relay and for whoever reads what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay import consumerkeys, rotate, seal, trust
from relay.encryption import Secret
from shared import config, ed25519, keygen, keyring, sealing
from shared.errors import ConfigError
from tests.relay.keyfiles import KeyFiles
from tests.relay.test_seal import STATUS


def node(files: KeyFiles, name: str, file: str = "current.key") -> str:
    (files.keyring / name).mkdir(exist_ok=True)
    return keygen.signing_key(files.keyring / name / file, "hmac-sha256").kid


def test_what_is_renewed_is_in_use_wherever_it_is_held(tmp_path: Path) -> None:
    """The relay's parts hold signer, nodes and crypt since their start."""
    files = KeyFiles(tmp_path, encrypts=True)
    first = node(files, "node01")
    node(files, "node02")
    held = trust.trust(files.settings)
    signer, nodes, crypt = held.signer, held.nodes, held.crypt
    before = (signer.kid, crypt.kid)
    for use in ("signing", "encryption"):
        for _ in range(2):
            rotate.rotate(files.settings.security, use, None, 0, at_once=True)
    second, third = node(files, "node01", "next.key"), node(files, "node03")
    for path in (files.keyring / "node02").iterdir():
        path.unlink()
    (files.keyring / "node02").rmdir()
    held.renew(trust.trust(files.settings))
    assert (signer.kid, crypt.kid) == (keyring.read_key(files.key).kid, Secret(keyring.read_secret(files.secret)).kid)
    assert before[0] in signer.kids
    assert {name: set(keys) for name, keys in nodes.items()} == {"node01": {first, second}, "node03": {third}}
    assert held.described() == f"{signer.kid} signs, {crypt.kid} encrypts, 2 nodes"


def test_encryption_that_is_off_needs_no_key_and_opens_what_was_encrypted_before(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path, encrypts=True)
    node(files, "node01")
    on = trust.trust(files.settings)
    sent = seal.seal(STATUS, 1, 2, on.signer, crypt=on.crypt)
    off = config.load(None, {**files.environ, "WAZUH_JETSTREAM__SECURITY__ENCRYPT_MESSAGES": "false"})
    assert trust.trust(off).crypt.kid is None
    assert seal.verify(*sent, trust.trust(off).signer, trust.trust(off).crypt).ok
    files.secret.unlink()
    assert trust.trust(off).described().endswith("signs, 1 nodes")
    with pytest.raises(ConfigError, match=r"encryption\.key cannot be read"):
        trust.trust(files.settings)
    unnamed = config.load(None, {**files.environ, "WAZUH_JETSTREAM__SECURITY__ENCRYPTION_KEY_PATH": ""})
    with pytest.raises(ConfigError, match=r"security\.encryption_key_path is not set"):
        trust.trust(unnamed)


def test_public_keys_are_enough_to_read_and_not_to_run(tmp_path: Path) -> None:
    files, reader = KeyFiles(tmp_path / "relay", "ed25519"), KeyFiles(tmp_path / "reader")
    held = trust.trust(files.settings)
    sent = seal.seal(STATUS, 1, 2, held.signer)
    (reader.keyring / "_relay").mkdir()
    keygen.create(reader.keyring / "_relay" / "theirs.pub", keyring.public_half(files.key), 0o644)
    bare = config.load(None, {"WAZUH_JETSTREAM__SECURITY__KEYRING_PATH": str(reader.keyring)})
    assert seal.verify(*sent, trust.reading(bare).verifier).ok
    with pytest.raises(ConfigError, match=r"security\.signing_key_path is not set"):
        trust.trust(bare)
    named = config.load(
        None, {**reader.environ, "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": str(reader.keyring / "_relay" / "theirs.pub")}
    )
    assert seal.verify(*sent, trust.reading(named).verifier).ok
    with pytest.raises(ConfigError, match="verifies and cannot sign"):
        trust.trust(named)
    with pytest.raises(ConfigError, match=r"security\.signing_key_path is not set"):
        trust.reading(config.load(None, {}))
    assert trust.of_nodes(config.load(None, {}).security) == []


# The consumer's file ------------------------------------------------------------------------------------------------


def held(tmp_path: Path, algorithm: str = "ed25519") -> tuple[KeyFiles, list[trust.Held]]:
    files = KeyFiles(tmp_path / algorithm, algorithm, encrypts=True)
    node(files, "node01")
    rotate.rotate(files.settings.security, "signing", "ed25519", 0, at_once=True)
    security = files.settings.security
    return files, [*trust.own(security, "signing"), *trust.own(security, "encryption"), *trust.of_nodes(security)]


def written(path: Path, document: object, mode: int = 0o600) -> Path:
    path.write_text(json.dumps(document))
    path.chmod(mode)
    return path


def test_a_consumer_verifies_with_public_keys_and_decrypts_only_with_secrets(tmp_path: Path) -> None:
    files, keys = held(tmp_path)
    relay = trust.trust(files.settings)
    sent, plain = seal.seal(STATUS, 1, 2, relay.signer, crypt=relay.crypt), seal.seal(STATUS, 1, 2, relay.signer)
    public = consumerkeys.reading(written(tmp_path / "a.json", consumerkeys.document(keys, with_secrets=False), 0o644))
    assert seal.verify(*plain, public.verifier, public.crypt).ok
    assert "which is not here" in seal.verify(*sent, public.verifier, public.crypt).why
    whole = consumerkeys.reading(written(tmp_path / "b.json", consumerkeys.document(keys, with_secrets=True)))
    assert seal.verify(*sent, whole.verifier, whole.crypt).ok


def test_no_secret_leaves_unasked_and_no_node_s_key_and_no_private_half_ever(tmp_path: Path) -> None:
    for algorithm in keygen.SIGNING:
        files, keys = held(tmp_path, algorithm)
        told = str(consumerkeys.document(keys, with_secrets=False))
        assert not any(text in told for text in files.texts())
        asked = str(consumerkeys.document(keys, with_secrets=True))
        private = {text for text in files.texts() if "PRIVATE" in text}
        own = {files.key.read_text().strip(), files.secret.read_text().strip()} - private
        assert {text for text in files.texts() if text in asked} == own
        assert len(private) > 0


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no object": lambda document: [document],
    "another format": lambda document: {**document, "format": "x"},
    "no keys": lambda document: {**document, "keys": []},
    "keys of the wrong kind": lambda document: {**document, "keys": ["x"]},
    "keys that are a number": lambda document: {**document, "keys": 1},
    "a newer version": lambda document: {**document, "version": 2},
    "another's id": lambda document: {**document, "keys": [{**document["keys"][0], "kid": "0" * 16}]},
    "no use": lambda document: {**document, "keys": [{"kid": "x"}]},
    "a short key": lambda document: {**document, "keys": [{**document["keys"][0], "secret": "ab"}]},
    "no hex": lambda document: {**document, "keys": [{**document["keys"][0], "secret": "secretsecret"}]},
    "another algorithm": lambda document: {**document, "keys": [{**document["keys"][0], "algorithm": "none"}]},
    "a number as a key": lambda document: {**document, "keys": [{**document["keys"][0], "secret": 7}]},
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_file_that_is_none_is_refused_and_its_keys_not_shown(tmp_path: Path, what: str) -> None:
    files, keys = held(tmp_path, "hmac-sha256")
    path = written(tmp_path / "keys.json", BREAKS[what](consumerkeys.document(keys, with_secrets=True)))
    with pytest.raises(ConfigError, match="key file") as refused:
        consumerkeys.reading(path)
    assert not any(text in str(refused.value) for text in [*files.texts(), "secretsecret"])


def test_a_file_with_secrets_is_its_owners_alone(tmp_path: Path) -> None:
    _, keys = held(tmp_path)
    path = written(tmp_path / "keys.json", consumerkeys.document(keys, with_secrets=True), 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        consumerkeys.reading(path)
    with pytest.raises(ConfigError, match="keys export"):
        consumerkeys.reading(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="it is no such file"):
        consumerkeys.reading(tmp_path / "bad.json")


def test_a_public_file_s_key_is_the_one_it_was_made_of(tmp_path: Path) -> None:
    files, keys = held(tmp_path)
    current = consumerkeys.document(keys, with_secrets=False)["keys"][0]
    private = keyring.read_key(files.key)
    assert isinstance(private, ed25519.PrivateKey)
    assert current == {
        "kid": private.kid, "use": "signing", "state": "current", "algorithm": "ed25519", "public_key": private.public.raw.hex(),
    }  # fmt: skip
    assert sealing.signs(private)
