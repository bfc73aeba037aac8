"""The README says what the program does: its tables are made from the code, its examples run."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import nats
import pytest

from relay import events, heartbeat, keys, seal, trust, verify
from shared import sealing, trace
from tests import make_docs
from tests.nats_server import NatsServer
from tests.relay.lab import T0, Lab, row

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text()
EVENTS = (README.parent / "docs" / "events.md").read_text()
RULES = (README.parent / "docs" / "rules.md").read_text()
MONITORING = "".join((README.parent / "docs" / name).read_text() for name in ("monitoring.md", "runbook.md", "metrics.md"))
KEYS = (README.parent / "docs" / "keys.md").read_text()


def section(name: str, text: str = TEXT) -> str:
    """What stands between two markers."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def rows(name: str) -> list[list[list[str]]]:
    """A table of docs/events.md: of each row, of each cell, the words in code."""
    lines = section(name, EVENTS).strip().splitlines()[2:]
    return [[re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")] for line in lines]


def test_every_key_of_the_configuration_stands_in_the_readme() -> None:
    """To renew it: make docs"""
    assert section("config").strip() == make_docs.config_table()


@pytest.mark.parametrize("word", [*get_args(events.Kind), *get_args(events.ManagerKind)])
def test_every_kind_stands_in_the_readme(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_the_table_of_kinds_is_the_codes() -> None:
    table = rows("kinds")
    assert [kind for (kind,), *_ in table] == list(get_args(events.Kind))
    assert {kind: tuple(tokens) for (kind,), tokens, *_ in table} == events.TOKENS
    assert {kind for (kind,), *_ in table if "status" not in events.TOKENS[kind]} == {  # type: ignore[index]
        line.split("`")[1] for line in section("kinds", EVENTS).splitlines() if "| equal" in line
    }
    assert sorted(reason for row in table for reason in row[3]) == sorted(get_args(events.Reason))


def test_the_table_of_reasons_is_the_codes() -> None:
    assert [reason for (reason,), *_ in rows("reasons")] == list(get_args(events.Reason))


def test_the_table_of_headers_is_the_codes() -> None:
    named = {value for name, value in vars(events).items() if name.startswith("H_")} | {sealing.SIGNATURE_HEADER, trace.HEADER}
    assert {header for (header,), *_ in rows("headers")} == named


def test_the_table_of_managers_events_is_what_they_hold() -> None:
    table = {kind: set(details) for (kind,), details, *_ in rows("managers")}
    assert list(table) == list(get_args(events.ManagerKind))
    lab = Lab()
    lab.node("one", skew=-100)
    lab.full("one", [row(1, "active", T0, node="one")], T0)
    lab.delta("one", row(1, "disconnected", T0, node="one", code=5, dt=T0 + 5), now=T0 + 10)
    lab.hear(replace(lab.speakers["one"].snapshot("beat", T0 + 11), boot=0), T0 + 11)
    lab.ticks(T0 + 15, T0 + 60)
    lab.beat("one", T0 + 61)
    assert {event.kind: set(event.details) for event in lab.of_managers} == table


def test_the_table_of_a_heartbeat_is_its_body() -> None:
    lab = Lab()
    lab.node("one")
    lab.full("one", [], T0)
    (body,) = heartbeat.bodies(lab.fleet, 0)
    assert {word for words, *_ in rows("heartbeat") for word in words} == set(body)
    told = next(line for line in section("heartbeat", EVENTS).splitlines() if line.startswith("| `agents`"))
    assert set(re.findall(r"`([^`]+)`", told)[1:]) == set(body["agents"])


def test_the_table_of_faults_is_the_codes() -> None:
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in section("faults", EVENTS).strip().splitlines()[2:]]
    assert {kind.strip("`"): text for kind, text in told} == verify.MEANING
    assert list(verify.MEANING) == list(get_args(verify.FaultKind))


def test_every_rule_stands_in_both_tables() -> None:
    numbers = [str(number) for number in range(1, 11)]
    assert re.findall(r"^\| (\d+) \|", RULES, re.MULTILINE) == numbers
    assert re.findall(r"^(\d+)\. ", TEXT.partition("## Which row is right")[2].partition("\n## ")[0], re.MULTILINE) == numbers


PATHS = r"`((?:relay|collector|shared|tests|deploy|docs)/[^` ]*)`"


@pytest.mark.parametrize("path", re.findall(PATHS, EVENTS + RULES + MONITORING + KEYS + TEXT))
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (README.parent / path).exists()


def test_every_key_of_an_event_stands_in_the_readme() -> None:
    example = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1].replace("\n", ""))  # type: ignore[index]
    assert set(example) == set(events.body(EXAMPLE))
    assert all(f"`{key}`" in TEXT for key in example)


@pytest.mark.parametrize(
    ("program", "commands"),
    [("wazuh-collector", ("run", "check", "snapshot")), ("wazuh-relay", ("run", "check", "provision", "tail", "verify", "agents"))],
)
def test_every_command_has_help_and_stands_in_the_readme(program: str, commands: tuple[str, ...]) -> None:
    path = Path(sys.executable).with_name(program)
    said = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
    for name in commands:
        assert re.search(rf"^ +{name}\b", said, re.MULTILINE), name
        assert f"{program} {name}" in TEXT
        helped = subprocess.run([path, name, "--help"], capture_output=True, text=True, check=True).stdout
        assert "--config" in helped


VERBS = (
    "keys generate",
    "keys list",
    "keys rotate",
    "keys export",
    "quarantine list",
    "quarantine show",
    "quarantine retry",
    "quarantine drop",
    "nodes list",
    "nodes forget",
)


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_of_a_command_has_help_and_stands_in_the_readme(words: str) -> None:
    path = Path(sys.executable).with_name("wazuh-relay")
    helped = subprocess.run([path, *words.split(), "--help"], capture_output=True, text=True, check=True).stdout
    assert "--config" in helped
    assert "--json" in helped
    command, verb = words.split()
    assert re.search(rf"wazuh-relay {command} [^`]*\b{verb}\b", TEXT), words


LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
PAGES = sorted(page for page in README.parent.rglob("*.md") if not {".venv", "node_modules"} & set(page.relative_to(README.parent).parts))


@pytest.mark.parametrize(("page", "path"), [(page, path) for page in PAGES for path in LINK.findall(page.read_text())])
def test_a_link_leads_somewhere_from_where_it_stands(page: Path, path: str) -> None:
    assert page.parent.joinpath(path).exists()


def test_the_page_of_keys_decrypts_the_vectors() -> None:
    code = re.sub(r"^```python\n|\n```$", "", section("decrypt", KEYS).strip())
    names: dict[str, Any] = {}
    exec(code, names)
    vectors = README.parent / "tests" / "vectors"
    secret = bytes.fromhex(json.loads((vectors / "keys.json").read_text())["aes-256-gcm"]["secret"])
    for one in json.loads((vectors / "encrypted.json").read_text()):
        told = names["decrypt"](secret, one["subject"], one["headers"], bytes.fromhex(one["body"]))
        assert told == json.loads(bytes.fromhex(one["plaintext"])), one["what"]


def test_the_page_of_keys_names_every_state_and_algorithm() -> None:
    assert all(f"`{state}`" in KEYS for state in get_args(trust.State))
    assert all(algorithm in KEYS for algorithm in keys.ALGORITHMS)
    assert all(name in KEYS for name in (trust.RELAY, trust.ENCRYPTION, trust.NEXT, trust.PREVIOUS, trust.RETIRED))
    assert f"more than {sealing.MAX_SIGNATURES} are refused" in KEYS


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
