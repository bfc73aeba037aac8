"""Laws of what `make bench` says: its figures, its table and its charts. What it measures is measured, not tested."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import figures, plot, probing, run, table, voices
from tests.bench.figures import Bar, Figure

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=9).map(tuple)
FIGURE = Figure("latency", "p99", "ms", (30.0, 10.0, 20.0), (5.0, 10.0, 5.0), "bare loop", Bar("at most", 25))


@given(VALUES, st.floats(0, 1))
def test_a_quantile_is_a_value_that_was_measured_and_so_many_are_at_or_below_it(values: tuple[float, ...], share: float) -> None:
    found = figures.quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values)


@given(VALUES)
def test_the_middle_is_between_the_least_and_the_most(values: tuple[float, ...]) -> None:
    found = figures.spread(values)
    assert (found.least, found.most) == (min(values), max(values))
    assert found.least <= found.middle <= found.most


def test_rounds_are_compared_with_the_floor_of_the_same_round() -> None:
    assert FIGURE.ratio == figures.Spread(1, 4, 6)


def test_other_rounds_are_compared_with_the_floors_middle_one() -> None:
    assert replace(FIGURE, floor=(2.0, 4.0)).ratio == figures.Spread(10 / 3, 20 / 3, 10)
    assert replace(FIGURE, floor=()).ratio is None
    assert replace(FIGURE, floor=(0.0, 1.0, 1.0)).ratio is None


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (None, None),
        (Bar("at most", 20), True),
        (Bar("at most", 19), False),
        (Bar("at least", 20), True),
        (Bar("at least", 21), False),
        (Bar("at most", 4, "ratio"), True),
        (Bar("at most", 3.9, "ratio"), False),
    ],
)
def test_the_middle_round_is_held_against_the_bar(bar: Bar | None, met: bool | None) -> None:
    assert replace(FIGURE, bar=bar).met is met


def test_a_bar_on_a_ratio_without_a_floor_says_nothing() -> None:
    assert replace(FIGURE, floor=(), bar=Bar("at most", 1, "ratio")).met is None


def test_a_figure_as_json_holds_all_of_it() -> None:
    told = json.loads(json.dumps(figures.as_json(FIGURE)))
    assert told["rounds"] == [30, 10, 20]
    assert told["value"] == {"least": 10, "middle": 20, "most": 30}
    assert told["floor"]["middle"] == 5
    assert (told["bar"]["limit"], told["met"]) == (25, True)


def test_the_table_says_value_floor_ratio_bar_and_verdict() -> None:
    poor = replace(FIGURE, name="p50", bar=Bar("at least", 0.6, "ratio"), floor=(100.0,), note="a word on it")
    lines = table.lines([FIGURE, poor])
    assert lines[2] == "latency"
    assert all(part in lines[3] for part in ("p99", "bare loop 5", "4 (1-6)", "<= 25", "met"))
    assert ">= 0.6 x" in lines[4]
    assert lines[4].endswith("NOT MET")
    assert lines[-1] == "latency, p50: a word on it"
    assert len({line.index("bare loop") for line in lines[3:5]}) == 1


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (1234.5, "1,234")])
def test_a_number_has_three_digits_that_mean_something(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_chart_holds_a_point_for_each_figure_and_floor() -> None:
    sizes = [replace(FIGURE, plot=("latency & more, ms", "<ours>", size)) for size in (1_000, 10_000)]
    charts = plot.charts([*sizes, FIGURE])
    assert charts == {"latency & more, ms": {"<ours>": [(1000, 20), (10000, 20)], "<ours>: bare loop": [(1000, 5), (10000, 5)]}}
    drawn = ET.fromstring(plot.svg(charts))
    names = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"latency & more, ms", "<ours>", "<ours>: bare loop"} <= set(names)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == 4


@given(st.floats(0.01, 1e6), st.floats(1, 1e4))
def test_a_scale_keeps_the_order_and_its_ends(least: float, factor: float) -> None:
    most = least * factor
    scale = plot.Scale(least, most, 0, 100)
    assert 0 <= scale.at(least) <= scale.at(most) <= 100
    assert [scale.at(scale.ticks()[0]), scale.at(scale.ticks()[-1])] == [0, 100]


def test_what_a_question_costs_runs_through_what_was_measured_on_the_real_daemon() -> None:
    assert [probing.asked_seconds(agents) for agents in (500, 1_000, 10_000)] == pytest.approx([0.0002, 0.0004, 0.0033])


def test_a_part_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.parse(["--only", "latency", "--only", "cost"]).only == ["latency", "cost"]
    for words in (["--only", "beauty"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            run.parse(words)
    assert "beauty" in capsys.readouterr().err


def test_every_node_of_a_made_up_cluster_has_a_row_for_every_agent() -> None:
    """As in Wazuh: the truth stands on one worker, a copy on the master, blanks elsewhere; digests are the tables'."""
    cluster = voices.Cluster(3, 9)
    fulls = {said.node: said for said in cluster.fulls()}
    assert all(len(said.rows) == 9 for said in fulls.values())
    assert [row.status for row in fulls["node02"].rows].count("active") == 3
    assert all(row.status == "active" for row in fulls["node01"].rows)
    deltas = [*cluster.stop(range(1, 10))]
    assert [len(said.rows) for said in deltas] == [3, 3, 3]
    assert {row.node_name for row in cluster.copied([1, 2]).rows} == {"node02", "node03"}
