"""A row's digest is of everything that says what state an agent is in, and of nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.models import CONNECTION_STATUSES, UNKNOWN_PERIOD, AgentRow, are_digested_alike, quiet_after, row_digest

ROW = AgentRow(7, "web", "10.0.0.1", "active", 0, 0, 1_700_000_000, 1_600_000_000, "node01")


@given(st.none() | st.integers(0, 2**40))
def test_a_keepalive_does_not_change_it(last_keepalive: int | None) -> None:
    other = ROW._replace(last_keepalive=last_keepalive)
    assert row_digest(other) == row_digest(ROW)
    assert are_digested_alike(other, ROW)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": 8},
        {"name": "web2"},
        {"ip": None},
        {"ip": ""},
        {"status": "pending"},
        {"code": None},
        {"code": 5},
        {"disconnection_time": 1},
        {"date_add": 1},
        {"node_name": None},
        {"node_name": ""},
    ],
)
def test_anything_else_does(changed: dict[str, Any]) -> None:
    other = ROW._replace(**changed)
    assert row_digest(other) != row_digest(ROW)
    assert not are_digested_alike(other, ROW)


def test_it_is_the_same_everywhere() -> None:
    """The collector's process and the relay's must agree: the number is fixed here."""
    assert row_digest(ROW) == DIGEST


@given(st.integers(0, 2**31), st.text(max_size=8), st.sampled_from(CONNECTION_STATUSES))
def test_it_is_64_bits(number: int, name: str, status: Any) -> None:
    assert 0 <= row_digest(ROW._replace(id=number, name=name, status=status)) < 2**64


def test_an_agent_is_quiet_after_one_and_a_half_periods() -> None:
    assert quiet_after(10_000) == 15_000
    assert quiet_after(0) == UNKNOWN_PERIOD * 3 // 2 == 90_000


DIGEST = 8718937591138774589
