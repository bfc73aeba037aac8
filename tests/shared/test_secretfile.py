"""A secret is for its owner, or for the group that root gives it to."""

import os
from pathlib import Path

import pytest

from shared import secretfile
from shared.errors import ConfigError


def seen(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "exposed"),
    [
        (0o600, 1000, False),
        (0o400, 1000, False),
        (0o640, 1000, True),
        (0o604, 1000, True),
        (0o620, 1000, True),
        (0o440, 0, False),  # a secret in Kubernetes, with fsGroup
        (0o640, 0, False),  # chown root:SERVICE
        (0o660, 0, True),
        (0o644, 0, True),  # a secret in Kubernetes without defaultMode
    ],
)
def test_who_may_read_a_secret(mode: int, owner: int, exposed: bool) -> None:
    assert secretfile.exposed(seen(mode, owner)) == exposed


def test_a_secret_is_read_whole_and_stripped(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o600)
    path.write_text(" x y \n")
    assert secretfile.read(path, "nats.k") == "x y"
    secretfile.check(path, "nats.k")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"x" * (secretfile.MAX_BYTES + 1)])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"nats\.k {path}"):
        secretfile.read(path, "nats.k")


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=rf"nats\.k {path}"):
            secretfile.read(path, "nats.k")
    with pytest.raises(ConfigError, match="cannot be read"):
        secretfile.check(tmp_path / "none", "nats.k")


def test_a_secret_of_everybody_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("hunter2")
    path.chmod(0o644)
    for refuse in (secretfile.read, secretfile.check):
        with pytest.raises(ConfigError, match=f"chmod 600 {path}") as refused:
            refuse(path, "nats.k")
        assert "hunter2" not in str(refused.value)
