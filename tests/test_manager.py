"""Laws of the simulated manager: it looks, answers, commits and breaks as wazuh-db does."""

import asyncio
import json
import os
import re
import sqlite3
import struct
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.manager import driver
from tests.manager.client import Client
from tests.manager.driver import Cluster, ManagerProcess, unix_now
from tests.world.model import Columns, Delete, Insert, Keys, Update, World, WorldConfig, cluster

VERSIONS = {"4.14": "4.14.7", "5.0": "5.0.0"}
KEYS = "001 web-01 any 0f\n"
UNTIL_LOCKED = """
import sqlite3, sys, time
try:
    while True:
        connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=0)
        connection.execute("SELECT 1 FROM agent").fetchone()
        connection.close()
        time.sleep(0.02)
except sqlite3.OperationalError as error:
    sys.exit("locked" not in str(error))
"""


def fixtures() -> Path:
    """What real daemons wrote and answered, beside the repository or where the environment says."""
    beside = Path(__file__).resolve().parents[2] / "shared/fixtures"
    found = Path(os.environ.get("WAZUH_JETSTREAM_FIXTURES", beside))
    if not found.is_dir():
        sentence = f"The captures of real Wazuh daemons are not at {found}; set WAZUH_JETSTREAM_FIXTURES."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[ManagerProcess]:
    process = ManagerProcess(tmp_path / "node01")
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
async def client(manager: ManagerProcess) -> AsyncIterator[Client]:
    connected = await Client.connect(manager)
    yield connected
    connected.close()


def insert(number: int, **columns: int | str | None) -> Insert:
    row: Columns = {"id": number, "name": f"agent-{number}", "date_add": 1, "group": None}
    return Insert("node01", 0.0, {**row, **columns})


def in_file(process: ManagerProcess, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{process.database}?mode=ro", uri=True, timeout=0)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def eventually_in_file(process: ManagerProcess, sql: str, wanted: list[tuple[object, ...]]) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                if in_file(process, sql) == wanted:
                    return
            except sqlite3.OperationalError:  # locked for the moment of the commit
                pass
            await asyncio.sleep(0.02)


# ---------------------------------------------------------------------- against the captures


def described(path: Path) -> dict[object, object]:
    """Everything a reader can see of the database's shape."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        tables = [name for kind, name, *_ in objects if kind == "table" and not name.startswith("sqlite_")]
        pragmas = ("page_size", "journal_mode", "user_version", "application_id", "auto_vacuum", "encoding")
        return {
            "objects": [(kind, name, table, re.sub(r"\s+", " ", sql or "").replace("( ", "(")) for kind, name, table, sql in objects],
            **{f"columns of {name}": connection.execute(f"PRAGMA table_info('{name}')").fetchall() for name in tables},
            **{f"keys of {name}": connection.execute(f"PRAGMA foreign_key_list('{name}')").fetchall() for name in tables},
            **{pragma: connection.execute(f"PRAGMA {pragma}").fetchone() for pragma in pragmas},
            "metadata": connection.execute("SELECT * FROM metadata").fetchall(),
        }
    finally:
        connection.close()


@pytest.mark.parametrize("schema", VERSIONS)
async def test_global_db_has_the_shape_that_the_real_daemon_gives_it(tmp_path: Path, schema: str) -> None:
    real = fixtures() / f"wazuh-{VERSIONS[schema]}-global.db"
    process = ManagerProcess(tmp_path / "home", schema=schema)
    await process.start()
    await process.stop()
    assert described(process.database) == described(real)
    zero = in_file(process, "SELECT ip, register_ip, last_keepalive, `group`, connection_status, status_code FROM agent WHERE id = 0")
    assert zero == ([("127.0.0.1", "127.0.0.1", 253402300799, None, "active", 0)] if schema == "4.14" else [])


def timeless(answer: str) -> str:
    return re.sub(r'"(last_keepalive|disconnection_time)":[1-9]\d*', r'"\1":"T"', answer)


@pytest.mark.parametrize("schema", VERSIONS)
async def test_every_captured_request_is_answered_as_the_real_daemon_did(tmp_path: Path, schema: str) -> None:
    exchanges = json.loads((fixtures() / f"wazuh-{VERSIONS[schema]}-wdb-socket.json").read_text())
    process = ManagerProcess(tmp_path / "home", schema=schema)
    process._arguments[process._arguments.index("--manager-name") + 1] = ""  # the captured daemon ran without modulesd
    await process.start()
    client = await Client.connect(process)
    for exchange in exchanges:
        answer = await client.ask(exchange["request"])
        assert timeless(answer) == timeless(exchange["response"]), exchange["request"]
    client.close()
    await process.stop()
    columns = "*"
    ours = in_file(process, f"SELECT {columns} FROM agent WHERE id > 0")
    connection = sqlite3.connect(f"file:{fixtures() / f'wazuh-{VERSIONS[schema]}-global.db'}?mode=ro", uri=True)
    theirs = connection.execute(f"SELECT {columns} FROM agent WHERE id > 0").fetchall()
    connection.close()
    now = {name: place for place, (_, name, *_) in enumerate(in_file(process, "PRAGMA table_info(agent)"))}
    hidden = (now["last_keepalive"], now["disconnection_time"])

    def shown(row: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(bool(value) if place in hidden else value for place, value in enumerate(row))

    assert [shown(row) for row in ours] == [shown(row) for row in theirs]


@pytest.mark.parametrize(
    ("schema", "file", "root"), [("4.14", "ossec.conf", "ossec_config"), ("5.0", "wazuh-manager.conf", "wazuh_config")]
)
async def test_the_home_has_the_cluster_block_of_its_version(tmp_path: Path, schema: str, file: str, root: str) -> None:
    process = ManagerProcess(tmp_path / "home", schema=schema, node_name="worker <1>", node_type="worker", cluster="soc")
    await process.start()
    await process.stop()
    tree = ElementTree.parse(process.home / "etc" / file).getroot()
    assert tree.tag == root
    block = [tree.findtext(f"cluster/{name}") for name in ("name", "node_name", "node_type", "disabled")]
    assert block == ["soc", "worker <1>", "worker", "no"]
    assert (process.home / "etc/client.keys").read_text() == ""


# ---------------------------------------------------------------------- the socket


async def test_an_answer_is_cut_at_65536_bytes_without_a_word(manager: ManagerProcess, client: Client) -> None:
    await manager.apply([insert(number, name="n" * 100) for number in range(1, 1001)])
    answer = await client.ask("global sql select id, name from agent")
    assert len(answer) == 65536
    assert answer.startswith("ok [")
    assert not answer.endswith("]")


async def test_ids_come_in_pages_marked_due(manager: ManagerProcess, client: Client) -> None:
    await manager.apply([insert(number) for number in range(1, 7001)])
    found: list[int] = []
    kind = "due"
    while kind == "due":
        kind, _, text = (await client.ask(f"global get-all-agents last_id {found[-1] if found else 0}")).partition(" ")
        assert len(text) <= 65536
        found += [row["id"] for row in json.loads(text)]
    assert found == list(range(1, 7001))


async def test_a_request_that_ends_in_a_newline_gets_one_back(client: Client) -> None:
    assert await client.ask("global sql select 1 one\n") == 'ok [{"one":1}]\n'
    assert await client.ask("global sql select 1 one") == 'ok [{"one":1}]'


async def test_a_column_that_is_null_is_left_out(client: Client) -> None:
    assert await client.ask("global sql select null a, 2 b") == 'ok [{"b":2}]'


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("global", "err Invalid DB query syntax, near 'global'"),
        ("global sql", "err Invalid DB query syntax, near 'sql'"),
        ("mitre sql select 1", "err Invalid DB query actor: 'mitre'"),
        ("global insert-agent {", "err Invalid JSON syntax, near '{'"),
        ("global insert-agent {}", "err Invalid JSON data, near '{}'"),
        ("global insert-agent []", "err Invalid JSON data, near '[]'"),
        ("global get-all-agents 0", "err Invalid arguments 'last_id' or 'context' not found"),
        ("global get-agents-by-connection-status 0 active node01", "err Invalid arguments 'limit' not found"),
        ("global disconnect-agents 0 5", "err Invalid arguments sync_status not found"),
        ("global get-agent-info 77", "ok []"),
    ],
)
async def test_what_cannot_be_obeyed_is_answered_as_wazuh_does(client: Client, request_text: str, answer: str) -> None:
    assert await client.ask(request_text) == answer


async def test_the_sweep_and_the_reset_work_by_command_too(manager: ManagerProcess, client: Client) -> None:
    states = [("active", 50), ("pending", 50), ("active", 500), ("pending", None), ("never_connected", None), ("disconnected", 5)]
    await manager.apply([insert(n, connection_status=state, last_keepalive=kept) for n, (state, kept) in enumerate(states, 1)])
    assert await client.ask("global disconnect-agents 0 100 synced") == 'ok [{"id":1},{"id":2}]'
    assert await client.ask("global reset-agents-connection synced") == "ok"
    rows = await client.rows("select connection_status s, status_code c from agent where id > 0 order by id")
    assert [(row["s"], row["c"]) for row in rows] == [
        ("disconnected", 4), ("disconnected", 4), ("disconnected", 5), ("disconnected", 5), ("never_connected", 0), ("disconnected", 0),
    ]  # fmt: skip


async def test_eight_oversized_lengths_leave_nobody_to_answer(manager: ManagerProcess, client: Client) -> None:
    for _ in range(7):
        killer = await Client.connect(manager)
        await killer.send(struct.pack("<I", 65537))
        await killer.closed()
        killer.close()
    assert await client.ask("global sql select 1 one") == 'ok [{"one":1}]'
    last = await Client.connect(manager)
    await last.send(struct.pack("<I", 65537))
    await last.closed()
    last.close()
    await client.send(struct.pack("<I", 6) + b"global")
    deaf = asyncio.create_task(client.closed())
    await manager.apply([insert(1)])  # the process itself lives
    assert not deaf.done()
    await manager.restart()
    await asyncio.wait([deaf])


# ---------------------------------------------------------------------- the transaction


async def test_what_is_not_committed_shows_at_the_socket_and_not_in_the_file(manager: ManagerProcess, client: Client) -> None:
    before = (await client.rows("select total_changes() c"))[0]["c"]
    at = await manager.apply([insert(1), Update("node01", 0.0, (1, 99), {"status_code": 3})])
    assert abs(at - unix_now()) < 60
    assert await client.rows("select id, status_code from agent where id > 0") == [{"id": 1, "status_code": 3}]
    assert (await client.rows("select total_changes() c"))[0]["c"] == int(str(before)) + 2
    assert in_file(manager, "SELECT id FROM agent WHERE id > 0") == []


async def test_the_transaction_is_committed_by_age_and_the_journal_goes(tmp_path: Path) -> None:
    process = ManagerProcess(tmp_path / "home", commit_seconds=0.3)
    await process.start()
    await process.apply([insert(1)])
    await eventually_in_file(process, "SELECT id FROM agent WHERE id > 0", [(1,)])
    assert not process.database.with_name("global.db-journal").exists()
    await process.kill()


async def test_an_orderly_end_commits_and_a_kill_loses(manager: ManagerProcess) -> None:
    await manager.apply([insert(1)])
    await manager.restart()
    await manager.apply([Delete("node01", 0.0, (1,)), insert(2)])
    await manager.kill()
    await manager.start()
    await manager.stop()
    assert in_file(manager, "SELECT id FROM agent WHERE id > 0") == [(1,)]


async def test_after_a_kill_in_mid_spill_only_the_daemon_can_read_again(manager: ManagerProcess) -> None:
    await manager.apply([insert(number, os_uname="x" * 400) for number in range(1, 8001)])
    await manager.restart()
    await manager.apply([Update("node01", 0.0, tuple(range(1, 8001)), {"os_uname": "y" * 400})])
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        in_file(manager, "SELECT count(*) FROM agent")
    await manager.kill()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        in_file(manager, "SELECT count(*) FROM agent")
    await manager.start()
    assert in_file(manager, "SELECT DISTINCT substr(os_uname, 1, 1) FROM agent WHERE id > 0") == [("x",)]


async def test_a_reader_in_the_way_delays_the_commit_and_loses_nothing(tmp_path: Path) -> None:
    process = ManagerProcess(tmp_path / "home", commit_seconds=0.2)
    await process.start()
    reader = sqlite3.connect(f"file:{process.database}?mode=ro", uri=True, timeout=0)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM agent").fetchone()
    await process.apply([insert(1)])
    # PENDING after the first failed try: no new reader gets in. Locks are per process, so another one has to look.
    watcher = await asyncio.create_subprocess_exec(sys.executable, "-c", UNTIL_LOCKED, str(process.database))
    async with asyncio.timeout(10):
        assert await watcher.wait() == 0
    client = await Client.connect(process)
    assert await client.rows("select id from agent where id > 0") == [{"id": 1}]
    client.close()
    reader.close()
    await eventually_in_file(process, "SELECT id FROM agent WHERE id > 0", [(1,)])
    await process.kill()


# ---------------------------------------------------------------------- the driver


async def test_a_write_that_cannot_be_played_is_named_and_the_process_lives(manager: ManagerProcess) -> None:
    with pytest.raises(driver.ManagerRefused, match="no column 'nonsense'"):
        await manager.apply([Update("node01", 0.0, (1,), {"nonsense": 1})])
    with pytest.raises(driver.ManagerRefused, match="CHECK constraint failed"):
        await manager.apply([insert(1, connection_status="asleep")])
    await manager.apply([insert(1), Keys("node01", 0.0, KEYS)])
    assert (manager.home / "etc/client.keys").read_text() == KEYS


async def test_a_manager_that_is_gone_says_so(manager: ManagerProcess) -> None:
    waiting = asyncio.create_task(manager.apply([insert(number) for number in range(1, 20001)]))
    await asyncio.sleep(0)
    await manager.kill()
    with pytest.raises(driver.ManagerGone, match="node01"):
        await waiting
    with pytest.raises(driver.ManagerGone, match="does not run"):
        await manager.apply([])


def small_world(workers: int) -> World:
    config = WorldConfig(
        nodes=cluster(workers), start=unix_now(), notify_period=0.3, sweep_period=2.0, sync_period=0.4, integrity_period=0.3,
        database_delay=(0.0, 0.1), reconnect_delay=(0.1, 0.4), move_delay=(0.0, 0.1),
    )  # fmt: skip
    return World(config, seed=1)


async def shown(running: Cluster, node: str) -> dict[int, dict[str, object]]:
    """The node's table as its socket shows it."""
    client = await Client.connect(running.nodes[node])
    rows = await client.rows("select * from agent where id > 0")
    client.close()
    return {int(str(row["id"])): row for row in rows}


def held(world: World, node: str) -> dict[int, dict[str, object]]:
    """The node's table as the world has it, without what a socket leaves out."""
    return {number: {name: value for name, value in row.items() if value is not None} for number, row in world.table(node).items()}


async def same_tables(running: Cluster) -> None:
    await running.caught_up()
    for node in running.world.nodes.values():
        if node.up:
            table = held(running.world, node.name)
            for number, row in (await shown(running, node.name)).items():
                assert {name: row.get(name) for name in table[number]} == table[number]


async def test_a_cluster_in_real_time_has_the_tables_of_its_world(tmp_path: Path) -> None:
    world = small_world(2)
    world.populate(9)
    async with Cluster(world, tmp_path) as running:
        await running.run_until(unix_now() + 0.7)
        world.stop(1)
        world.die(2)
        world.move(3, "worker1", graceful=False)
        world.remove(4)
        fresh = world.register("web-99")
        world.start(fresh, "worker2")
        await running.run_until(unix_now() + 1.5)
        await same_tables(running)
        stops = [entry for entry in running.applied if entry[1] == "node01" and 1 in entry[2] and entry[3].get("status_code") == 3]
        assert len(stops) == 1
        truth = next(fact.at for fact in world.history if fact.what == "stopped")
        assert stops[0][0] >= truth


async def test_a_node_that_goes_down_ends_its_process_and_comes_back_on_the_same_home(tmp_path: Path) -> None:
    world = small_world(1)
    world.populate(4)
    async with Cluster(world, tmp_path) as running:
        await running.caught_up()
        world.node_down("worker1", failover="node01")
        await running.caught_up()
        assert not running.nodes["worker1"].running
        world.node_up("worker1")
        await running.run_until(unix_now() + 0.3)
        await same_tables(running)
        assert {row["status_code"] for row in (await shown(running, "worker1")).values()} >= {5}


async def test_a_crashed_node_returns_with_what_the_world_says(tmp_path: Path) -> None:
    world = small_world(1)
    world.populate(6)
    async with Cluster(world, tmp_path) as running:
        running.run_in_background()
        pid = running.nodes["node01"].pid
        world.stop(1)
        await running.crash("node01")
        assert running.nodes["node01"].pid != pid
        await same_tables(running)
