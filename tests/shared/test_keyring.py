"""Key files are used only where nobody else can read them and they hold exactly a key."""

import os
from pathlib import Path

import pytest

from shared import keyring
from shared.errors import ConfigError
from shared.sealing import Key

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
        assert keyring.read_key(path).secret == b"\xab" * 32
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
    assert keyring.read_key(write_key(tmp_path / "k", mode=mode)).secret == b"\xab" * 32


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
