"""The running collector holds nothing that only its start needed."""

from pathlib import Path

from tests.collector.process import CollectorProcess
from tests.manager.driver import ManagerProcess


def _libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


async def test_pydantic_and_yaml_are_gone_once_the_service_runs(tmp_path: Path) -> None:
    manager = ManagerProcess(tmp_path / "m")
    await manager.start([])
    collector = CollectorProcess(tmp_path, manager.home, "nats://127.0.0.1:1")
    await collector.start()
    libraries = _libraries(collector.pid)
    assert "zstandard" in libraries
    assert "pydantic_core" not in libraries
    assert "/yaml/" not in libraries
    assert await collector.terminate() == 0
    await manager.stop()
