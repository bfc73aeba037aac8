"""`wazuh-relay keys` as an operator uses it; no secret is ever printed."""

import json
from pathlib import Path

import pytest

from relay import consumerkeys, trust
from relay.__main__ import main
from shared import keygen, keyring
from tests.relay.keyfiles import KeyFiles


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFiles:
    made = KeyFiles(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints, on either channel."""
    assert main(["keys", *words]) == code
    told = capsys.readouterr()
    return told.out + told.err


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "ed25519", "aes-256-gcm"])
def test_a_key_is_made_where_the_configuration_names_it(files: KeyFiles, capsys: pytest.CaptureFixture[str], algorithm: str) -> None:
    target = files.secret if algorithm == "aes-256-gcm" else files.key
    assert "is there already" in run(capsys, "generate", "--algorithm", algorithm, code=1)
    target.unlink()
    told = json.loads(run(capsys, "generate", "--algorithm", algorithm, "--json"))
    assert (told["path"], told["algorithm"], target.stat().st_mode & 0o777) == (str(target), algorithm, 0o600)
    listed = json.loads(run(capsys, "list", "--json"))
    assert told["kid"] in [one["kid"] for one in listed]
    elsewhere = files.directory / "elsewhere.key"
    assert str(elsewhere) in run(capsys, "generate", str(elsewhere), "--algorithm", algorithm)
    assert elsewhere.exists()


def test_every_key_is_listed_by_its_id_and_place(files: KeyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    (files.keyring / "a%2Eb").mkdir()
    node = keygen.signing_key(files.keyring / "a%2Eb" / "x.key", "hmac-sha256")
    run(capsys, "rotate", "--now")
    run(capsys, "rotate", "--now")
    table = run(capsys, "list")
    for words in ("node a.b", node.kid, "current", "previous", "aes-256-gcm", str(node.path)):
        assert words in table
    assert not any(text in table for text in files.texts())


def test_a_change_says_what_was_done_and_what_is_to_be_done(files: KeyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    first = keyring.read_key(files.key).kid
    told = run(capsys, "rotate", "--algorithm", "ed25519")
    assert told.startswith("next: signing key ")
    assert "keys export" in told
    assert "try again in" in run(capsys, "rotate", code=75)
    switched = json.loads(run(capsys, "rotate", "--now", "--json"))
    assert (switched["step"], switched["kid"]) == ("switch", keyring.read_key(files.key).kid)
    assert f"retire: signing key {first}" in run(capsys, "rotate", "--now")
    assert run(capsys, "rotate", "encryption").startswith("next: encryption key ")


def test_what_is_handed_out_can_be_read_by_a_consumer(files: KeyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "rotate", "--algorithm", "ed25519")
    path = files.directory / "consumer.json"
    public = run(capsys, "export", "--out", str(path))
    assert (path.stat().st_mode & 0o777, "--with-secrets" in public) == (0o644, True)
    assert consumerkeys.reading(path).verifier.kids == (keyring.read_key(files.keyring / "_relay" / "next.key").kid,)
    told = run(capsys, "export", "--out", str(path), "--with-secrets")
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(consumerkeys.reading(path).verifier.kids) == set(trust.reading(files.settings).verifier.kids)
    printed = run(capsys, "export")
    assert not any(text in public + told + printed for text in files.texts())
    assert json.loads(printed.partition("\nwithout")[0])["version"] == 1


def test_secrets_are_never_printed_on_a_terminal(files: KeyFiles, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["keys", "export", "--with-secrets"])
    assert refused.value.code == 2
    told = capsys.readouterr()
    assert "needs --out FILE" in told.err
    assert not any(text in told.out + told.err for text in files.texts())
