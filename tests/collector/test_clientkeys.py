"""client.keys as OS_ReadKeys reads it, and nothing of a key left behind."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import clientkeys, files
from shared.models import KeyEntry
from tests.collector.as_nobody import as_nobody

KEY = b"c0ffee" * 10 + b"c0de"


def entry(number: int, name: str = "web", ip: str = "any", *, removed: bool = False) -> KeyEntry:
    return KeyEntry(number, name, ip, removed)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"001 web any " + KEY, entry(1)),
        (b"1000 web.x_y-z 10.0.0.0/8 " + KEY, entry(1000, "web.x_y-z", "10.0.0.0/8")),
        (b"99999999 web ::1/128 " + KEY, entry(99_999_999, ip="::1/128")),
        (b"001 web any key with spaces", entry(1)),
        (b"001 web any ", entry(1)),
        (b"001 web any " + KEY + b"\r", entry(1)),
        (b"001 web any k\0 ey", entry(1)),
        (b"002 !web any " + KEY, entry(2, removed=True)),
        (b"002 #web any " + KEY, entry(2, removed=True)),
        (b"002 !web", entry(2, ip="", removed=True)),
        (b"002 !", entry(2, "", "", removed=True)),
        (b"001 w\xffeb any k", entry(1, "w\ufffdeb")),
        (b"001 web any " + b"k" * (2047 - 12), entry(1)),
    ],
)
def test_an_entry(line: bytes, expected: KeyEntry) -> None:
    assert clientkeys.parse(line + b"\n") == clientkeys.Keys((expected,), 0)
    assert clientkeys.parse(line) == clientkeys.Keys((expected,), 0)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"001", b"001 web", b"001 web any", b"001  any k", b"001 web  k", b"000 web any k", b"123456789 web any k", b"x web any k",
        b"-1 web any k", b"1.0 web any k", "²1 web any k".encode(), b"001\0 web any k", b"\t001 web any k", b"001 web\0 any k",
        b"001 web any " + b"k" * 2036, b"001 " + b"n" * 257 + b" any k", b"001 web " + b"i" * 257 + b" k", b"000 !web any k",
        b"1 !" + b"n" * 257 + b" any k",
    ],
)  # fmt: skip
def test_a_broken_line_is_counted_and_the_rest_goes_on(line: bytes) -> None:
    keys = clientkeys.parse(b"001 first any k\n" + line + b"\n007 last any k\n")
    assert keys == clientkeys.Keys((entry(1, "first"), entry(7, "last")), 1)


def test_comments_and_lines_that_begin_with_a_space_are_skipped() -> None:
    assert clientkeys.parse(b"# 001 a any k\n 002 b any k\n#\n003 web any k\n") == clientkeys.Keys((entry(3),), 0)
    assert clientkeys.parse(b"") == clientkeys.Keys((), 0)


def test_of_two_lines_with_one_id_the_first_counts_but_a_live_one_over_a_removed_one() -> None:
    assert clientkeys.parse(b"1 a any k\n1 b any k\n") == clientkeys.Keys((entry(1, "a"),), 1)
    assert clientkeys.parse(b"1 a any k\n1 !b any k\n") == clientkeys.Keys((entry(1, "a"),), 1)
    assert clientkeys.parse(b"1 !a any k\n1 !b any k\n") == clientkeys.Keys((entry(1, "a", removed=True),), 1)
    assert clientkeys.parse(b"1 !a any k\n1 b any k\n") == clientkeys.Keys((entry(1, "b"),), 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_and_no_id_is_told_twice(text: bytes) -> None:
    keys = clientkeys.parse(text)
    assert len({one.id for one in keys.entries}) == len(keys.entries)
    assert len(keys.entries) + keys.bad_lines <= text.count(b"\n") + 1


def test_the_file_is_read_when_it_changed_and_the_key_is_in_nothing_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "client.keys"
    path.write_bytes(b"001 web any " + KEY + b"\n")
    file = clientkeys.KeysFile(path)
    assert (file.state, file.error) == ("unread", "")
    keys = file.read_if_changed()
    assert keys == clientkeys.Keys((entry(1),), 0)
    assert (file.state, file.error) == ("ok", "")
    assert file.read_if_changed() is None
    assert (file.state, file.error) == ("ok", "")
    gc.collect()
    assert not any(KEY.decode() in text for text in map(repr, (keys, vars(file))))
    (tmp_path / "new").write_bytes(b"002 web any k\n")
    os.utime(tmp_path / "new", ns=(0, path.stat().st_mtime_ns))
    (tmp_path / "new").rename(path)
    assert file.read_if_changed() == clientkeys.Keys((entry(2),), 0)
    path.write_bytes(b"")
    assert file.read_if_changed() == clientkeys.Keys((), 0)


def test_a_file_in_doubt_is_read_whatever_its_time_says_and_told_where_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "client.keys"
    path.write_bytes(b"001 web any k\n")
    file = clientkeys.KeysFile(path)
    file.read_if_changed()
    written_at = path.stat().st_mtime_ns
    file.doubt()
    assert file.read_if_changed() is None
    path.write_bytes(b"002 web any k\n")
    os.utime(path, ns=(0, written_at))
    assert file.read_if_changed() is None, "it seems to be as it was"
    assert file.all() == (entry(1),)
    file.doubt()
    assert file.read_if_changed() == clientkeys.Keys((entry(2),), 0)
    assert file.all() == (entry(2),)


def test_a_file_that_is_being_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "client.keys"
    path.write_bytes(b"001 web any k\n")
    read = files.read

    def grow(descriptor: int, limit: int) -> bytes:
        content = read(descriptor, limit)
        path.write_bytes(b"001 web any k\n002 web any k\n")
        return content

    monkeypatch.setattr(files, "read", grow)
    file = clientkeys.KeysFile(path)
    assert file.read_if_changed() == clientkeys.Keys((entry(1),), 0)
    monkeypatch.undo()
    assert file.read_if_changed() == clientkeys.Keys((entry(1), entry(2)), 0)


def test_a_file_that_goes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "client.keys"
    file = clientkeys.KeysFile(path)
    assert file.read_if_changed() is None
    assert file.state == "missing"
    assert "wazuh.home" in file.error
    path.write_bytes(b"001 web any k\n")
    assert file.read_if_changed() is not None
    path.unlink()
    assert file.read_if_changed() is None
    assert file.state == "missing"
    path.write_bytes(b"001 web any k\n")
    assert file.read_if_changed() is not None


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "client.keys")
    file = clientkeys.KeysFile(tmp_path / "client.keys")
    assert file.read_if_changed() is None
    assert file.state == "denied"
    assert "not a regular file" in file.error


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clientkeys, "MAX_BYTES", 5)
    (tmp_path / "client.keys").write_bytes(b"001 web any k\n")
    file = clientkeys.KeysFile(tmp_path / "client.keys")
    assert file.read_if_changed() is None
    assert "larger than 5 bytes" in file.error


def test_a_file_of_another_group(open_dir: Path) -> None:
    path = open_dir / "client.keys"
    path.write_bytes(b"001 web any k\n")
    path.chmod(0)

    def read() -> str:
        file = clientkeys.KeysFile(path)
        return f"{file.read_if_changed()} {file.state} {file.error}"

    told = as_nobody(read)
    assert told.startswith("None denied ")
    assert "group wazuh" in told


def test_a_refusal_of_the_system_is_told_as_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open_regular", refuse)
    file = clientkeys.KeysFile(tmp_path / "client.keys")
    assert file.read_if_changed() is None
    assert file.state == "denied"


def test_what_stirred_is_read_and_nothing_else_stirs(tmp_path: Path) -> None:
    """It is asked many times a second; where the file may not be read, only trying shows that it may be now."""
    path = tmp_path / "client.keys"
    file = clientkeys.KeysFile(path)
    file.read_if_changed()
    told = [file.stirred()]
    for text in ("001 a any k\n", "001 a any k\n002 b any k\n"):
        path.write_text(text)
        told.append(file.stirred())
        file.read_if_changed()
        told.append(file.stirred())
    path.unlink()
    told.append(file.stirred())
    path.mkdir()
    file.read_if_changed()
    told.append(file.stirred())
    assert told == [False, True, False, True, False, True, False]
