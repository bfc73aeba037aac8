"""The README says what the program does: its tables are made from the code, its examples run."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import nats
import pytest

from relay import events, seal
from shared import config, sealing
from tests.nats_server import NatsServer

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text()


def section(name: str) -> str:
    """What stands between two markers."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", TEXT, re.DOTALL)
    assert found is not None, name
    return found[1]


def config_table() -> str:
    """The README's table of configuration keys."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, text in config.describe():
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{key}` | {kind.replace('|', '/')} | {shown} | {text} |")
    return "\n".join(lines)


def test_every_key_of_the_configuration_stands_in_the_readme() -> None:
    """To renew it: python tests/test_docs.py"""
    assert section("config").strip() == config_table()


@pytest.mark.parametrize("word", [*get_args(events.Kind), *get_args(events.Reason)])
def test_every_kind_and_reason_stands_in_the_readme(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_key_of_an_event_stands_in_the_readme() -> None:
    example = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1].replace("\n", ""))  # type: ignore[index]
    assert set(example) == set(events.body(EXAMPLE))
    assert all(f"`{key}`" in TEXT for key in example)


@pytest.mark.parametrize(
    ("program", "commands"),
    [("wazuh-collector", ("run", "check", "snapshot")), ("wazuh-relay", ("run", "check", "provision", "tail", "agents"))],
)
def test_every_command_has_help_and_stands_in_the_readme(program: str, commands: tuple[str, ...]) -> None:
    path = Path(sys.executable).with_name(program)
    said = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
    for name in commands:
        assert re.search(rf"^ +{name}\b", said, re.MULTILINE), name
        assert f"{program} {name}" in TEXT
        helped = subprocess.run([path, name, "--help"], capture_output=True, text=True, check=True).stdout
        assert "--config" in helped


async def test_the_readmes_subscriber_tells_a_genuine_event_from_a_forged_one(nats_server: NatsServer, tmp_path: Path) -> None:
    key = sealing.Key(b"k" * sealing.KEY_BYTES)
    (tmp_path / "events.key").write_text(key.secret.hex())
    sealed = [seal.seal(events.messages("wazuh", "wazuh", EXAMPLE)[0], 1, 1, sealing.MessageSigner(key))[:2]]
    sealed.append((sealed[0][0], sealed[0][1].replace(b"Active", b"Pending")))
    client = await nats.connect(nats_server.url)
    stream = client.jetstream()
    await stream.add_stream(name="WAZUH_EVENTS", subjects=["wazuh.agent.*.*"])
    for subject, body in sealed:
        await stream.publish(subject, body)
    await client.close()
    code = re.sub(r"^```python\n|\n```$", "", section("subscribe").strip()).replace("nats://127.0.0.1:4222", nats_server.url)
    reader = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    assert reader.stdout is not None
    try:
        async with asyncio.timeout(20):
            told = [(await reader.stdout.readline()).decode().split(" ", 1)[0] for _ in sealed]
    finally:
        reader.kill()
        await reader.wait()
    assert told == ["True", "False"]


EXAMPLE = events.Event(
    kind="connected",
    reason="returned",
    agent_id=1,
    agent_name="web-01",
    previous="Disconnected",
    current="Active",
    ip=None,
    last_keepalive=None,
    manager_node="node01",
    timestamp=0,
    event_id="e",
    late=False,
)


if __name__ == "__main__":
    begin, end = "<!-- config -->\n", "\n<!-- /config -->"
    head, _, rest = TEXT.partition(begin)
    README.write_text(f"{head}{begin}{config_table()}{end}{rest.partition(end[1:])[2]}")
