"""What every test may ask for: a real nats-server, and the fixtures with recorded facts about Wazuh."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.nats_server import NatsServer
from tests.small_cluster import Cluster

FIXTURES_VARIABLE = "WAZUH_JETSTREAM_FIXTURES"

IN_CI = os.environ.get("CI") == "true"

# No test fails because the machine is slow; in CI the same examples are tried each time, at a desk always new ones.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=IN_CI, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh server with JetStream on a free port and a store of its own."""
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


@pytest.fixture
async def cluster(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Cluster]:
    """A manager, a collector and a relay, not yet started."""
    made = Cluster(tmp_path, nats_server)
    yield made
    await made.kill()


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recorded databases and answers of real managers; a run that must be complete fails without them."""
    found = Path(os.environ.get(FIXTURES_VARIABLE) or Path(__file__).parents[2] / "shared" / "fixtures")
    if not found.is_dir():
        message = f"recorded fixtures are not at {found}; set {FIXTURES_VARIABLE} to their directory"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return found
