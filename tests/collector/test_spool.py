"""Laws of the spool, on real SQLite files and real processes."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.spool import Item, Spool, SpoolFailed
from shared.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    opened = Spool.open(path, 1 << 20, 1000, "node01")
    yield opened
    opened.close()


def drain(spool: Spool) -> list[Item]:
    items = []
    while (item := spool.oldest()) is not None:
        items.append(item)
        spool.forget(item)
    return items


@given(st.lists(st.binary(max_size=2000), max_size=8), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_items_come_back_byte_for_byte_in_order_across_restarts(
    tmp_path_factory: pytest.TempPathFactory, data: list[bytes], cut: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    first = Spool.open(path, 1 << 20, 1000, "node01")
    items = [Item(first.boot, seq, "delta", payload) for seq, payload in enumerate(data, 1)]
    for item in items[:cut]:
        assert first.put(item)
    first.close()
    second = Spool.open(path, 1 << 20, 1000, "node01")
    assert second.boot > first.boot
    rest = [Item(second.boot, seq, "delta", item.payload) for seq, item in enumerate(items[cut:], 1)]
    for item in rest:
        second.put(item)
    assert (second.depth(), second.size()) == (len(data), sum(map(len, data)))
    assert drain(second) == items[:cut] + rest
    assert (second.depth(), second.size(), second.oldest()) == (0, 0, None)
    second.close()


def test_boot_grows_with_every_opening_and_with_the_time_when_the_spool_was_lost(path: Path) -> None:
    boots = []
    for now in (1000, 1000, 500, 5000):
        spool = Spool.open(path, 1 << 20, now, "node01")
        boots.append(spool.boot)
        spool.close()
    assert boots == [1000, 1001, 1002, 5000]
    path.unlink()
    spool = Spool.open(path, 1 << 20, 6000, "node01")
    assert spool.boot == 6000
    spool.close()


def test_a_full_spool_gives_way_and_owes_a_gap_until_a_full_says_so(path: Path) -> None:
    spool = Spool.open(path, 100, 1000, "node01")
    assert spool.put(Item(1000, 1, "delta", b"x" * 60))
    assert not spool.put(Item(1000, 2, "delta", b"y" * 60))
    assert (spool.depth(), spool.size(), spool.gap) == (0, 0, True)
    assert spool.put(Item(1000, 3, "delta", b"z"))
    spool.close()
    again = Spool.open(path, 100, 1000, "node01")
    assert again.gap
    full = Item(again.boot, 1, "full", b"f" * 80)
    assert again.put(full, gap=True)
    assert not again.gap
    assert [item.payload for item in drain(again)] == [b"z", b"f" * 80]
    again.close()


def test_a_gap_full_replaces_what_leaves_no_room_for_it(path: Path) -> None:
    spool = Spool.open(path, 100, 1000, "node01")
    spool.put(Item(1000, 1, "delta", b"x" * 60))
    assert spool.put(Item(1000, 2, "full", b"f" * 300), gap=True)
    assert not spool.gap
    assert [item.seq for item in drain(spool)] == [2]
    assert spool.size() == 0
    spool.close()


def test_a_full_larger_than_the_bound_is_taken_alone(path: Path) -> None:
    spool = Spool.open(path, 10, 1000, "node01")
    assert spool.put(Item(1000, 1, "full", b"f" * 300))
    assert not spool.put(Item(1000, 2, "full", b"f" * 300))
    spool.close()


def test_what_is_refused_for_good_leaves_and_owes_a_gap(spool: Spool, path: Path) -> None:
    item = Item(spool.boot, 1, "delta", b"x")
    spool.put(item)
    spool.refuse(item)
    assert spool.gap
    assert spool.oldest() is None
    spool.close()
    again = Spool.open(path, 100, 1000, "node01")
    assert again.gap
    spool._lock_file, spool._connection = again._lock_file, again._connection  # the fixture closes it


def test_two_processes_on_one_spool_are_refused(spool: Spool, path: Path) -> None:
    script = f"from pathlib import Path; from collector.spool import Spool; Spool.open(Path({str(path)!r}), 1, 1, 'node01')"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"spool {path} is in use by another wazuh-collector" in other.stderr
    assert spool.put(Item(spool.boot, 1, "delta", b"still mine"))


def test_a_spool_with_another_nodes_snapshots_is_refused_and_an_empty_one_is_not(path: Path) -> None:
    first = Spool.open(path, 100, 1000, "node01")
    first.close()
    second = Spool.open(path, 100, 1000, "node02")
    second.put(Item(second.boot, 1, "delta", b"x"))
    second.close()
    with pytest.raises(ConfigError, match="holds 1 snapshots of node 'node02', and this collector is 'node01'"):
        Spool.open(path, 100, 1000, "node01")
    again = Spool.open(path, 100, 1000, "node02")
    assert again.depth() == 1
    again.close()


def test_no_directory_no_permission_no_database_are_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used \(No such file or directory\); the collector's user needs to write"):
        Spool.open(tmp_path / "absent" / "spool.db", 1, 1, "node01")
    (tmp_path / "text").write_text("no database at all, but long enough to be read as the header of one" * 10)
    with pytest.raises(ConfigError, match=r"not a database\); it is damaged: move it aside"):
        Spool.open(tmp_path / "text", 1, 1, "node01")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE agent (id)")
    other.close()
    with pytest.raises(ConfigError, match="no spool of this version"):
        Spool.open(tmp_path / "other.db", 1, 1, "node01")


def test_a_spool_is_for_its_owner_alone(spool: Spool, path: Path) -> None:
    """It holds names and addresses of agents."""
    spool.put(Item(spool.boot, 1, "delta", b"x"))
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_full_disk_is_one_clear_sentence_and_owes_a_gap(spool: Spool) -> None:
    """max_page_count is SQLite's own way to have no space left."""
    spool._connection.execute("PRAGMA max_page_count=1")
    with pytest.raises(SpoolFailed, match=r"cannot be written \(database or disk is full\); free some disk space"):
        spool.put(Item(spool.boot, 1, "delta", os.urandom(100_000)))
    assert spool.gap
    assert spool.depth() == 0
    spool._connection.execute("PRAGMA max_page_count=100000")
    assert spool.put(Item(spool.boot, 2, "full", b"f"), gap=True)
    assert not spool.gap


def test_a_disk_that_is_full_at_the_start_may_be_tried_again(path: Path) -> None:
    """RLIMIT_FSIZE is a disk that takes no more, for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SpoolFailed, match="its disk takes no more"):
            Spool.open(path, 100, 1000, "node01")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    Spool.open(path, 100, 1000, "node01").close()


@pytest.mark.parametrize("refused", [False, True])
def test_what_the_disk_refuses_to_forget_is_not_given_again(spool: Spool, refused: bool) -> None:
    for seq in (1, 2):
        spool.put(Item(spool.boot, seq, "delta", b"x"))
    first = spool.oldest()
    assert first is not None
    spool._connection.execute("PRAGMA query_only=1")
    if not refused:
        spool.forget(first)
    with pytest.raises(SpoolFailed):
        spool.refuse(first) if refused else spool.tidy()
    second = spool.oldest()
    assert second is not None
    assert second.seq == 2
    spool._connection.execute("PRAGMA query_only=0")
    spool.forget(second)
    assert spool.oldest() is None
    spool.tidy()
    assert on_disk(spool) == []


def on_disk(spool: Spool) -> list[int]:
    return [seq for (seq,) in spool._connection.execute("SELECT seq FROM items ORDER BY boot, seq")]


def test_what_was_let_go_of_leaves_the_disk_with_the_next_item_or_when_tidied(spool: Spool) -> None:
    """One transaction a snapshot, and not two."""
    for seq in (1, 2, 3):
        spool.put(Item(spool.boot, seq, "delta", b"x"))
    for _ in range(2):
        spool.forget(spool.oldest())  # type: ignore[arg-type]
    assert (spool.depth(), spool.size(), on_disk(spool)) == (1, 1, [1, 2, 3])
    spool.put(Item(spool.boot, 4, "delta", b"xx"))
    assert (spool.depth(), spool.size(), on_disk(spool)) == (2, 3, [3, 4])
    assert [item.seq for item in drain(spool)] == [3, 4]
    assert on_disk(spool) == [3, 4]
    spool.tidy()
    assert on_disk(spool) == []


def test_what_an_earlier_boot_left_is_off_the_disk_as_soon_as_nats_has_it(path: Path) -> None:
    """Sent once more, behind this boot's own, it would look like a second collector's."""
    first = Spool.open(path, 100, 1000, "node01")
    first.put(Item(first.boot, 1, "delta", b"x"))
    first.close()
    spool = Spool.open(path, 100, 1000, "node01")
    spool.put(Item(spool.boot, 1, "delta", b"y"))
    spool.forget(spool.oldest())  # type: ignore[arg-type]
    assert [item.payload for item in drain(spool)] == [b"y"]
    assert on_disk(spool) == [1]
    assert spool._connection.execute("SELECT boot FROM items").fetchall() == [(spool.boot,)]
    spool.close()


def test_what_was_given_up_while_it_was_sent_is_no_other_item(path: Path) -> None:
    spool = Spool.open(path, 100, 1000, "node01")
    spool.put(Item(1000, 1, "delta", b"x" * 60))
    sent = spool.oldest()
    assert sent is not None
    assert not spool.put(Item(1000, 2, "delta", b"y" * 60))
    spool.forget(sent)
    assert (spool.depth(), spool.size(), spool.oldest()) == (0, 0, None)
    spool.put(Item(1000, 3, "full", b"z"), gap=True)
    spool.forget(sent)
    assert [item.seq for item in drain(spool)] == [3]
    spool.close()


def test_an_orderly_end_leaves_nothing_that_is_in_nats(path: Path) -> None:
    spool = Spool.open(path, 100, 1000, "node01")
    spool.put(Item(spool.boot, 1, "delta", b"x"))
    drain(spool)
    spool.close()
    again = Spool.open(path, 100, 1000, "node01")
    assert (again.depth(), on_disk(again)) == (0, [])
    again.close()


def test_space_is_given_back_when_the_spool_is_empty(path: Path) -> None:
    spool = Spool.open(path, 100 << 20, 1000, "node01")
    for seq in range(1, 41):
        spool.put(Item(1000, seq, "delta", os.urandom(200_000)))
    drain(spool)
    spool.tidy()
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 1 << 20
    spool.close()


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    from collector.spool import Item, Spool
    spool = Spool.open(Path(sys.argv[1]), 64 << 20, 1, "node01")
    print("boot", spool.boot, flush=True)
    seq = 0
    while True:
        seq += 1
        spool.put(Item(spool.boot, seq, "delta", b"%d:" % seq + bytes(seq * 37 % 5000)))
        print("put", seq, flush=True)
        if seq % 3 == 0:
            item = spool.oldest()
            spool.forget(item)
            print("sent", item.seq, flush=True)
        if seq % 7 == 0:
            spool.tidy()
            print("tidied", seq, flush=True)
""")


@pytest.mark.parametrize("lines", [2, 7, 60, 301])
def test_kill_9_at_any_moment_loses_nothing_that_was_put_and_brings_back_only_what_was_sent_last(path: Path, lines: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline().split() for _ in range(lines)]
    os.kill(child.pid, signal.SIGKILL)
    with child.stdout as rest:
        said += [line.split() for line in rest if line.endswith("\n")]
    child.wait()
    boot = int(said[0][1])
    put, sent, gone = set[int](), set[int](), set[int]()
    for word, seq in said:
        {"put": put, "sent": sent}.get(word, set()).add(int(seq))
        if word != "sent":
            gone = set(sent)  # a put and a tidying take along what was sent before
    spool = Spool.open(path, 64 << 20, 1, "node01")
    assert spool.boot == boot + 1
    left = drain(spool)
    seqs = {item.seq for item in left}
    assert put - sent <= seqs
    assert not seqs & gone
    assert seqs - put <= {max(put, default=0) + 1}, "the one step that was under way may have been done"
    assert all(item.payload == b"%d:" % item.seq + bytes(item.seq * 37 % 5000) and item.boot == boot for item in left)
    spool.close()
