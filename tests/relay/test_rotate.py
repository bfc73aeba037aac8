"""The law of a change of keys: at every step whatever was ever sent verifies, for whoever has read the keys again and for whoever
is one step behind; and no step that is broken off loses a key."""

import contextlib
import os
import secrets
from pathlib import Path

import pytest

from relay import consumerkeys, keys, rotate, seal, trust
from relay.rotate import Own
from relay.trust import Reading
from shared import ed25519, keygen, keyring
from shared.errors import ConfigError
from tests.relay.keyfiles import KeyFiles
from tests.relay.test_seal import STATUS

STEPS = ("next", "switch", "retire")
PATHS = [("hmac-sha256", "hmac-sha256"), ("hmac-sha256", "ed25519"), ("ed25519", "ed25519"), ("ed25519", "hmac-sha256")]


def step(files: KeyFiles, use: Own = "signing", algorithm: str | None = None) -> rotate.Done:
    return rotate.rotate(files.settings.security, use, algorithm, 0, at_once=True)


def sealed(files: KeyFiles, number: int) -> seal.Sealed:
    """A message as the relay sends it with the keys as they are in the files now."""
    held = trust.trust(files.settings)
    return seal.seal(STATUS, number, 1, held.signer, crypt=held.crypt)


def exported(files: KeyFiles) -> Reading:
    """A consumer that takes over the file now."""
    path = files.directory / f"consumer-{secrets.token_hex(4)}.json"
    with open(os.devnull, "w") as nowhere:
        keys.export(files.settings, path, nowhere, nowhere, with_secrets=True)
    return consumerkeys.reading(path)


def verifies(reading: Reading, sent: seal.Sealed) -> bool:
    return seal.verify(*sent, reading.verifier, reading.crypt).ok


@pytest.mark.parametrize(("before", "after"), PATHS)
def test_at_every_step_all_that_was_ever_sent_verifies_also_for_who_is_a_step_behind(tmp_path: Path, before: str, after: str) -> None:
    files = KeyFiles(tmp_path, before)
    sent, behind = [sealed(files, 0)], exported(files)
    for number, wanted in enumerate(STEPS * 2, start=1):
        done = step(files, algorithm=after)
        assert done.step == wanted
        sent.append(sealed(files, number))
        now = exported(files)
        assert all(verifies(reading, message) for message in sent for reading in (now, behind)), done
        assert all(verifies(trust.reading(files.settings), message) for message in sent)
        behind = now


@pytest.mark.parametrize(("before", "after"), PATHS)
def test_a_relay_that_has_not_yet_heard_of_the_next_key_takes_the_others_ticks(tmp_path: Path, before: str, after: str) -> None:
    """Headers alone: the key before signs beside the primary one until it is retired."""
    files = KeyFiles(tmp_path, before)
    standing_by = trust.trust(files.settings).signer
    for _ in STEPS[:2]:
        step(files, algorithm=after)
        value = trust.trust(files.settings).signer.sign_header("wazuh.raw._tick", b"tick", {})
        assert standing_by.verify_header(value, "wazuh.raw._tick", b"tick", {})


def test_encryption_changes_by_the_same_steps(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path, encrypts=True)
    sent, behind = [sealed(files, 0)], exported(files)
    for number, wanted in enumerate(STEPS * 2, start=1):
        assert step(files, "encryption").step == wanted
        sent.append(sealed(files, number))
        assert all(verifies(reading, message) for message in sent for reading in (exported(files), behind))
        behind = exported(files)
    assert len({message[2]["Wazuh-Encryption"] for message in sent}) == 3


def test_of_a_pair_that_is_retired_only_the_public_half_is_left(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path, "ed25519")
    keygen.create(files.key.with_suffix(".pub"), keyring.public_half(files.key), 0o644)
    first = keyring.read_key(files.key).kid
    for _ in STEPS:
        step(files)
    retired = files.keyring / "_relay" / f"retired-{first}.pub"
    assert [path.name for path in retired.parent.iterdir()] == [retired.name]
    assert b"PRIVATE" not in retired.read_bytes()
    assert isinstance(keyring.read_any(retired), ed25519.PublicKey)
    assert keyring.read_any(files.key.with_suffix(".pub")).kid == keyring.read_key(files.key).kid


def test_a_public_half_that_has_no_pair_any_more_is_gone(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path, "ed25519")
    keygen.create(files.key.with_suffix(".pub"), keyring.public_half(files.key), 0o644)
    step(files, algorithm="hmac-sha256")
    step(files)
    assert not files.key.with_suffix(".pub").exists()


def test_a_step_waits_until_the_one_before_was_read_by_everybody(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    security = files.settings.security
    now = files.key.stat().st_mtime
    rotate.rotate(security, "signing", None, now)
    for place in ("next.key", "previous.key"):
        made = (files.keyring / "_relay" / place).stat().st_mtime
        with pytest.raises(rotate.TooSoon, match="try again in 1 s, or use --now"):
            rotate.rotate(security, "signing", None, made + rotate.MIN_AGE_S - 1)
        rotate.rotate(security, "signing", None, made + rotate.MIN_AGE_S)


class Cut(BaseException):
    """The process is killed here."""


@pytest.mark.parametrize("at", range(1, 12))
@pytest.mark.parametrize(("before", "after"), PATHS)
def test_a_change_that_is_killed_anywhere_goes_on_and_loses_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, at: int
) -> None:
    """Every call that changes a directory may be the last one of a process."""
    files = KeyFiles(tmp_path, before)
    sent, calls = [sealed(files, 0)], 0

    def counted(name: str) -> None:
        real = getattr(Path, name)

        def call(self: Path, *arguments: object, **more: object) -> object:
            nonlocal calls
            if not self.name.startswith(".") or name == "replace":
                calls += 1
            if calls == at:
                calls += 1
                raise Cut
            return real(self, *arguments, **more)

        monkeypatch.setattr(Path, name, call)

    counted("replace")
    counted("unlink")
    done: list[str] = []
    while done.count("retire") < 2:
        with contextlib.suppress(Cut):
            done.append(step(files, algorithm=after).step)
        sent.append(sealed(files, len(sent)))
        reading = trust.reading(files.settings)
        assert all(verifies(reading, message) for message in sent)
    assert calls > at
    assert {path.name.partition("-")[0] for path in (files.keyring / "_relay").iterdir()} == {"retired"}


def test_what_was_changed_halfway_by_hand_loses_no_key_either(tmp_path: Path) -> None:
    """A next key is there although the one before was not retired yet."""
    files = KeyFiles(tmp_path)
    for _ in STEPS[:2]:
        step(files)
    keygen.create(files.keyring / "_relay" / "next.key", keygen.secret_text("ed25519"))
    sent = sealed(files, 1)
    assert step(files).step == "switch"
    assert verifies(trust.reading(files.settings), sent)
    assert len(list((files.keyring / "_relay").glob("retired-*"))) == 1


def test_new_keys_are_their_owners_alone_and_the_services(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    for _ in range(4):
        step(files)
        step(files, "encryption")
    for path in (files.key, files.secret, *files.keyring.rglob("*.key")):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, files.key.stat().st_uid)


def test_a_key_that_cannot_be_used_is_not_changed(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path)
    files.key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        step(files)
    files.key.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        step(files)
    assert list(files.keyring.iterdir()) == []
