"""Pages for machines that watch the service: /healthz (it is alive), /readyz (it works) and /metrics.

Rules
 * On 127.0.0.1 only, unless configured otherwise (`shared.access`). Whoever shows no token where one is asked for learns one
   word from /healthz and /readyz, and nothing else.
 * A request is one line and its headers, small and soon; whatever else comes is answered 400 and the connection closed.
 * One answer per connection, few connections at a time, and fewer from one address: a stranger can cost little.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .access import Access
from .clock import Clock

MAX_REQUEST: Final = 8192  # bytes of request line and headers
MAX_CONNECTIONS: Final = 32
MAX_PER_ADDRESS: Final = 16
REQUEST_S: Final = 5.0  # from connect to the last byte of the answer

_REASONS: Final = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable",
}  # fmt: skip
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for the service to do its work; an advisory one is only told."""

    ok: bool
    detail: str
    advisory: bool = False


class Readiness:
    """What /readyz tells. Every name given at the start counts as failing until it is set. Safe to set from any thread."""

    def __init__(self, *names: str) -> None:
        self._checks = dict.fromkeys(names, Check(ok=False, detail="not checked yet"))

    def set(self, name: str, ok: bool, detail: str = "") -> None:
        """The state of one check."""
        self._checks[name] = Check(ok, detail)

    def advise(self, name: str, ok: bool, detail: str = "") -> None:
        """The state of something that an operator should know of and that does not stop the service's work."""
        self._checks[name] = Check(ok, detail, advisory=True)

    @property
    def ready(self) -> bool:
        """Whether every check holds."""
        return all(check.ok or check.advisory for check in dict(self._checks).values())

    def json(self) -> bytes:
        """{"ready": bool, "checks": {name: {"ok": bool, "detail": str}}}; "advisory": true stands in those that only tell."""
        checks = dict(self._checks)  # one step: another thread may set meanwhile
        ready = all(check.ok or check.advisory for check in checks.values())
        told = {name: _told(check) for name, check in checks.items()}
        return json.dumps({"ready": ready, "checks": told}, separators=(",", ":")).encode() + b"\n"


def _told(check: Check) -> dict[str, object]:
    return {"ok": check.ok, "detail": check.detail, **({"advisory": True} if check.advisory else {})}


class Pulse:
    """Whether the parts of a process turn: each says until when it will be back. Safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def beat(self, name: str, within: float) -> None:
        """This part turns, and says so again within so many seconds."""
        self._until[name] = self._clock.monotonic() + within

    def ended(self, name: str) -> None:
        """This part is not to turn any more."""
        self._until.pop(name, None)

    def stuck(self) -> list[str]:
        """The parts that have not come back."""
        now = self._clock.monotonic()
        return [name for name, until in dict(self._until).items() if now > until]


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    content_type: str
    body: bytes


class HealthServer:
    """Serves the pages until it is closed. `metrics` makes the body of /metrics."""

    def __init__(
        self,
        readiness: Readiness,
        metrics: Callable[[], bytes],
        metrics_type: str,
        pulse: Pulse | None = None,
        access: Access | None = None,
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._pulse = pulse
        self._access = access or Access()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], str] = {}
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen; port 0 takes any free one, which `port` then tells. Raises OSError where it is taken."""
        self._server = await asyncio.start_server(self._serve, self._access.host, port, limit=MAX_REQUEST, ssl=self._access.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop who is connected."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, address = asyncio.current_task(), str((writer.get_extra_info("peername") or ("",))[0])
        if task is not None and self._has_room(address):
            self._open[task] = address
            task.add_done_callback(lambda task: self._open.pop(task, None))
            with contextlib.suppress(TimeoutError, OSError, asyncio.CancelledError):
                async with asyncio.timeout(REQUEST_S):
                    await self._answer(reader, writer)
        writer.transport.abort()

    def _has_room(self, address: str) -> bool:
        return len(self._open) < MAX_CONNECTIONS and sum(other == address for other in self._open.values()) < MAX_PER_ADDRESS

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        page, with_body = _REFUSED, True
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head.split(b"\r\n")
            page, with_body = self._page(line, self._access.granted(_header(headers, b"authorization")))
        writer.write(_response(page, with_body=with_body))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            await _read_out(reader)
        else:  # TLS says by itself that this is the end
            writer.close()
            await writer.wait_closed()

    def _page(self, line: bytes, known: bool) -> tuple[_Page, bool]:
        """The answer to a request line, and whether its body is sent. `known`: they may see everything."""
        parts = line.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.0", b"HTTP/1.1") or not parts[1].startswith(b"/"):
            return _REFUSED, True
        if parts[0] not in (b"GET", b"HEAD"):
            return _Page(405, _TEXT, b"only GET and HEAD are served here\n"), True
        path = parts[1].partition(b"?")[0]
        return self._content(path) if known else self._word(path), parts[0] == b"GET"

    def _content(self, path: bytes) -> _Page:
        match path:
            case b"/healthz":
                return self._alive()
            case b"/readyz":
                return _Page(200 if self._readiness.ready else 503, "application/json", self._readiness.json())
            case b"/metrics":
                return _Page(200, self._metrics_type, self._metrics())
        return _Page(404, _TEXT, b"the pages here are /healthz, /readyz and /metrics\n")

    def _word(self, path: bytes) -> _Page:
        """What a stranger learns."""
        match path:
            case b"/healthz" if self._alive().status == 200:
                return _OK
            case b"/healthz":
                return _Page(503, _TEXT, b"not alive\n")
            case b"/readyz":
                return _OK if self._readiness.ready else _Page(503, _TEXT, b"not ready\n")
        return _Page(401, _TEXT, b"a bearer token is needed: see monitoring.token_file\n")

    def _alive(self) -> _Page:
        """That this is answered says that the event loop turns; the other parts say it themselves."""
        stuck = self._pulse.stuck() if self._pulse else []
        return _Page(503, _TEXT, f"not alive: stuck is the {', '.join(stuck)}\n".encode()) if stuck else _OK


_REFUSED: Final = _Page(400, _TEXT, b"this is not a request that is understood here\n")
_OK: Final = _Page(200, _TEXT, b"ok\n")


def _header(lines: list[bytes], wanted: bytes) -> bytes:
    """The first header of this (lower-case) name; b"" where there is none."""
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == wanted:
            return value.strip()
    return b""


def _response(page: _Page, *, with_body: bool) -> bytes:
    more = {405: "Allow: GET, HEAD\r\n", 401: "WWW-Authenticate: Bearer\r\n"}.get(page.status, "")
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + (page.body if with_body else b"")


async def _read_out(reader: asyncio.StreamReader) -> None:
    """Take what the other side still sends, so that closing does not reset the connection under our answer."""
    left = 16 * MAX_REQUEST
    while left > 0 and (more := await reader.read(MAX_REQUEST)):
        left -= len(more)
