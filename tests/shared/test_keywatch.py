"""Keys are read again when they change or when asked; what cannot be used leaves the old ones in use, and shows."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import keyring, keywatch
from shared.guard import Signs
from shared.health import Readiness
from shared.keywatch import KeyWatch
from shared.telemetry import Telemetry
from tests.shared.test_keyring import HEX, write_key


class Service:
    """Something that uses one key file and a keyring."""

    def __init__(self, directory: Path) -> None:
        self.key, self.keyring = write_key(directory / "own.key"), directory / "keyring"
        write_key(self.keyring / "node01" / "current.key")
        self.readiness, self.metrics = Readiness(keywatch.NAME), Telemetry("collector")
        self.loads, self.used = 0, ""
        signs = Signs(self.readiness, self.metrics, logging.getLogger("test"))
        self.watch = KeyWatch((self.key, None, self.keyring), self.load, signs, every=0.01)

    def load(self) -> str:
        self.loads += 1
        keyring.read_keyring(self.keyring)
        self.used = keyring.read_key(self.key).kid
        return f"{self.used} signs"

    @property
    def state(self) -> tuple[bool, bool]:
        """(/readyz, the metric)."""
        line = b"wazuh_jetstream_keyring_up 1.0\n"
        return json.loads(self.readiness.json())["ready"], line in self.metrics.text()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path)
    made.watch.look()
    return made


def test_files_that_stay_as_they_are_are_read_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        service.watch.look()
    assert (service.loads, service.state, caplog.records) == (1, (True, True), [])


def test_every_change_of_a_file_is_seen(service: Service) -> None:
    first, node = service.used, service.keyring / "node01"
    changes: list[Callable[[], object]] = [
        lambda: write_key(service.key, "cd" * 32),
        lambda: write_key(service.key, "ef" * 32),
        lambda: write_key(node / "next.key", "12" * 32),
        lambda: (node / "next.key").unlink(),
        lambda: write_key(service.keyring / "node02" / "a.key"),
        lambda: write_key(service.keyring / "_relay" / "next.key"),
        lambda: write_key(service.key, mode=0o400),
    ]
    for number, change in enumerate(changes, start=2):
        change()
        service.watch.look()
        assert service.loads == number
    assert service.used == first  # the last one wrote the first one's text


def test_a_linked_keyring_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts secrets."""
    service = Service(tmp_path)
    write_key(tmp_path / "real" / "a.key")
    (service.keyring / "node02").symlink_to(tmp_path / "real")
    service.watch.look()
    write_key(tmp_path / "real" / "a.key", "cd" * 32)
    service.watch.look()
    assert service.loads == 2


@pytest.mark.parametrize(("text", "mode"), [("half", 0o600), (HEX, 0o644), ("", 0o600)])
def test_what_cannot_be_used_changes_nothing_and_shows_until_it_can(
    service: Service, caplog: pytest.LogCaptureFixture, text: str, mode: int
) -> None:
    used = service.used
    for _ in range(2):
        write_key(service.key, text, mode)
        service.watch.look()
        assert (service.used, service.state) == (used, (False, False))
    assert [record.event for record in caplog.records] == ["keyring_refused"]  # type: ignore[attr-defined]
    assert "the keys in use stay in use" in caplog.text
    assert HEX not in caplog.text + service.readiness.json().decode()
    write_key(service.key, "cd" * 32)
    with caplog.at_level(logging.INFO):
        service.watch.look()
    assert (service.used != used, service.state) == (True, (True, True))
    assert "were read again" in caplog.text
    assert b'keyring_reloads_total{outcome="refused"} 2.0' in service.metrics.text()


async def test_asked_for_they_are_read_again_unchanged(service: Service) -> None:
    watching = asyncio.create_task(service.watch.run())
    try:
        async with asyncio.timeout(20):
            for number in (2, 3):
                service.watch.ask()
                while service.loads < number:
                    await asyncio.sleep(0)
            write_key(service.key, "cd" * 32)
            while service.loads < 4:
                await asyncio.sleep(0.001)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert service.used == keyring.read_key(service.key).kid
