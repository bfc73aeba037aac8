"""The health pages, over real sockets and with hostile clients."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import health
from shared.health import HealthServer, Readiness


@pytest.fixture
async def readiness() -> Readiness:
    return Readiness("nats", "source")


@pytest.fixture
async def server(readiness: Readiness) -> AsyncIterator[HealthServer]:
    server = HealthServer(readiness, lambda: b"metric 1\n", "text/plain; version=0.0.4")
    await server.start(0)
    yield server
    await server.close()


async def exchange(server: HealthServer, sent: bytes, *, end: bool = False) -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        if end:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


async def dropped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection ends without an answer."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await exchange(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


async def test_the_service_runs(server: HealthServer) -> None:
    status, headers, body = await get(server, "/healthz")
    assert (status, body) == (200, b"ok\n")
    assert headers["Content-Length"] == "3"
    assert headers["Connection"] == "close"


async def test_it_is_ready_only_when_every_check_holds(server: HealthServer, readiness: Readiness) -> None:
    status, _, body = await get(server, "/readyz")
    assert status == 503
    assert json.loads(body)["ready"] is False
    readiness.set("nats", ok=True, detail="connected")
    assert (await get(server, "/readyz"))[0] == 503
    readiness.set("source", ok=True)
    status, headers, body = await get(server, "/readyz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    checks = {"nats": {"ok": True, "detail": "connected"}, "source": {"ok": True, "detail": ""}}
    assert json.loads(body) == {"ready": True, "checks": checks}
    readiness.set("source", ok=False, detail="locked\n\x1b[2J")
    status, _, body = await get(server, "/readyz")
    assert status == 503
    assert b"\x1b" not in body


async def test_metrics_are_served_with_their_type(server: HealthServer) -> None:
    status, headers, body = await get(server, "/metrics?x=1")
    assert (status, headers["Content-Type"], body) == (200, "text/plain; version=0.0.4", b"metric 1\n")


async def test_head_has_the_headers_alone(server: HealthServer) -> None:
    status, headers, body = await get(server, "/healthz", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3", b"")


@pytest.mark.parametrize("path", ["/", "/healthz/", "/../etc/passwd", "//healthz", "/HEALTHZ"])
async def test_other_pages_are_not_there(server: HealthServer, path: str) -> None:
    assert (await get(server, path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get", "X"])
async def test_other_methods_are_not_allowed(server: HealthServer, method: str) -> None:
    status, headers, _ = await get(server, "/healthz", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/2\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\n\r\n",
        b"GET http://x/healthz HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * (2 * health.MAX_REQUEST),
        b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (2 * health.MAX_REQUEST) + b"\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_400(server: HealthServer, sent: bytes) -> None:
    assert (await exchange(server, sent, end=True)).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_goes_away_hurts_nobody(server: HealthServer) -> None:
    for sent in (b"", b"GET /hea"):
        assert (await exchange(server, sent, end=True)).startswith(b"HTTP/1.1 400 ")
    assert (await get(server, "/healthz"))[0] == 200


async def test_a_client_that_says_nothing_is_dropped(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REQUEST_S", 0.02)
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await dropped(reader, writer)


async def test_more_clients_than_it_has_room_for_are_turned_away(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_CONNECTIONS", 0)
    async with asyncio.timeout(20):
        assert await dropped(*await asyncio.open_connection("127.0.0.1", server.port))


async def test_it_closes_with_clients_connected(readiness: Readiness) -> None:
    server = HealthServer(readiness, lambda: b"", "text/plain")
    await server.start(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET")
    await get(server, "/healthz")  # by now the first one is served as well
    async with asyncio.timeout(20):
        await server.close()
        assert await dropped(reader, writer)
    with pytest.raises(ConnectionError):
        await get(server, "/healthz")


async def test_a_server_that_never_started_closes(readiness: Readiness) -> None:
    await HealthServer(readiness, lambda: b"", "text/plain").close()


async def test_nobody_listens_beyond_the_machine(server: HealthServer) -> None:
    assert server._server is not None
    assert [socket.getsockname()[0] for socket in server._server.sockets] == ["127.0.0.1"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.binary(max_size=100))
async def test_any_bytes_get_an_answer_or_a_closed_connection(server: HealthServer, line: bytes) -> None:
    answer = await exchange(server, line + b"\r\n\r\n", end=True)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ", b"HTTP/1.1 200 "))
