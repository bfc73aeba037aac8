"""The parts in containers, by testcontainers: our link against a nats-server's image, our ledger against PostgreSQL's, and our own
images as they are, down to an operator's path from nothing to all green. Where there is no engine these fail."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy
from testcontainers.community.nats import NatsContainer
from testcontainers.core.container import DockerContainer

from relay import ledger, provision
from shared import config, jetstream
from tests.containers.engine import docker

NATS_IMAGE: Final = os.environ.get("NATS_IMAGE", "nats:2.15.1")
POSTGRES_IMAGE: Final = os.environ.get("POSTGRES_IMAGE", "postgres:17-bookworm")
OPERATOR: Final = Path(__file__).with_name("operator.sh")
IMAGES: Final = ("collector", "relay")


@pytest.fixture(scope="module")
def nats_url() -> Iterator[str]:
    with NatsContainer(NATS_IMAGE, jetstream=True) as server:
        yield f"nats://127.0.0.1:{server.get_exposed_port(4222)}"


async def test_the_link_makes_the_streams_on_the_image_s_server(nats_url: str) -> None:
    settings = config.load(None, {"WAZUH_JETSTREAM__NATS__URL": nats_url, "WAZUH_JETSTREAM__NATS__RAW_MAX_BYTES": "64MiB",
                                  "WAZUH_JETSTREAM__NATS__EVENTS_MAX_BYTES": "64MiB"})  # fmt: skip
    connection = jetstream.Connection(settings.nats, "contract", lambda *_: None)
    await connection.start()
    try:
        done = await provision.provision(connection, settings)
        again = await provision.provision(connection, settings)
    finally:
        await connection.close()
    assert all("created" in line for line in done)
    assert all("unchanged" in line for line in again)


def test_the_ledger_is_made_on_the_image_s_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = DockerContainer(POSTGRES_IMAGE).with_env("POSTGRES_PASSWORD", "contract").with_env("POSTGRES_DB", "ledger")
    with container.with_exposed_ports(5432) as server:
        port = server.get_exposed_port(5432)
        passwords = tmp_path / "pgpass"
        passwords.touch(mode=0o600)
        passwords.write_text(f"127.0.0.1:{port}:*:postgres:contract\n")
        monkeypatch.setenv("PGPASSFILE", str(passwords))
        url = f"postgresql://postgres@127.0.0.1:{port}/ledger"
        _answering(f"postgresql+psycopg://postgres@127.0.0.1:{port}/ledger")
        for _ in range(2):  # made, and opened again
            book = ledger.Ledger.open(url)
            assert (book.position(), book.outbox_depth()) == (0, 0)
            book.close()


def _answering(url: str, seconds: float = 30.0) -> None:
    """The image starts its server twice: first without a network."""
    engine, end = sqlalchemy.create_engine(url), time.monotonic() + seconds
    while True:
        try:
            engine.connect().close()
        except sqlalchemy.exc.OperationalError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            engine.dispose()
            return


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_special_and_read_only(name: str) -> None:
    image = f"wazuh-jetstream-{name}:local"
    assert docker("image", "inspect", "--format", "{{.Config.User}}", image) == "10001:10001"
    assert "NONE" not in docker("image", "inspect", "--format", "{{.Config.Healthcheck.Test}}", image)
    assert "usage" in docker("run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", image, "--help")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_no_tool_that_builds_or_installs(name: str) -> None:
    script = "for tool in gcc cc make pip pip3 hatchling; do command -v $tool; done; python3 -m pip --version 2>/dev/null; exit 0"
    assert docker("run", "--rm", "--entrypoint", "sh", f"wazuh-jetstream-{name}:local", "-c", script) == ""


def test_the_collector_s_image_has_nothing_of_the_relay_s() -> None:
    script = "import importlib.util; print([one for one in ('sqlalchemy', 'rfc8785', 'psycopg') if importlib.util.find_spec(one)])"
    python = ("run", "--rm", "--entrypoint", "/opt/wazuh-jetstream/bin/python")
    assert docker(*python, "wazuh-jetstream-collector:local", "-c", script) == "[]"
    assert docker(*python, "wazuh-jetstream-relay:local", "-c", script) == "['sqlalchemy', 'rfc8785', 'psycopg']"


def test_an_image_tells_what_is_in_it() -> None:
    told = docker("run", "--rm", "--entrypoint", "cat", "wazuh-jetstream-collector:local", "/opt/wazuh-jetstream/sbom.cdx.json")
    assert '"CycloneDX"' in told
    assert "pkg:pypi/nats-py@" in told
    assert "pkg:pypi/wazuh-jetstream@" in told


def test_an_operator_s_path_ends_with_all_green(nats_url: str) -> None:
    """docs/install.md on a bare machine: user, group wazuh, keys, configuration, check, first event."""
    port = nats_url.rpartition(":")[2]
    image = os.environ.get("PYTHON_IMAGE", "python:3.11-slim-bookworm")
    top = Path(__file__).resolve().parents[2]
    command = ["docker", "run", "--rm", "--network", "host", "--volume", f"{top}:/src:ro", "--env", f"PORT={port}", image]
    done = subprocess.run([*command, "sh", "/src/tests/containers/operator.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "NeverConnected -> Active" in done.stdout
    checked = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("ok ", "warn ", "fail "))]
    assert len(checked) >= 10
    assert set(checked) == {"ok"}
