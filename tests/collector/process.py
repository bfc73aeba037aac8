"""The real `wazuh-collector run` as a child process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class CollectorProcess:
    """Started with settings such as `wazuh__source="file"`; its log is read line by line."""

    def __init__(self, directory: Path, home: Path, nats_url: str, **settings: str) -> None:
        key = directory / "signing.key"
        key.write_text("6b" * 32 + "\n")
        key.chmod(0o600)
        self._settings = {
            "wazuh__home": str(home),
            "wazuh__poll_interval": "200ms",
            "nats__url": nats_url,
            "nats__reconnect_delay": "50ms",
            "security__signing_key_path": str(key),
            "monitoring__metrics_port": "0",
            "collector__spool_path": str(directory / "spool.db"),
            **settings,
        }
        self.lines: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, command: tuple[str, ...] = ("-m", "collector", "run"), until: str = "started", **environment: str) -> None:
        """Returns when it has logged `until`, or ended."""
        self.lines.clear()
        variables = {f"WAZUH_JETSTREAM__{name.upper()}": value for name, value in self._settings.items()}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, env={**os.environ, **variables, **environment}, stderr=asyncio.subprocess.PIPE
        )
        self._reader = asyncio.create_task(self._read())
        await self.until(lambda: self.said(until) is not None)

    def said(self, event: str) -> dict[str, Any] | None:
        """The newest log line of a kind."""
        return next((line for line in reversed(self.lines) if line["event"] == event), None)

    @property
    def port(self) -> int:
        line = self.said("health_listening")
        assert line is not None
        return int(line["port"])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until the log makes it so, or the process has ended."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: condition() or self.said("(ended)") is not None)

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(PATIENCE_S):
            await self._reader
            return await self._process.wait()

    async def kill(self) -> None:
        """kill -9, where it still runs."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            await self.ended()

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            text = raw.decode()
            await self._note(json.loads(text) if text.startswith("{") else {"event": "(text)", "message": text.strip()})
        await self._note({"event": "(ended)"})

    async def _note(self, line: dict[str, Any]) -> None:
        async with self._changed:
            self.lines.append(line)
            self._changed.notify_all()
