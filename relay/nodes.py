"""`wazuh-relay nodes`: the managers as the relay knows them, and how one is retired."""

from collections import Counter
from typing import Any, Final, TextIO

from shared import cli, config
from shared.clock import Clock
from shared.errors import Quarantine

from . import control, events, gauges, ledger, requests
from .fleet import Node
from .requests import NotDone

HEADERS: Final = ("NODE", "NODE_NAME", "TYPE", "HEARD", "SOURCE", "LAST HEARD", "AGENTS", "BOOT/SEQ", "CLOCK", "PERIOD", "TABLE")


def show_list(settings: config.Config, out: TextIO, *, as_json: bool) -> int:
    """Print every node; 0. Raises ConfigError where there is no ledger."""
    told = [_facts(node, agents) for node, agents in _known(settings.relay.ledger_url)]
    if as_json:
        cli.print_json(told, out)
    else:
        cli.print_table(HEADERS, list(map(_row, told)), out)
    return 0


def forget(settings: config.Config, name: str, clock: Clock, out: TextIO, *, force: bool, as_json: bool) -> int:
    """Retire a node; 0. Raises NotDone where it is not known, the only master, or still heard and not forced."""
    request = control.Forget(name, force)
    try:
        control.check(request, {node.node: node for node, _ in _known(settings.relay.ledger_url)})
    except Quarantine as refusal:
        raise NotDone(f"{refusal} (see: wazuh-relay nodes list)") from refusal
    answer = requests.ask(settings, request, clock)
    if answer.refusal is not None:
        raise NotDone(answer.refusal.sentence)
    if as_json:
        cli.print_json({"node": name, "position": answer.position}, out)
    else:
        out.write(f"node {name} is forgotten; take its key out of the keyring, or it is known again when its collector speaks\n")
    return 0


def _known(url: str) -> list[tuple[Node, int]]:
    """Every node, and how many agents report there."""
    book = ledger.Ledger.open(url, read_only=True)
    try:
        agents = Counter(agent.manager_node for agent in book.agents())
        return [(node, agents[node.node]) for node in book.nodes()]
    finally:
        book.close()


def _facts(node: Node, agents: int) -> dict[str, Any]:
    return {
        "node": node.node,
        "node_name": node.node_name,
        "node_type": node.node_type,
        "fresh": node.fresh,
        "source": node.source,
        "source_state": node.source_state,
        "last_heard": events.utc(node.heard_at // 1000),
        "agents": agents,
        "boot": node.boot,
        "seq": node.seq,
        "clock_offset_seconds": node.offset / 1000,
        "keepalive_period_seconds": node.period / 1000,
        "table_proved": node.proved,
        "table_age_seconds": gauges.age(node.heard_at, node.as_of) if node.as_of else None,
    }


def _row(facts: dict[str, Any]) -> tuple[object, ...]:
    source = facts["source"] if facts["source_state"] == "ok" else f"{facts['source']}: {facts['source_state']}"
    return (
        facts["node"],
        facts["node_name"],
        facts["node_type"],
        "fresh" if facts["fresh"] else "stale",
        source,
        facts["last_heard"],
        facts["agents"],
        f"{facts['boot']}/{facts['seq']}",
        f"{facts['clock_offset_seconds']:+.3f} s",
        f"{facts['keepalive_period_seconds']:g} s",
        _table(facts["table_age_seconds"], proved=facts["table_proved"]),
    )


def _table(age: float | None, *, proved: bool) -> str:
    """Whether the relay's copy is the collector's; where it is not, what says "nothing came" waits for this node."""
    if proved:
        return "proved"
    return "never proved" if age is None else f"not proved for {age:.0f} s"
