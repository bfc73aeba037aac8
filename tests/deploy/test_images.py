"""What the images are made of: a Dockerfile without a complaint, and locks that are the tested versions and no more."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
DOCKER = TOP / "deploy" / "docker"


def pins(path: Path) -> dict[str, str]:
    """name -> version of a lock file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ \\]+)", path.read_text(), re.MULTILINE))


def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--failure-threshold", "info", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["collector", "relay", "build"])
def test_an_image_s_lock_has_the_tested_versions_with_their_hashes(name: str) -> None:
    """To renew them: make image-locks"""
    lock = DOCKER / f"{name}.lock"
    assert pins(lock)
    assert pins(lock).items() <= pins(TOP / "requirements.lock").items()
    assert len(pins(lock)) == len(re.findall(r"^[a-z0-9._-]+==.*\\\n    --hash=sha256:", lock.read_text(), re.MULTILINE))


def test_the_collector_s_image_has_its_dependencies_and_none_of_the_relay_s() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    collector, relay = pins(DOCKER / "collector.lock"), pins(DOCKER / "relay.lock")
    needed = {re.split(r"[\[>=<]", line)[0] for line in project["dependencies"]}
    assert needed <= set(collector)
    assert not {"sqlalchemy", "rfc8785", "psycopg"} & set(collector)
    assert {"sqlalchemy", "rfc8785", "psycopg"} <= set(relay)


def test_the_images_are_of_this_version() -> None:
    version = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"ARG VERSION=(.*)", (DOCKER / "Dockerfile").read_text()) == [version, version]


def test_compose_opens_ports_on_loopback_alone_and_holds_no_secret() -> None:
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        named = [variable for variable in service.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN$|_KEY$", variable)]
        assert named == [], name


def test_every_container_of_ours_runs_read_only_without_a_capability() -> None:
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    ours = {name: one for name, one in services.items() if one["image"].startswith("wazuh-jetstream-")}
    assert len(ours) >= 8
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "cap_add" not in service or name == "secrets"
