"""The units are what systemd takes, and in the safe range of its own judgement."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import IN_CI

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SAFE = 20
"""`systemd-analyze security` counts exposure from 0 to 100; below 20 it says OK."""

pytestmark = pytest.mark.skipif(
    not IN_CI and shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)


@pytest.mark.parametrize("unit", ["wazuh-collector.service", "wazuh-relay.service"])
def test_a_unit_is_valid(unit: str, tmp_path: Path) -> None:
    text = (UNITS / unit).read_text()
    assert "ExecStart=/opt/wazuh-jetstream/bin/" in text
    (tmp_path / unit).write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text))  # it is not installed here
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit in line]) == (0, [])


@pytest.mark.parametrize("unit", ["wazuh-collector.service", "wazuh-relay.service"])
def test_a_unit_is_in_the_safe_range(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={SAFE}", str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
