"""What the collector's tests share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import wdb
from shared.clock import SystemClock
from tests.collector import schemas
from tests.collector.wdb_server import TIMEOUT, WdbServer


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="collector-"))
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WdbServer]:
    with WdbServer(tmp_path / "wdb") as running:
        schemas.create(running.db)
        yield running


@pytest.fixture
def database(server: WdbServer) -> Iterator[wdb.Wdb]:
    connection = wdb.Wdb(server.path, SystemClock(), TIMEOUT)
    yield connection
    connection.close()
