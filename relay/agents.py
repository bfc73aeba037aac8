"""`wazuh-relay agents`: what is decided of each agent, from the ledger, also while a relay runs."""

from collections.abc import Iterable
from typing import Any, Final, TextIO

from shared import cli, config, subjects

from . import events, ledger
from .decided import Agent

HEADERS: Final = ("ID", "NAME", "STATUS", "WHY", "SINCE", "IP", "LAST KEEPALIVE", "MANAGER", "MARKS", "WAITS")


def show(settings: config.Config, status: str | None, out: TextIO, *, as_json: bool) -> int:
    """Print the agents of one status, or all; 0. Raises ConfigError where there is no ledger, Unreachable where it is busy."""
    book = ledger.Ledger.open(settings.relay.ledger_url, read_only=True)
    try:
        chosen = [agent for agent in book.agents() if status is None or agent.status == status]
    finally:
        book.close()
    if as_json:
        cli.print_json([facts(agent) for agent in chosen], out)
    else:
        cli.print_table(HEADERS, list(_rows(chosen)), out)
    return 0


def facts(agent: Agent) -> dict[str, Any]:
    """An agent for machines; times in UTC."""
    return {
        "agent_id": subjects.agent_id(agent.id),
        "agent_name": agent.name,
        "status": agent.status,
        "reason": agent.reason,
        "since": events.utc(agent.since),
        "ip_address": agent.ip,
        "last_keepalive": None if agent.last_keepalive is None else events.utc(agent.last_keepalive),
        "manager_node": agent.manager_node,
        "overdue_since": None if agent.overdue is None else events.utc(agent.overdue),
        "version_refused": agent.refused,
        "waits": None if agent.hold is None else {"for": agent.hold.kind, "until": events.utc(agent.hold.until // 1000)},
        "last_event_id": agent.last_event_id or None,
    }


def _rows(agents: Iterable[Agent]) -> Iterable[tuple[object, ...]]:
    for agent in agents:
        told = facts(agent)
        waits = None if told["waits"] is None else f"{told['waits']['for']} until {told['waits']['until']}"
        columns = ("agent_id", "agent_name", "status", "reason", "since", "ip_address", "last_keepalive", "manager_node")
        yield (*(told[column] for column in columns), _marks(told), waits)


def _marks(told: dict[str, Any]) -> str | None:
    overdue = None if told["overdue_since"] is None else f"overdue since {told['overdue_since']}"
    return ", ".join(filter(None, (overdue, "version refused" if told["version_refused"] else None))) or None
