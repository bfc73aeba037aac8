"""The shipped cluster: three servers that know each other by certificates, and nobody else."""

import asyncio
import contextlib
import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import provision, session
from shared import config
from shared.errors import WazuhJetstreamError
from tests.border.stage import Identities, ShippedServer, make_certificates, make_identities

DEADLINE_S = 30.0


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return make_identities(tmp_path / "identities")


@pytest.fixture
def ports() -> list[int]:
    """Three free ones for the routes."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def server(directory: Path, number: int, ports: list[int], identities: Identities, tls: Path) -> ShippedServer:
    replaced = {f"//nats-{other}:6222": f"//127.0.0.1:{port}" for other, port in enumerate(ports, start=1)}
    replaced |= {'"0.0.0.0:6222"': f'"127.0.0.1:{ports[number - 1]}"', "$NATS_SERVER_NAME": f'"nats-{number}"'}
    return ShippedServer(directory / f"nats-{number}", identities, "nats-cluster.conf", replaced, tls)


@pytest.fixture
def servers(tmp_path: Path, ports: list[int], identities: Identities) -> Iterator[list[ShippedServer]]:
    tls = make_certificates(tmp_path / "tls")
    with contextlib.ExitStack() as started:
        made = []
        for number in (1, 2, 3):
            made.append(server(tmp_path, number, ports, identities, tls))
            started.callback(made[-1].kill)
        yield made


async def test_three_servers_hold_the_streams_together(servers: list[ShippedServer]) -> None:
    """Provisioned with three replicas, as the relay and the collectors need them."""
    environ = servers[0].environ("NKEY_PROVISIONER") | {
        "WAZUH_JETSTREAM__NATS__REPLICAS": "3",
        "WAZUH_JETSTREAM__NATS__URL": ",".join(one.url for one in servers),
    }
    settings = config.load(None, environ)
    async with session.connected(settings, "provision") as connection, asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(WazuhJetstreamError):  # no leader yet
                await provision.provision(connection, settings)
                break
            await asyncio.sleep(0.2)
        cluster = (await connection.stream_info("WAZUH_EVENTS"))["cluster"]
    assert {cluster["leader"], *(one["name"] for one in cluster["replicas"])} == {"nats-1", "nats-2", "nats-3"}


async def test_a_server_with_another_authority_s_certificate_gets_no_route(
    tmp_path: Path, ports: list[int], identities: Identities
) -> None:
    """Who reaches the port of the routes with certificates of an authority of his own is not taken for a server."""
    tls = make_certificates(tmp_path / "tls")
    with contextlib.ExitStack() as started:
        first = server(tmp_path, 1, ports, identities, tls)
        started.callback(first.kill)
        port = re.search(r"http monitor on 127\.0\.0\.1:(\d+)", first.log)
        assert port is not None
        stranger = server(tmp_path, 2, ports, identities, make_certificates(tmp_path / "others"))
        started.callback(stranger.kill)
        first.wait_for("signed by unknown authority")
        assert await remotes(int(port[1])) == set()
        stranger.kill()
        known = server(tmp_path, 3, ports, identities, tls)
        started.callback(known.kill)
        async with asyncio.timeout(DEADLINE_S):
            while await remotes(int(port[1])) != {"nats-3"}:
                await asyncio.sleep(0.05)


async def remotes(port: int) -> set[str]:
    """Whom the server has routes with."""

    def ask() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/routez", timeout=DEADLINE_S) as answer:
            found: bytes = answer.read()
        return found

    return {route["remote_name"] for route in json.loads(await asyncio.to_thread(ask))["routes"] or [] if route["remote_name"]}
