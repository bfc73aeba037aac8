"""What a row of Wazuh's table of agents may hold: everything in it is hostile until it has passed here. Pure."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from shared.models import CONNECTION_STATUSES, AgentRow, ConnectionStatus

MAX_ID: Final = 99_999_999  # 8 digits: wazuh/wazuh src/addagent/validate.c
MAX_NAME: Final = 4096  # characters; Wazuh allows 128 (validate.c), its database any number
MAX_TIME: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, which Wazuh itself writes for agent 0
MAX_CODE: Final = 9  # Wazuh knows 0 to 5; the probe has one digit for it


def columns(many: Sequence[Mapping[str, object] | Sequence[object]], names: Sequence[str]) -> Sequence[Sequence[object]]:
    """The values of rows, a column for each name."""
    if many and isinstance(many[0], Mapping):
        answer = cast("Sequence[Mapping[str, object]]", many)
        return [[row.get(name) for row in answer] for name in names]
    return list(zip(*cast("Sequence[Sequence[object]]", many), strict=True)) or [()] * len(names)


def are_in_order(columns: Sequence[Sequence[object]]) -> bool:
    """Whether `row` refuses none of the rows in them; it is asked where it may. At a third of the cost."""
    ids, names, ips, statuses, codes, gone_at, keepalives, added, nodes = columns
    return (
        _are_numbers(ids, MAX_ID)
        and 0 not in ids
        and all(_are_texts(texts, optional) for texts, optional in ((names, False), (ips, True), (nodes, True), (statuses, False)))
        and set(statuses) <= set(CONNECTION_STATUSES)
        and _are_numbers(codes, MAX_CODE, optional=True)
        and _are_numbers(keepalives, MAX_TIME, optional=True)
        and _are_numbers((*gone_at, *added), MAX_TIME)
    )


def _are_numbers(column: Sequence[Any], highest: int, *, optional: bool = False) -> bool:
    kinds = set(map(type, column))
    if kinds <= {int}:
        return min(column, default=0) >= 0 and max(column, default=0) <= highest
    return optional and kinds <= {int, type(None)} and _are_numbers([value for value in column if value is not None], highest)


def _are_texts(column: Sequence[Any], optional: bool) -> bool:
    """Plain texts; others are looked at one by one."""
    texts = [value for value in column if value is not None] if optional else column
    return set(map(type, texts)) <= {str} and all(map(str.isascii, texts)) and max(map(len, texts), default=0) <= MAX_NAME


def row(values: Sequence[object]) -> AgentRow:
    """A row with these values, in the order of AgentRow. Raises ValueError: one sentence about the first that breaks a rule."""
    number, name, ip, status, code, gone_at, keepalive, added, node = values
    if (
        is_id(number)
        and is_text(name)
        and (ip is None or is_text(ip))
        and status in CONNECTION_STATUSES
        and (code is None or _is_number(code, MAX_CODE))
        and _is_number(gone_at, MAX_TIME)
        and (keepalive is None or _is_number(keepalive, MAX_TIME))
        and _is_number(added, MAX_TIME)
        and (node is None or is_text(node))
    ):
        return AgentRow(*cast("tuple[int, str, str | None, ConnectionStatus, int | None, int, int | None, int, str | None]", values))
    raise ValueError(_complaint(values))


def _complaint(values: Sequence[object]) -> str:
    """What is wrong with a row that is not in order: the first thing."""
    number, name, ip, status, code, gone_at, keepalive, added, node = values
    if not is_id(number):
        return f"id {shown(number)} is not a number from 1 to {MAX_ID}"
    if status not in CONNECTION_STATUSES:
        return f"agent {number} has the unknown status {shown(status)}"
    for what, text in (("ip", ip), ("node_name", node), ("name", name)):
        if not (is_text(text) or (text is None and what != "name")):
            return f"agent {number} has {what} {shown(text)}, which is not a text of at most {MAX_NAME} characters"
    if code is not None and not _is_number(code, MAX_CODE):
        return f"agent {number} has status_code {shown(code)}, which is not a number from 0 to {MAX_CODE}"
    times = {"disconnection_time": gone_at, "date_add": added, "last_keepalive": keepalive}
    what = next(
        name for name, value in times.items() if not _is_number(value, MAX_TIME) and (value is not None or name != "last_keepalive")
    )
    return f"agent {number} has {what} {shown(times[what])}, which is not a number from 0 to {MAX_TIME}"


def is_id(value: object) -> bool:
    """Whether it is the id of an agent."""
    return type(value) is int and 0 < value <= MAX_ID


def _is_number(value: object, highest: int) -> bool:
    return type(value) is int and 0 <= value <= highest


def is_text(value: object) -> bool:
    """Whether it is a text that a row may hold."""
    if type(value) is not str or len(value) > MAX_NAME:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)  # half a surrogate pair is no text


def shown(value: object) -> str:
    """A value as a sentence shows it: short, in ASCII."""
    return ascii(reprlib.repr(value))[1:-1]
