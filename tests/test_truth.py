"""Laws of `make truth`, on short histories: what holds of the relay's verdict today stays so, and a wrong one is noticed."""

from dataclasses import replace

import pytest

from tests.truth import report
from tests.truth.dues import Dues
from tests.truth.faults import KINDS
from tests.truth.hearing import NEVER, Hearing
from tests.truth.judge import Said, judge
from tests.truth.lines import Arrival
from tests.truth.notices import Told, Want, score
from tests.truth.play import Result, Setting, play

pytestmark = pytest.mark.unmeasured

EVERYTHING = frozenset(KINDS)
HOLDS = frozenset({"skew", "loss", "restart", "remoted", "relay", "reuse", "twin", "flap"})
SHORT = Setting(hours=2.0, nodes=3, agents=60, action=20.0, faults=HOLDS, sources="socket", naive=False)


def wrong(result: Result) -> int:
    numbers = report.numbers(result)
    return int(str(numbers["false"])) + int(str(numbers["missed"]))


def explained(result: Result) -> str:
    return "\n".join([*report.table(result), *report.wrong(result, 3)])


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(replace(SHORT, hours=3.0, seed=1), id="4.14 sockets"),
        pytest.param(replace(SHORT, hours=3.0, seed=2), id="4.14 sockets, another life"),
        pytest.param(replace(SHORT, hours=3.0, seed=2, sources="mixed"), id="4.14 files beside sockets"),
        pytest.param(replace(SHORT, seed=2, sources="file"), id="4.14 files"),
        pytest.param(replace(SHORT, seed=2, schema="5.0", nodes=1, faults=EVERYTHING), id="5.0 on one manager, every fault"),
        pytest.param(replace(SHORT, seed=3, schema="4.5", faults=HOLDS - {"loss"}), id="4.5 sockets"),
    ],
)
def test_nothing_false_and_nothing_missed(setting: Setting) -> None:
    result = play(setting)
    assert wrong(result) == 0, explained(result)
    assert result.verdict.must > 100  # there was something to tell


def test_many_registrations_are_told_each_once() -> None:
    result = play(replace(SHORT, hours=0.5, registrations=20_000.0, faults=frozenset({"skew", "loss"})))
    assert wrong(result) == 0, explained(result)
    assert report.kinds(result)["registered"][1] > 200


def test_the_same_seed_gives_the_same_history_and_the_same_events() -> None:
    one, other = (play(replace(SHORT, hours=1.0)) for _ in range(2))
    assert one.said
    assert list(one.said) == list(other.said)
    assert [told.event for told in one.relay.told] == [told.event for told in other.relay.told]


@pytest.fixture(scope="module")
def hour() -> Result:
    return play(replace(SHORT, hours=1.5, faults=HOLDS | {"collector"}, pace=4.0, naive=True))


def test_an_event_left_out_is_missed_and_one_too_many_is_false(hour: Result) -> None:
    initial = {fact.agent: "Active" for fact in hour.world.history if fact.what == "connected"}
    must = next(said for wanted, said in hour.verdict.pairs if wanted.word == "must" and wanted.expected.kind == "registered")
    fewer = judge(hour.wanted, [said for said in hour.said if said is not must], initial)
    assert must.name in {wanted.expected.name for wanted in fewer.missed}
    invented = Said(must.agent_id, must.name, "Active", "Disconnected", must.at, "evt_invented")
    assert invented in judge(hour.wanted, [*hour.said, invented], initial).false


@pytest.mark.parametrize("kind", ["moved", "overdue", "overdue_cleared", "version_refused", "manager_restarted", "manager_unreachable"])
def test_a_notice_left_out_is_missed_and_one_told_twice_is_false(hour: Result, kind: str) -> None:
    pairs = hour.notices.of(kind).pairs
    wants, told = [want for want, _ in pairs], [one for _, one in pairs]
    must = next(one for want, one in pairs if want.word == "must")
    assert [want.kind for want in score(wants, [one for one in told if one is not must]).missed] == [kind]
    assert len(score([want for want in wants if want.subject == must.subject], [must, must, must]).false) >= 1


def test_a_notice_of_somebody_else_or_too_early_fits_nothing() -> None:
    want = Want("overdue", (7, "web"), "must", since=10.0, begin=70.0, due=80.0, node="worker1", about=(9.0, 11.0))
    told = Told("overdue", (7, "web"), "worker1", at=75.0, about=10.0)
    assert score([want], [told]).found == 1
    for other in (
        replace(told, at=69.0), replace(told, at=81.0), replace(told, about=30.0), replace(told, node="worker2"),
        replace(told, subject=(7, "other")), replace(told, kind="moved"),
    ):  # fmt: skip
        found = score([want], [other])
        assert (found.found, len(found.false), len(found.missed)) == (0, 1, 1)


def test_what_is_wrong_is_explained_by_facts_rows_and_decisions(hour: Result) -> None:
    lines = "\n".join(report.timeline(hour, hour.said[0].agent_id, 0.0, NEVER))
    assert all(word in lines for word in ("fact ", "row ", "EVENT "))


def test_naive_rules_are_judged_by_the_same_oracle_and_are_wrong(hour: Result) -> None:
    assert set(hour.naive) == {"newest change wins", "newest keepalive wins", "the master's row"}
    assert all(verdict.false for verdict in hour.naive.values())


def test_every_kind_has_its_line_and_the_sum_counts_them_all(hour: Result) -> None:
    numbers, kinds = report.numbers(hour), report.kinds(hour)
    assert {"connected", "moved", "overdue", "manager_back", "clock_off", "removed_but_connected"} <= kinds.keys()
    assert numbers["found"] == sum(counts[1] for counts in kinds.values())
    assert all(any(kind in line for line in report.table(hour)) for kind in kinds)


def test_silence_is_told_within_three_periods_and_five_seconds_where_every_node_has_a_socket() -> None:
    setting = replace(SHORT, faults=frozenset({"skew"}), cadence=replace(SHORT.cadence, beat=5.0))
    result = play(setting)
    silent = result.notices.of("overdue")
    assert silent.found > 20
    assert not silent.false
    assert report.delays(result)["overdue"]["p99"] <= 65.0


def test_a_file_between_two_commits_never_shows_what_is_over() -> None:
    result = play(replace(SHORT, sources="file", faults=frozenset()))
    assert result.verdict.count("never_shown") > 0
    assert play(replace(SHORT, faults=frozenset())).verdict.count("never_shown") == 0


def hearing_of(looks: list[float], *, behind: float = 0.0) -> Hearing:
    return Hearing(
        {"node01": [Arrival(look + 0.1, look, look - behind, readable=True, quiet=True, proved=True) for look in looks]}, stale=30.0
    )


def test_a_node_is_heard_while_what_it_says_is_young() -> None:
    hearing = hearing_of([0.0, 10.0, 20.0, 70.0, 80.0])
    assert hearing.is_heard("node01", 1.0, 20.0)
    assert not hearing.is_heard("node01", 1.0, 60.0)
    assert list(hearing.silences("node01", 30.0)) == [(20.0, 70.1), (80.0, NEVER)]


def test_everybody_is_waited_for_until_he_tells_or_is_no_longer_heard() -> None:
    assert hearing_of([0.0, 10.0, 20.0], behind=5.0).all_known_at(12.0) == 20.1
    assert hearing_of([0.0, 10.0, 90.0]).all_known_at(12.0) == 10.0 + 30.0 + 2.0
    assert hearing_of([0.0, 10.0, 90.0]).all_known_at(60.0) == 60.0  # nobody is heard, nobody is waited for


def test_a_reset_is_due_after_three_periods_of_its_node_and_not_while_that_is_unheard() -> None:
    looks = [float(at) for at in range(0, 100, 5)]
    assert 60.0 < Dues(hearing_of(looks), {"node01": 10.0}).reset("node01", 0.1) < 80.0
    gone = [float(at) for at in (*range(0, 30, 5), *range(500, 800, 5))]
    assert 560.0 < Dues(hearing_of(gone), {"node01": 10.0}).reset("node01", 0.1) < 590.0  # the grace begins anew
