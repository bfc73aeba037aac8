"""Beyond this machine nobody reads a page without the token, and nobody listens without one."""

import asyncio
import importlib.util
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import access, config, health, pages
from shared.errors import ConfigError
from shared.health import HealthServer, Pulse, Readiness
from tests.clock import ManualClock
from tests.conftest import IN_CI

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


def loaded(**keys: object) -> access.Access:
    environ = {f"WAZUH_JETSTREAM__MONITORING__{name.upper()}": str(value) for name, value in keys.items()}
    return access.access(config.load(None, environ).monitoring)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "2001:db8::1"])
def test_listening_beyond_loopback_needs_a_token(address: str, token: Path) -> None:
    with pytest.raises(ConfigError, match="token_file is not set"):
        loaded(listen=address)
    assert loaded(listen=address, token_file=token).host == address
    assert loaded(listen=address, enable_metrics="false").token_file is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.4.5", "::1"])
def test_on_this_machine_it_does_not(address: str) -> None:
    assert loaded(listen=address).granted(b"")


@pytest.mark.parametrize("address", ["localhost", "example.org", "10.0.0", "0.0.0.0:9090", "*"])
def test_an_address_is_one(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an IP address"):
        loaded(listen=address)


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (TOKEN, 0o644, "open to others"),
        (TOKEN, 0o620, "open to others"),
        ("short", 0o600, "at least 16"),
        ("two words of some length", 0o600, "at least 16"),
        ("", 0o600, "at least 16"),
    ],
)
def test_a_token_file_that_guards_nothing_is_refused(token: Path, text: str, mode: int, expected: str) -> None:
    token.write_text(text)
    token.chmod(mode)
    with pytest.raises(ConfigError, match=expected) as refused:
        loaded(token_file=token)
    assert not text or text not in str(refused.value)


def test_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "absent"):
        with pytest.raises(ConfigError, match=r"monitoring\.token_file"):
            loaded(token_file=tmp_path / name)


def test_the_group_may_read_it(token: Path) -> None:
    token.chmod(0o440)
    assert loaded(token_file=token).granted(b"Bearer " + TOKEN.encode())


@pytest.fixture
async def server(token: Path) -> AsyncIterator[HealthServer]:
    readiness = Readiness("nats")
    made = HealthServer(readiness, lambda: b"secret 1\n", "text/plain", None, access.Access("127.0.0.1", token))
    await made.start(0)
    yield made
    await made.close()


async def get(port: int, path: str, authorization: str = "", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        line = f"Authorization: {authorization}\r\n" if authorization else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN])
async def test_a_stranger_learns_one_word_and_no_more(server: HealthServer, shown: str) -> None:
    assert await get(server.port, "/healthz", shown) == (200, b"ok\n")
    assert await get(server.port, "/readyz", shown) == (503, b"not ready\n")
    server._readiness.set("nats", ok=True, detail="connected to 10.0.0.1")
    assert await get(server.port, "/readyz", shown) == (200, b"ok\n")
    for path in ("/metrics", "/", "/debug"):
        status, body = await get(server.port, path, shown)
        assert (status, b"secret" in body) == (401, False)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_token_opens_every_page(server: HealthServer, scheme: str) -> None:
    assert await get(server.port, "/metrics", f"{scheme} {TOKEN}") == (200, b"secret 1\n")
    assert b"not checked yet" in (await get(server.port, "/readyz", f"{scheme} {TOKEN}"))[1]


async def test_a_token_is_replaced_while_it_runs(server: HealthServer, token: Path) -> None:
    token.write_text("another-token-of-some-length")
    assert (await get(server.port, "/metrics", f"Bearer {TOKEN}"))[0] == 401
    assert (await get(server.port, "/metrics", "Bearer another-token-of-some-length"))[0] == 200
    token.unlink()
    assert (await get(server.port, "/metrics", "Bearer another-token-of-some-length"))[0] == 401


async def test_one_address_cannot_take_every_place(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_PER_ADDRESS", 1)
    async with asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /he")
        while not server._open:
            await asyncio.sleep(0.005)
        with pytest.raises((IndexError, ConnectionError)):  # turned away without a word
            await get(server.port, "/healthz")
        with socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.9", 0)) as other:
            other.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await asyncio.to_thread(other.recv, 100)).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.skipif(not IN_CI and shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_the_pages_can_be_served_by_https(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=pages", "-days", "2"]
    subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
    allowed = loaded(tls_cert=cert, tls_key=key)
    server = HealthServer(Readiness(), lambda: b"m 1\n" * 50_000, "text/plain", None, allowed)
    await server.start(0)
    trusting = ssl.create_default_context(cafile=cert)
    trusting.check_hostname = False
    assert await get(server.port, "/metrics", tls=trusting) == (200, b"m 1\n" * 50_000)
    await server.close()


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        loaded(tls_cert=tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        loaded(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")


async def test_a_part_that_is_stuck_shows(server: HealthServer) -> None:
    clock = ManualClock()
    server._pulse = pulse = Pulse(clock)
    pulse.beat("reader", within=5)
    clock.advance(5)
    assert (await get(server.port, "/healthz"))[0] == 200
    clock.advance(0.1)
    assert await get(server.port, "/healthz") == (503, b"not alive\n")
    assert await get(server.port, "/healthz", f"Bearer {TOKEN}") == (503, b"not alive: stuck is the reader\n")
    pulse.beat("reader", within=5)
    assert (await get(server.port, "/healthz"))[0] == 200
    clock.advance(9)
    pulse.ended("reader")
    assert (await get(server.port, "/healthz"))[0] == 200


def test_what_is_only_advised_makes_nothing_unready() -> None:
    readiness = Readiness("nats")
    readiness.set("nats", ok=True)
    readiness.advise("tables", ok=False, detail="not proved: node02")
    assert readiness.ready
    assert b'"tables":{"ok":false,"detail":"not proved: node02","advisory":true}' in readiness.json()


def examined(environ: dict[str, str] | None = None, **keys: object) -> list[tuple[str, str]]:
    given = {f"WAZUH_JETSTREAM__MONITORING__{name.upper()}": str(value) for name, value in keys.items()}
    return [(one.name, one.state) for one in pages.examine(config.load(None, given).monitoring, environ or {})]


def test_the_doctor_tells_who_may_read_the_pages_and_what_is_exported(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined() == []
    assert examined(enable_metrics="false") == []
    assert examined(token_file=token) == [("pages", "ok")]
    assert examined(listen="0.0.0.0") == [("pages", "fail")]
    assert examined(listen="::", token_file=token) == [("pages", "warn")]  # in the clear
    assert examined(otlp_endpoint="http://127.0.0.1:4318") == [("otlp", "ok")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert examined({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) == [("otlp", "fail")]
