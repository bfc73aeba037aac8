"""No secret of the project stands where somebody without a right to it looks: what its containers print, are told, and hold in /proc."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.containers.engine import Project, docker

HOLDERS: Final = {
    "relay-1": "/run/secrets/wazuh-jetstream",
    "collector-node01": "/run/secrets/wazuh-jetstream",
    "collector-worker1": "/run/secrets/wazuh-jetstream",
    "subscriber": "/run/secrets/wazuh-jetstream",
    "postgres": "/run/secrets/wazuh-jetstream",
    "nats-1": "/etc/nats",
}
"""Where each service's secrets are in its container."""

_PUBLIC: Final = frozenset((".crt", ".pub", ".conf"))
_WORD: Final = re.compile(r"[A-Za-z0-9+/=_-]{20,}")  # the shortest secret is a password of 32
_PROC: Final = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"


def leaks(project: Project) -> tuple[int, list[str]]:
    """How many secrets were looked for, and a sentence for each place that shows one."""
    with tempfile.TemporaryDirectory(prefix="wazuh-jetstream-leaks-") as directory:
        secrets = dict(_secrets(project, Path(directory)))
    found = [f"{place} shows {name}" for place, text in _shown(project) for secret, name in secrets.items() if secret in text]
    return len(secrets), found


def _secrets(project: Project, directory: Path) -> Iterator[tuple[str, str]]:
    """Each secret, and the name of its file."""
    for service, place in HOLDERS.items():
        docker("cp", "--follow-link", f"{project.container(service)}:{place}", str(directory / service))
        for path in sorted((directory / service).rglob("*")):
            if path.is_file() and path.suffix not in _PUBLIC:
                yield from ((word, f"{service}:{path.name}") for word in _WORD.findall(path.read_text(errors="replace")))


def _shown(project: Project) -> Iterator[tuple[str, str]]:
    """Every place that is looked at, and its text."""
    for service in project.states():
        container = project.container(service)
        yield f"docker logs {service}", docker("logs", container, errors=True)
        yield f"docker inspect {service}", docker("inspect", container)
        if project.running(service):
            yield f"docker top {service}", docker("top", container, "-eo", "pid,args")
            yield f"/proc of {service}", docker("exec", container, "sh", "-c", _PROC, check=False)  # where there is no shell, inspect tells
