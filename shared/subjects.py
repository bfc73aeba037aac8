"""Subject and stream names, and node names made safe to stand in them.

`wazuh` below is `nats.subject_prefix`: one prefix per Wazuh cluster, from which the stream names derive as well.

    wazuh.raw.{node}                    raw snapshots of a node            stream WAZUH_RAW
    wazuh.raw._tick                     the relay's clock ticks            stream WAZUH_RAW
    wazuh.raw._control                  an operator's requests to it       stream WAZUH_RAW
    wazuh.agent.{id}.status             every change of an agent's status  stream WAZUH_EVENTS
    wazuh.agent.{id}.{kind}             the same change under its kind     stream WAZUH_EVENTS
    wazuh.security.agent_events         batches                            stream WAZUH_EVENTS
    wazuh.security.manager_events       what befalls a manager             stream WAZUH_EVENTS
    wazuh.manager.{node}.heartbeat      health of a node                   stream WAZUH_HEARTBEATS
    wazuh.security.checkpoints          heads of the chain of events       stream WAZUH_CHECKPOINTS

Node names may hold anything; a subject's token may not hold `.`, `*`, `>` or white space. They are percent-encoded
(RFC 3986 2.1), reversibly; a leading `_` too, so that no node can be called like the relay's own `_tick`.
"""

import re
from typing import Final
from urllib.parse import quote, unquote

TICK: Final = "_tick"
CONTROL: Final = "_control"

_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_UNESCAPED: Final = "!#$&'()+,/:;<=?@[]^`{|}~\""  # printable ASCII that a token may hold, beside letters, digits and _-


def escape(node: str) -> str:
    """The subject token of a node name. Raises ValueError for an empty name: a token cannot be empty."""
    if not node:
        raise ValueError("a node name cannot be empty")
    token = quote(node, safe=_UNESCAPED).replace(".", "%2E")
    return "%5F" + token[1:] if token.startswith("_") else token


def unescape(token: str) -> str:
    """The node name of a subject token that `escape` made."""
    return unquote(token, errors="strict")


def check_prefix(prefix: str) -> str:
    """The prefix itself. Raises ValueError where it could not begin a subject or a stream's name."""
    if not _PREFIX.match(prefix):
        raise ValueError(f"subject prefix {prefix!r} may hold letters, digits, '-', '_' and single dots between them")
    return prefix


def stream_base(prefix: str) -> str:
    """The part of a stream's name that stands for the prefix: `wazuh` -> WAZUH, `soc.eu` -> SOC_EU."""
    return prefix.replace(".", "_").upper()


def raw_stream(prefix: str) -> str:
    """The stream of raw snapshots."""
    return f"{stream_base(prefix)}_RAW"


def events_stream(prefix: str) -> str:
    """The stream of signed events."""
    return f"{stream_base(prefix)}_EVENTS"


def heartbeats_stream(prefix: str) -> str:
    """The stream of manager heartbeats."""
    return f"{stream_base(prefix)}_HEARTBEATS"


def checkpoints_stream(prefix: str) -> str:
    """The stream of the chain's heads."""
    return f"{stream_base(prefix)}_CHECKPOINTS"


def raw(prefix: str, node: str) -> str:
    """Where a node's raw snapshots go."""
    return f"{prefix}.raw.{escape(node)}"


def tick(prefix: str) -> str:
    """Where the relay's ticks go."""
    return f"{prefix}.raw.{TICK}"


def control(prefix: str) -> str:
    """Where an operator's requests to the relay go."""
    return f"{prefix}.raw.{CONTROL}"


def agent_id(number: int) -> str:
    """An agent's id as Wazuh prints it: zero-padded to three digits."""
    return f"{number:03d}"


def agent(prefix: str, number: int, token: str) -> str:
    """Where an agent's events of one kind go."""
    return f"{prefix}.agent.{agent_id(number)}.{token}"


def agent_events(prefix: str) -> str:
    """Where batches go."""
    return f"{prefix}.security.agent_events"


def manager_events(prefix: str) -> str:
    """Where events of managers go."""
    return f"{prefix}.security.manager_events"


def checkpoints(prefix: str) -> str:
    """Where heads of the chain of events go, to be kept."""
    return f"{prefix}.security.checkpoints"


def heartbeat(prefix: str, node: str) -> str:
    """Where a node's heartbeats go."""
    return f"{prefix}.manager.{escape(node)}.heartbeat"
