"""Who we are and whom we speak to: every way to show it, a change of it without a restart, and a server that is not who it should be."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import jetstream
from shared.errors import ConfigError
from tests.border.jwts import Operator
from tests.border.stage import make_certificates, make_nkey
from tests.nats_server import NatsServer
from tests.shared.jetstream_lab import States, config_of, connected, make_stream, publish

WAIT_S = 20.0
Serve = Callable[[str], NatsServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with contextlib.ExitStack() as started:

        def start(extra: str) -> NatsServer:
            server = NatsServer(tmp_path / "nats", extra)
            started.callback(server.kill)
            return server

        yield start


def secret(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def replace(path: Path, text: str) -> None:
    """As a careful administrator, and Kubernetes, put a new secret in place: at once."""
    secret(path.with_suffix(".new"), text)
    os.replace(path.with_suffix(".new"), path)


# A credential of each kind, and another one -------------------------------------------------------------------------


@dataclass(frozen=True)
class Credential:
    """What the server is told, and what the client shows."""

    server: str
    text: str


def password(directory: Path, name: str) -> Credential:
    return Credential(f'authorization {{ users: [ {{ user: "u", password: "{name}" }} ] }}', f"u:{name}\n")


def token(directory: Path, name: str) -> Credential:
    return Credential(f'authorization {{ token: "{name}" }}', f"{name}\n")


def nkey(directory: Path, name: str) -> Credential:
    public = make_nkey(directory / f"{name}.nk")
    return Credential(f"authorization {{ users: [ {{ nkey: {public} }} ] }}", (directory / f"{name}.nk").read_text())


@pytest.mark.parametrize(
    ("key", "made"), [("credentials_file", password), ("token_file", token), ("credentials_file", nkey)], ids=["password", "token", "nkey"]
)
async def test_a_rotated_credential_is_picked_up_without_a_restart(
    tmp_path: Path, serve: Serve, key: str, made: Callable[[Path, str], Credential]
) -> None:
    """The server forgets the old one; nothing that is published meanwhile is lost."""
    first, second = made(tmp_path, "first"), made(tmp_path, "second")
    server, path = serve(first.server), secret(tmp_path / "secret", first.text)
    async with connected(config_of(server, **{key: path})) as (connection, states):
        await make_stream(connection)
        await publish(connection, b"1")
        replace(path, second.text)
        server.reload(second.server)
        await states.reach("nats_connected", times=2)
        await _published(connection, b"2")
        assert (await connection.stream_info("S"))["state"]["messages"] == 2


async def _published(connection: jetstream.Connection, body: bytes) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(jetstream.Unreachable, jetstream.Timeout):
                await connection.publish("s.x", body, {"Nats-Msg-Id": body.decode()}, 2.0)
                return


@pytest.mark.parametrize("key", ["credentials_file", "token_file"])
async def test_a_wrong_credential_is_refused(tmp_path: Path, serve: Serve, key: str) -> None:
    server = serve('authorization { token: "right" }' if key == "token_file" else password(tmp_path, "right").server)
    path = secret(tmp_path / "secret", "wrong" if key == "token_file" else "u:wrong")
    states = States()
    connection = jetstream.Connection(config_of(server, **{key: path}), "test", states, jitter=lambda: 0.1)
    await connection.start()
    try:
        assert "authorization violation" in (await states.reach("nats_error")).lower()
    finally:
        await connection.close()
    assert "nats_connected" not in [state for state, _ in states.told]


async def test_a_creds_file_with_a_jwt_is_taken_by_a_server_with_an_operator(tmp_path: Path, serve: Serve) -> None:
    """And once it is another user's, the next connection is that user's."""
    operator = Operator()
    server, path = serve(operator.config()), secret(tmp_path / "nats.creds", operator.creds())
    async with connected(config_of(server, credentials_file=path)) as (connection, states):
        await make_stream(connection)
        await publish(connection, b"1")
        replace(path, operator.creds())
        server.restart()
        await states.reach("nats_connected", times=2)
        await _published(connection, b"2")
    stranger = Operator()
    replace(path, stranger.creds())
    states = States()
    refused = jetstream.Connection(config_of(server, credentials_file=path), "test", states, jitter=lambda: 0.1)
    await refused.start()
    try:
        assert "authorization violation" in (await states.reach("nats_error")).lower()
    finally:
        await refused.close()


# TLS ------------------------------------------------------------------------------------------------------------------


def tls(directory: Path, verify: bool = False) -> str:
    names = {"cert_file": "server.crt", "key_file": "server.key", "ca_file": "ca.crt"}
    files = ", ".join(f'{key}: "{directory / name}"' for key, name in names.items())
    return f"tls {{ {files}, verify: {str(verify).lower()} }}"


async def test_a_server_with_a_certificate_of_our_authority_is_spoken_to(tmp_path: Path, serve: Serve) -> None:
    made = make_certificates(tmp_path / "tls")
    async with connected(config_of(serve(tls(made)), tls_ca=made / "ca.crt")) as (connection, _):
        await make_stream(connection)


@pytest.mark.parametrize(("names", "authority"), [(("nats.example.org",), "same"), (("127.0.0.1",), "other")], ids=["name", "authority"])
async def test_a_server_with_a_certificate_of_another_name_or_authority_is_refused(
    tmp_path: Path, serve: Serve, names: tuple[str, ...], authority: str
) -> None:
    """No password is shown to it: it hears nothing at all."""
    made, others = make_certificates(tmp_path / "tls", *names), make_certificates(tmp_path / "others")
    server = serve(tls(made))
    path = secret(tmp_path / "secret", "u:hunter2")
    config = config_of(server, tls_ca=(made if authority == "same" else others) / "ca.crt", credentials_file=path)
    states = States()
    connection = jetstream.Connection(config, "test", states, jitter=lambda: 0.1)
    await connection.start()
    try:
        assert "certificate" in (await states.reach("nats_error")).lower()
    finally:
        await connection.close()
    assert "nats_connected" not in [state for state, _ in states.told]


async def test_mutual_tls_shows_our_certificate_and_picks_up_a_new_one(tmp_path: Path, serve: Serve) -> None:
    """A server that asks for one takes ours, and after a change of its authority the new one, without a restart of the client."""
    made, others = make_certificates(tmp_path / "tls"), make_certificates(tmp_path / "others")
    server = serve(tls(made, verify=True))
    with_one = config_of(server, tls_ca=made / "ca.crt", tls_cert=made / "client.crt", tls_key=made / "client.key")
    async with connected(with_one) as (connection, states):
        await make_stream(connection)
        for name in ("ca.crt", "client.crt", "client.key"):
            os.replace(others / name, made / name)
        for name in ("server.crt", "server.key"):
            os.replace(others / name, made / name)
        server.restart()
        await states.reach("nats_connected", times=2)
        await _published(connection, b"1")


async def test_mutual_tls_refuses_who_shows_no_certificate(tmp_path: Path, serve: Serve) -> None:
    made = make_certificates(tmp_path / "tls")
    states = States()
    connection = jetstream.Connection(config_of(serve(tls(made, verify=True)), tls_ca=made / "ca.crt"), "test", states, jitter=lambda: 0.1)
    await connection.start()
    try:
        await states.reach("nats_error")
    finally:
        await connection.close()
    assert "nats_connected" not in [state for state, _ in states.told]


async def test_a_server_without_tls_hears_nothing_of_who_wants_it(tmp_path: Path, serve: Serve) -> None:
    """`tls://`, or an authority, is a promise that nothing goes in the clear."""
    made = make_certificates(tmp_path / "tls")
    server, states = serve(""), States()
    connection = jetstream.Connection(config_of(server, tls_ca=made / "ca.crt"), "test", states, jitter=lambda: 0.1)
    await connection.start()
    try:
        await states.reach("nats_error")
    finally:
        await connection.close()
    assert "nats_connected" not in [state for state, _ in states.told]


async def test_a_secret_that_others_can_read_stops_the_start(tmp_path: Path, serve: Serve) -> None:
    path = secret(tmp_path / "secret", "u:right")
    path.chmod(0o644)
    connection = jetstream.Connection(config_of(serve(""), credentials_file=path), "test", States())
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        await connection.start()
