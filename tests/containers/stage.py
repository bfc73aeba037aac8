"""The demo's stage in containers: the same scenes, played against docker-compose.yml."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.manager.driver import Applied
from tests.world.config import Fact
from tests.world.model import Columns

from .engine import Project, docker

NATS: Final = ("nats-1", "nats-2", "nats-3")
SECRETS: Final = "/run/secrets/wazuh-jetstream"


class RemoteWorld:
    """The world that the container `managers` plays, commanded through `docker exec`; see tests/fleet."""

    def __init__(self, container: str) -> None:
        command = ["docker", "exec", "-i", container, "python3", "tests/fleet/control.py"]
        self._control = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, name: str, *arguments: object) -> Any:
        """A command's or a question's answer. ValueError where the world refuses."""
        assert self._control.stdin is not None
        assert self._control.stdout is not None
        self._control.stdin.write(json.dumps({"do": name, "with": arguments}).encode() + b"\n")
        self._control.stdin.flush()
        answer = json.loads(self._control.stdout.readline())
        if "error" in answer:
            raise ValueError(f"{name}: {answer['error']}")
        return answer["answer"]

    def close(self) -> None:
        """End the conversation."""
        assert self._control.stdin is not None
        self._control.stdin.close()
        self._control.wait(10)

    def start(self, number: int, node: str | None = None) -> None:
        self.ask("start", number, node)

    def stop(self, number: int) -> None:
        self.ask("stop", number)

    def die(self, number: int) -> None:
        self.ask("die", number)

    def move(self, number: int, node: str, graceful: bool) -> None:
        self.ask("move", number, node, graceful)

    def register(self, name: str | None = None) -> int:
        return int(self.ask("register", name))

    def remove(self, number: int) -> None:
        self.ask("remove", number)

    def restart_remoted(self, node: str) -> None:
        self.ask("restart_remoted", node)

    def row(self, node: str, number: int) -> Columns | None:
        found: Columns | None = self.ask("row", node, number)
        return found

    @property
    def now(self) -> float:
        return float(self.ask("now"))

    @property
    def history(self) -> list[Fact]:
        return [Fact(*fact) for fact in self.ask("history")]

    @property
    def applied(self) -> list[Applied]:
        return [(at, node, tuple(ids), columns) for at, node, ids, columns in self.ask("applied")]


class Servers:
    """All nats-servers of the project."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    def kill(self) -> None:
        docker("kill", *self._ids)

    def start(self) -> None:
        docker("start", *self._ids)


class ComposeStage:
    """docker-compose.yml, up and running."""

    def __init__(self, project: Project, directory: Path) -> None:
        self.project = project
        self.world = RemoteWorld(project.container("managers"))
        self.agents: list[int] = self.world.ask("agents")
        self.crowd: list[int] = self.world.ask("crowd")
        self.nats = Servers([project.container(name) for name in NATS])
        self.url = ",".join(f"tls://127.0.0.1:{port}" for port in (4222, 4223, 4224))
        subscriber = project.container("subscriber")
        for name in ("signing.key", "siem.nk", "ca.crt"):
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(docker("exec", subscriber, "cat", f"{SECRETS}/{name}") + "\n")
        self.key = (directory / "signing.key").read_text().strip()

    def leader(self) -> str:
        """The relay that decides; the other stands by."""
        for name in ("relay-1", "relay-2"):
            text = docker("exec", self.project.container(name), "/opt/wazuh-jetstream/bin/python", "-c", _LEADS)
            if "leading" in text:
                return name
        return "relay-1"

    def trouble(self) -> str:
        """The last lines of each service."""
        return self.project.compose("logs", "--no-color", "--tail", "15")[-12000:]


_LEADS: Final = (
    "import urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen('http://127.0.0.1:9090/readyz').read())\n"
    "except urllib.error.HTTPError as error: print(error.read())"
)


def wait_ready(project: Project, seconds: float) -> float:
    """Seconds until every service is healthy and every job done; RuntimeError with what is not, after `seconds`."""
    began = time.monotonic()
    while unready := project.unready():
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"not ready after {seconds:g} s: {unready}")
        time.sleep(0.5)
    return time.monotonic() - began
