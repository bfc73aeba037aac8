"""Docker and Compose by their own commands, from the repository's top directory."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TOP: Final = Path(__file__).resolve().parents[2]


class NoEngine(RuntimeError):
    """There is no Docker engine that answers, or no Compose."""


def docker(*arguments: str, check: bool = True, errors: bool = False) -> str:
    """What a docker command prints; `errors`: on its standard error too."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments[:3])}: {done.stderr.strip()}")
    return (done.stdout + done.stderr if errors else done.stdout).strip()


def require_engine() -> None:
    """Raises NoEngine in one sentence."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        raise NoEngine("no Docker engine answers: start one, or set DOCKER_HOST")
    compose_command()


def compose_command() -> list[str]:
    """`docker compose`, or the older docker-compose."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise NoEngine("Compose is not installed: neither `docker compose` nor docker-compose")


class Project:
    """docker-compose.yml under a project name of its own."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._environment = dict(os.environ) | dict(environment) | {"DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0")}

    def compose(self, *arguments: str, quiet: bool = True) -> str:
        """What a compose command prints; RuntimeError with the end of its complaints where it fails."""
        command = [*compose_command(), "-p", self.name, "-f", str(TOP / "docker-compose.yml"), *arguments]
        done = subprocess.run(command, cwd=TOP, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"compose {arguments[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def container(self, service: str) -> str:
        """The id of a service's container."""
        label = f"label=com.docker.compose.service={service}"
        return docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}", "--filter", label)

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of each service's container, as `docker inspect` has it."""
        ids = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}").split()
        found = json.loads(docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one["State"] for one in found}

    def running(self, service: str) -> bool:
        """Whether a service's container runs now."""
        return bool(self.states()[service]["Status"] == "running")

    def unready(self) -> dict[str, str]:
        """Services that are not healthy, not running or, where they are jobs, not done; and how they are."""
        return {name: said for name, state in self.states().items() if (said := _trouble(state))}


def _trouble(state: Mapping[str, Any]) -> str:
    if state["Status"] == "exited":
        return "" if state["ExitCode"] == 0 else f"ended with {state['ExitCode']}"
    health = state.get("Health", {}).get("Status", "healthy")
    return "" if state["Status"] == "running" and health == "healthy" else f"{state['Status']}, {health}"
