"""A key is made once, for its owner alone, and nothing that is there is ever overwritten."""

import io
import json
import os
from pathlib import Path

import pytest

from collector.__main__ import main
from shared import keygen, keyring
from shared.errors import ConfigError


@pytest.mark.parametrize("algorithm", keygen.SIGNING)
def test_a_key_that_was_made_is_used_and_none_is_made_twice(tmp_path: Path, algorithm: str) -> None:
    old = os.umask(0)
    try:
        made = keygen.signing_key(tmp_path / "a.key", algorithm)
    finally:
        os.umask(old)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (keyring.read_key(made.path).kid, keyring.read_key(made.path).algorithm) == (made.kid, algorithm)
    assert keygen.signing_key(tmp_path / "b.key", algorithm).kid != made.kid
    before = made.path.read_bytes()
    with pytest.raises(keygen.NotMade, match="is there already"):
        keygen.signing_key(made.path, algorithm)
    assert made.path.read_bytes() == before


def test_the_public_half_stands_beside_and_overwrites_nothing(tmp_path: Path) -> None:
    made = keygen.signing_key(tmp_path / "a.key", "ed25519")
    assert made.public == tmp_path / "a.pub"
    assert keyring.read_any(tmp_path / "a.pub").kid == made.kid
    (tmp_path / "a.key").unlink()
    for name in ("a.key", "b.pub"):
        with pytest.raises(keygen.NotMade, match=r"a\.pub|b\.pub"):
            keygen.signing_key(tmp_path / name, "ed25519")
        assert not (tmp_path / name).exists()


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make its directory"):
        keygen.signing_key(tmp_path / "none" / "a.key", "hmac-sha256")
    (tmp_path / "a.key").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        keygen.put(tmp_path / "a.key", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


def test_what_is_put_over_a_file_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with open(tmp_path / "a") as before:
        keygen.put(tmp_path / "a", b"after", mode=0o644)
        assert before.read() == "before"
    assert (tmp_path / "a").read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_was_made_is_told_and_never_the_key(tmp_path: Path, as_json: bool) -> None:
    for algorithm in keygen.SIGNING:
        out = io.StringIO()
        made = keygen.signing_key(tmp_path / algorithm, algorithm)
        keygen.show(made, out, as_json=as_json)
        assert made.kid in out.getvalue()
        assert str(made.path) in out.getvalue()
        assert not any(line in out.getvalue() for line in made.path.read_text().splitlines())


def test_a_collectors_host_makes_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "generate"]) == 78
    assert "security.signing_key_path is not set" in capsys.readouterr().err
    monkeypatch.setenv("WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH", str(tmp_path / "node.key"))
    assert main(["keys", "generate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "path": str(tmp_path / "node.key"),
        "algorithm": "hmac-sha256",
        "kid": keyring.read_key(tmp_path / "node.key").kid,
        "public_path": None,
    }
    assert main(["keys", "generate"]) == 1
    assert main(["keys", "generate", str(tmp_path / "pair.key"), "--algorithm", "ed25519"]) == 0
    assert "may be given to everybody" in capsys.readouterr().out
