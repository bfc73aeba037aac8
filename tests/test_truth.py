"""Laws of `make truth`, on short histories: what holds of the relay's verdict today stays so, and a wrong one is noticed."""

from dataclasses import replace

import pytest

from tests.truth import report
from tests.truth.judge import Said, judge
from tests.truth.play import Result, Setting, play

HOLDS = frozenset({"skew", "loss", "restart", "remoted", "link", "relay", "reuse"})
SHORT = Setting(hours=3.0, nodes=3, agents=60, action=20.0, faults=HOLDS, sources="socket", naive=False)


def wrong(result: Result) -> int:
    return len(result.verdict.false) + len(result.verdict.missed)


def explained(result: Result) -> str:
    return "\n".join([*report.table(result), *report.wrong(result, 3)])


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_false_and_nothing_missed_where_sockets_show_4_14(seed: int) -> None:
    result = play(replace(SHORT, seed=seed))
    assert wrong(result) == 0, explained(result)
    assert result.verdict.must > 200  # there was something to tell


@pytest.mark.parametrize("seed", [1, 2])
def test_5_0_is_true_on_one_manager(seed: int) -> None:
    result = play(replace(SHORT, seed=seed, schema="5.0", nodes=1))
    assert wrong(result) == 0, explained(result)
    assert result.verdict.must > 200


def test_the_same_seed_gives_the_same_history_and_the_same_events() -> None:
    one, other = (play(replace(SHORT, hours=1.0)) for _ in range(2))
    assert one.said
    assert list(one.said) == list(other.said)


def test_an_event_left_out_is_missed_and_one_too_many_is_false() -> None:
    result = play(replace(SHORT, hours=1.0))
    initial = {fact.agent: "Active" for fact in result.world.history if fact.what == "connected"}
    must = next(said for wanted, said in result.verdict.pairs if wanted.word == "must" and wanted.expected.kind == "registered")
    fewer = judge(result.wanted, [said for said in result.said if said is not must], initial)
    assert must.name in {wanted.expected.name for wanted in fewer.missed}
    invented = Said(must.agent_id, must.name, "Active", "Disconnected", must.at, "evt_invented")
    assert invented in judge(result.wanted, [*result.said, invented], initial).false


def test_what_is_wrong_is_explained_by_facts_rows_and_decisions() -> None:
    result = play(replace(SHORT, hours=1.0))
    number = result.said[0].agent_id
    lines = "\n".join(report.timeline(result, number, 0.0, float("inf")))
    assert all(word in lines for word in ("fact ", "row ", "EVENT "))


def test_naive_rules_are_judged_by_the_same_oracle_and_are_wrong() -> None:
    result = play(replace(SHORT, hours=2.0, naive=True))
    assert set(result.naive) == {"newest change wins", "newest keepalive wins", "the master's row"}
    assert all(verdict.false for verdict in result.naive.values())


def test_a_file_between_two_commits_never_shows_what_is_over() -> None:
    result = play(replace(SHORT, sources="file", faults=frozenset(), hours=2.0))
    assert result.verdict.count("never_shown") > 0
    assert play(replace(SHORT, sources="socket", faults=frozenset(), hours=2.0)).verdict.count("never_shown") == 0
