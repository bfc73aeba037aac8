"""The services under test: one process each, whose log is kept, which is started again when it ends, and which never outlives us.

    service = Service("collector-node01", "collector", ("-m", "collector", "run", "--config", …), environment, directory)
    await service.start()
    await service.kill(); await service.start(crash_at="collector.after_spool:2")
    await service.stop()

A service that ends unasked is noted in `ended_unasked` with the last lines of its log and started again, as systemd would.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from shared import crashpoints
from tests.manager.driver import unix_now

ROOT: Final = Path(__file__).resolve().parents[2]
ORDERLY_END: Final = 20.0  # seconds that a service may take to stop
_RESTART: Final = 1.0  # seconds: as RestartSec of the unit files
_LINE: Final = 1 << 20  # bytes of one line of a log


class Service:
    """One `run` of a command. `kind` is what the table counts it as."""

    def __init__(self, name: str, kind: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.kind, self.log = name, kind, log
        self.ended_unasked: list[str] = []
        self.starts: list[float] = []
        self._arguments, self._environment = tuple(arguments), dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=200)
        self._wanted = False
        self._crashing = False
        self._guard: asyncio.Task[None] | None = None
        self._said: dict[str, asyncio.Event] = {}

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process; ProcessLookupError where none runs."""
        if self._process is None or self._process.returncode is not None:
            raise ProcessLookupError(f"{self.name} does not run")
        return self._process.pid

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        return "\n".join(list(self._tail)[-lines:])

    async def start(self, crash_at: str = "") -> None:
        """Start it; with `crash_at` it kills itself there (shared.crashpoints)."""
        self._wanted, self._crashing = True, bool(crash_at)
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | self._environment | {crashpoints.ENVIRONMENT: crash_at}
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT, limit=_LINE, env=environment, cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the soak alone, which then ends this in order
        )  # fmt: skip
        self.starts.append(unix_now())
        self._guard = asyncio.create_task(self._follow(self._process))

    async def kill(self) -> None:
        """kill -9, and nobody starts it again."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM; SIGKILL where that is not heard in time, which is noted as an end unasked."""
        await self._end(signal.SIGTERM)

    async def crashed(self, seconds: float) -> bool:
        """Whether it killed itself within `seconds`."""
        process = self._process
        assert process is not None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(process.wait(), seconds) == -signal.SIGKILL
        return False

    async def says(self, text: str, seconds: float) -> bool:
        """Whether its log holds `text` within `seconds` from now on."""
        heard = self._said.setdefault(text, asyncio.Event())
        heard.clear()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(heard.wait(), seconds)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send any signal; nothing where it does not run."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def limit_files(self, size: int) -> None:
        """Let no file of its grow above `size` bytes (-1: any size): what a full disk is, without a disk."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def _end(self, number: signal.Signals) -> None:
        self._wanted = False
        guard, self._guard = self._guard, None
        self.send(number)
        self.send(signal.SIGCONT)
        if guard is None:
            return
        done, _ = await asyncio.wait({guard}, timeout=ORDERLY_END)
        if not done:
            self.ended_unasked.append(f"{self.name} did not end within {ORDERLY_END:g} s of {number.name}:\n{self.tail()}")
            self.send(signal.SIGKILL)
        await guard

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        await self._drain(process)
        code = await process.wait()
        if not self._wanted or (self._crashing and code == -signal.SIGKILL):
            return
        self.ended_unasked.append(f"{self.name} ended by itself with {code}:\n{self.tail()}")
        await asyncio.sleep(_RESTART)
        if self._wanted:
            await self.start()

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with self.log.open("a", buffering=1) as log:
            async for line in process.stdout:
                text = line.decode(errors="replace")
                log.write(text)
                self._tail.append(text.rstrip())
                for wanted, event in self._said.items():
                    if wanted in text:
                        event.set()
