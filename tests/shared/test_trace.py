"""Contexts are made from facts, read from anybody, and believed by nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import trace
from shared.trace import Context

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_context_is_written_as_w3c_says_and_read_again() -> None:
    found = trace.parse(GOOD)
    assert found == Context("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)
    assert found.header == GOOD


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        GOOD[:-1],
        GOOD.upper(),
        GOOD + "\n",
        "ff" + GOOD[2:],
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        GOOD.replace("b7ad", "b\r\nd"),
        "01" + GOOD[2:] + "-" + "x" * 600,
    ],
)
def test_what_is_no_context_is_none(value: str | None) -> None:
    assert trace.parse(value) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    found = trace.parse("cc" + GOOD[2:] + "-more")
    assert found is not None
    assert found.header == GOOD


@given(st.text())
def test_any_text_is_a_context_of_hexadecimals_or_none(text: str) -> None:
    found = trace.parse(text)
    assert found is None or trace.parse(found.header) == found


@given(st.text(min_size=1), st.integers(0, 2**63), st.integers(0, 2**63))
def test_the_same_snapshot_is_the_same_trace_in_every_process(subject: str, boot: int, seq: int) -> None:
    root = trace.root(subject, boot, seq)
    assert trace.parse(root.header) == root == trace.root(subject, boot, seq)
    assert root.trace_id != trace.root(subject, boot, seq + 1).trace_id
    below = trace.step(root, "read")
    assert below == trace.step(root, "read")
    assert (below.trace_id, below.sampled) == (root.trace_id, root.sampled)
    assert len({root.span_id, below.span_id, trace.step(root, "spool").span_id}) == 3
