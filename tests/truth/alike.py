"""Rows that are alike but for the keepalive: a collector does not send the later one."""

from operator import attrgetter
from typing import Final

from shared.models import AgentRow

_told: Final = attrgetter("status", "code", "disconnection_time", "name", "ip", "date_add", "node_name")


def kept_alive_only(one: AgentRow, other: AgentRow) -> bool:
    """Whether nothing but the keepalive differs."""
    return bool(_told(one) == _told(other))
