"""What the collector's tests share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may enter, which pytest's own tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="collector-"))
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)
