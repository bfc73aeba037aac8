"""Key files are used only where nobody else can read them and they hold exactly a key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import ed25519, keyring, sealing
from shared.errors import ConfigError
from shared.sealing import Key, signs

HEX = "ab" * 32


def write_key(path: Path, text: str = HEX + "\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [HEX, HEX + "\n", f"  {HEX.upper()}\r\n"])
def test_a_key_is_64_hex_digits(tmp_path: Path, text: str) -> None:
    assert keyring.read_key(write_key(tmp_path / "k", text)) == Key(b"\xab" * 32)


@pytest.mark.parametrize("text", ["", "\n", HEX[:-1], HEX[:-2], HEX + "00", "zz" * 32, "é" * 32, HEX * 200, f"{HEX}\n{HEX}"])
def test_anything_else_is_no_key_and_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits") as refused:
        keyring.read_key(write_key(tmp_path / "k", text))
    assert HEX[:16] not in str(refused.value)


PAIR = ed25519.PrivateKey.from_raw(b"p" * 32)


def test_a_key_is_also_a_pair_in_pem_as_openssl_writes_it(tmp_path: Path) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k"], check=True, capture_output=True)
    (tmp_path / "k").chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "k", "-pubout", "-out", tmp_path / "k.pub"], check=True, capture_output=True)
    private, public = keyring.read_key(tmp_path / "k"), keyring.read_any(tmp_path / "k.pub")
    assert private.algorithm == "ed25519"
    assert public.verifies(b"m", private.sign(b"m"))
    assert keyring.public_half(tmp_path / "k") == (tmp_path / "k.pub").read_bytes()


def test_a_public_key_is_none_to_sign_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="public key, which verifies and cannot sign"):
        keyring.read_key(write_key(tmp_path / "k", PAIR.public.pem().decode()))
    for text in (HEX, PAIR.public.pem().decode()):
        with pytest.raises(ConfigError, match="no private Ed25519"):
            keyring.public_half(write_key(tmp_path / "k", text))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o622])
def test_a_public_key_that_others_can_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 644"):
        keyring.read_any(write_key(tmp_path / "k.pub", PAIR.public.pem().decode(), mode))
    assert keyring.read_any(write_key(tmp_path / "k.pub", PAIR.public.pem().decode(), 0o644)).kid == PAIR.kid


def test_a_pair_is_as_secret_as_any_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        keyring.read_key(write_key(tmp_path / "k", PAIR.pem().decode(), 0o644))


def test_pem_that_is_no_ed25519_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = PAIR.pem().decode()
    for broken in (
        text[:-40],
        text.replace("MC4CAQ", "MC4CAR"),
        text.replace("K2Vw", "K2Vv"),
        "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----",
    ):
        with pytest.raises(ConfigError, match="openssl genpkey") as refused:
            keyring.read_key(write_key(tmp_path / "k", broken))
        assert broken.splitlines()[1] not in str(refused.value)


def test_a_pair_without_the_package_for_it_is_one_clear_sentence(tmp_path: Path) -> None:
    """And HMAC needs no such package: a manager's host may lack it."""
    write_key(tmp_path / "pair", PAIR.pem().decode())
    write_key(tmp_path / "secret")
    code = """
import sys
sys.modules["cryptography"] = None
from pathlib import Path
from shared import errors, keygen, keyring
print(keyring.read_key(Path("secret")).algorithm)
for attempt in (lambda: keyring.read_key(Path("pair")), lambda: keygen.signing_key(Path("new"), "ed25519")):
    try:
        attempt()
    except errors.ConfigError as error:
        print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(Path.cwd())}
    )
    algorithm, read, made = said.stdout.splitlines()
    assert algorithm == "hmac-sha256"
    assert "pair holds an Ed25519 key, which needs the package cryptography; run: pip install 'wazuh-jetstream[ed25519]'" in read
    assert "needs the package cryptography; run: pip install" in made
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o777])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "k", mode=mode)
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 600"):
        keyring.read_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of root")
@pytest.mark.parametrize(("mode", "used"), [(0o440, True), (0o640, True), (0o660, False), (0o644, False)])
def test_a_key_of_root_may_be_read_by_a_group_as_kubernetes_mounts_it(tmp_path: Path, mode: int, used: bool) -> None:
    path = write_key(tmp_path / "k", mode=mode)
    if used:
        assert keyring.read_key(path).kid == sealing.Key(b"\xab" * 32).kid
    else:
        with pytest.raises(ConfigError, match="chmod 600"):
            keyring.read_key(path)


def test_a_keyring_that_is_a_volume_of_kubernetes_has_its_nodes_alone(tmp_path: Path) -> None:
    """Such a volume holds its files in ..2026_11_28 and links to them, through ..data."""
    write_key(tmp_path / "..2026_11_28" / "node01" / "current.key")
    (tmp_path / "..data").symlink_to("..2026_11_28")
    (tmp_path / "node01").symlink_to("..data/node01")
    assert list(keyring.read_keyring(tmp_path)) == ["node01"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_is_used(tmp_path: Path, mode: int) -> None:
    assert keyring.read_key(write_key(tmp_path / "k", mode=mode)) == Key(b"\xab" * 32)


def test_a_key_file_that_is_missing_or_a_directory_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            keyring.read_key(path)


def test_a_keyring_has_every_node_s_keys_by_their_ids(tmp_path: Path) -> None:
    write_key(tmp_path / "node01" / "current.key")
    write_key(tmp_path / "node01" / "next.key", "cd" * 32)
    write_key(tmp_path / "a%2Eb" / "x.key", "ef" * 32)
    write_key(tmp_path / "node01" / "README", "no key", 0o644)
    write_key(tmp_path / "notes.txt", "no directory", 0o644)
    first, second, third = (Key(bytes([byte]) * 32) for byte in (0xAB, 0xCD, 0xEF))
    assert keyring.read_keyring(tmp_path) == {"node01": {first.kid: first, second.kid: second}, "a.b": {third.kid: third}}


def test_an_empty_keyring_knows_nobody(tmp_path: Path) -> None:
    assert keyring.read_keyring(tmp_path) == {}


def test_a_keyring_that_is_not_there_or_a_node_without_a_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none"):
        keyring.read_keyring(tmp_path / "none")
    (tmp_path / "node01").mkdir()
    with pytest.raises(ConfigError, match="node01"):
        keyring.read_keyring(tmp_path)


def test_a_bad_key_of_one_node_stops_the_keyring(tmp_path: Path) -> None:
    write_key(tmp_path / "node01" / "current.key")
    write_key(tmp_path / "node02" / "current.key", mode=0o644)
    with pytest.raises(ConfigError, match="node02"):
        keyring.read_keyring(tmp_path)


def test_a_node_s_key_may_be_public_and_never_the_private_half_of_a_pair(tmp_path: Path) -> None:
    write_key(tmp_path / "node01" / "current.pub", PAIR.public.pem().decode(), 0o644)
    write_key(tmp_path / "node01" / "before.key")
    (found,) = keyring.read_keyring(tmp_path).values()
    assert set(found) == {PAIR.kid, Key(b"\xab" * 32).kid}
    assert not any(signs(key) for kid, key in found.items() if kid == PAIR.kid)
    private = write_key(tmp_path / "node02" / "current.key", PAIR.pem().decode())
    with pytest.raises(ConfigError, match="nobody but the node may have; run: openssl pkey") as refused:
        keyring.read_keyring(tmp_path)
    subprocess.run(str(refused.value).partition("run: ")[2], shell=True, check=True)
    assert not private.exists()
    assert set(keyring.read_keyring(tmp_path)["node02"]) == {PAIR.kid}


def test_the_relay_s_own_directories_and_hidden_ones_are_no_nodes(tmp_path: Path) -> None:
    for name in ("_relay", "_encryption", "..data", ".git"):
        write_key(tmp_path / name / "next.key")
    write_key(tmp_path / "node01" / "current.key")
    (tmp_path / "node01" / ".current.key.1234").write_text("half")
    assert list(keyring.read_keyring(tmp_path)) == ["node01"]


def test_a_directory_that_everybody_can_put_keys_into_is_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "node01" / "current.key")
    (tmp_path / "node01").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        keyring.read_keyring(tmp_path)


def test_a_place_for_keys_that_is_none_holds_none_or_is_named(tmp_path: Path) -> None:
    assert keyring.key_files(tmp_path / "none") == []
    with pytest.raises(ConfigError, match=r"file\.txt"):
        keyring.key_files(write_key(tmp_path / "file.txt"))


def test_a_directory_whose_name_no_node_can_have_is_named(tmp_path: Path) -> None:
    write_key(tmp_path / "%FF" / "current.key")
    with pytest.raises(ConfigError, match="%FF"):
        keyring.read_keyring(tmp_path)


def test_two_directories_of_one_node_are_refused(tmp_path: Path) -> None:
    write_key(tmp_path / "a.b" / "current.key")
    write_key(tmp_path / "a%2Eb" / "current.key", "cd" * 32)
    with pytest.raises(ConfigError, match="twice"):
        keyring.read_keyring(tmp_path)


def test_a_key_file_that_is_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "k", 0o600)
    with pytest.raises(ConfigError, match="k"):
        keyring.read_key(tmp_path / "k")
