"""Any node name stands in a subject, comes back, and can never be two tokens, a wildcard or the relay's own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import subjects

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(names)
def test_a_name_comes_back(name: str) -> None:
    assert subjects.unescape(subjects.escape(name)) == name


@given(names)
def test_a_token_holds_nothing_that_a_token_may_not(name: str) -> None:
    token = subjects.escape(name)
    assert re.fullmatch(r"[!-~]+", token)
    assert not set(token) & set(".*>")
    assert not token.startswith("_")


@given(names, names)
def test_two_names_never_share_a_token(one: str, other: str) -> None:
    assert (subjects.escape(one) == subjects.escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "token"),
    [("node01", "node01"), ("a.b", "a%2Eb"), ("a b", "a%20b"), ("*", "%2A"), (">", "%3E"), ("_tick", "%5Ftick"), ("50%", "50%25")],
)
def test_the_escape_is_rfc_3986_percent_encoding(name: str, token: str) -> None:
    assert subjects.escape(name) == token


def test_a_name_cannot_be_empty() -> None:
    with pytest.raises(ValueError, match="empty"):
        subjects.escape("")


def test_a_token_that_no_name_makes_is_refused() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        subjects.unescape("%FF")


@pytest.mark.parametrize("prefix", ["wazuh", "soc.eu", "a-b_C.9"])
def test_a_prefix_that_can_begin_a_subject_is_kept(prefix: str) -> None:
    assert subjects.check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", ".", "a.", ".a", "a..b", "a b", "*", "a.>", "ä", "$JS", "a\n"])
def test_another_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        subjects.check_prefix(prefix)


def test_subjects_and_streams_of_a_prefix() -> None:
    assert subjects.raw("wazuh", "n.1") == "wazuh.raw.n%2E1"
    assert subjects.tick("wazuh") == "wazuh.raw._tick"
    assert subjects.agent("wazuh", 1, "status") == "wazuh.agent.001.status"
    assert subjects.agent("wazuh", 12345, "connected") == "wazuh.agent.12345.connected"
    assert subjects.agent_events("wazuh") == "wazuh.security.agent_events"
    assert subjects.heartbeat("soc.eu", "n 1") == "soc.eu.manager.n%201.heartbeat"
    streams = [make("soc.eu") for make in (subjects.raw_stream, subjects.events_stream, subjects.heartbeats_stream)]
    assert streams == ["SOC_EU_RAW", "SOC_EU_EVENTS", "SOC_EU_HEARTBEATS"]
