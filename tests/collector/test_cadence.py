"""Laws of the collector's timing, in virtual time."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector import cadence
from collector.cadence import Due, Pace, Plan, Rhythm

# Pace -----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200), st.floats(0.005, 0.5))
def test_probes_take_at_most_the_budget_of_the_sources_time(costs: list[float], budget: float) -> None:
    """Smoothing defers a part of what was spent, at most 1 / SMOOTHING times the dearest probe; nothing is forgotten."""
    pace = Pace(budget, longest=1e9)
    waited = 0.0
    for cost in costs:
        pace.spent(cost)
        waited += pace.wait
    assert budget * waited >= sum(costs) - max(costs) / cadence.SMOOTHING - 1e-9


@given(st.lists(st.floats(0, 100)), st.floats(0.001, 0.5), st.floats(0.05, 60))
def test_the_pace_stays_between_fastest_and_poll_interval(costs: list[float], budget: float, longest: float) -> None:
    pace = Pace(budget, longest)
    for cost in costs:
        pace.spent(cost)
        assert cadence.FASTEST <= pace.wait <= longest


def test_a_probe_of_a_millisecond_at_one_percent_comes_every_tenth_of_a_second() -> None:
    pace = Pace(0.01, 5)
    assert pace.wait == cadence.FASTEST
    pace.spent(0.001)
    assert abs(pace.wait - 0.1) < 1e-9


# Plan -----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 30), max_size=100), st.floats(0.05, 10), st.floats(1, 60))
def test_a_beat_is_due_each_poll_interval_and_a_full_each_full_interval(steps: list[float], poll: float, full: float) -> None:
    """Never two within one look, never later than the first look after the interval."""
    plan = Plan(0.0, poll, full)
    now = last_beat = last_full = 0.0
    assert plan.due(0.0) == Due(beat=True, full=True)
    plan.said(0.0, plan.due(0.0))
    for step in steps:
        now += step
        due = plan.due(now)
        plan.said(now, due)
        assert plan.due(now) == Due(beat=False, full=False)
        if due.full:
            last_full = now
        if due.beat:
            last_beat = now
        assert now - last_beat <= poll + 1e-6
        assert now - last_full <= full + 1e-6


@given(st.floats(0.05, 10), st.floats(1, 60))
def test_looks_on_time_keep_the_plan_without_drift(poll: float, full: float) -> None:
    plan = Plan(0.0, poll, full)
    now = 0.0
    for _ in range(50):
        plan.said(now, plan.due(now))
        now += plan.rest(now, poll)
        assert plan.late(now) == 0
    assert plan.due(50 * poll + full).full


def test_rest_ends_when_something_is_due_and_late_counts_from_there() -> None:
    plan = Plan(0.0, 5, 60)
    plan.said(0.0, plan.due(0.0))
    assert plan.rest(4.5, 2.0) == 0.5
    assert plan.late(5.0) == 0
    assert plan.late(5.25) == 0.25
    assert plan.rest(7.0, 2.0) == 0


# Rhythm ---------------------------------------------------------------------------------------------------------------


def learn(period: float, look: float, jitter: float, agents: int, seed: int) -> Rhythm:
    """Agents keep alive every `period` seconds +- `jitter` of it; somebody looks every `look` seconds."""
    chance = random.Random(seed)
    times = {
        number: [
            1_000_000 + phase + period * (k + chance.uniform(-jitter, jitter) / 2)
            for phase in [chance.uniform(0, period)]
            for k in range(60)
        ]
        for number in range(1, agents + 1)
    }
    rhythm = Rhythm()
    rhythm.choose((number, 0) for number in times)
    for tick in itertools.count(1):
        now = 1_000_000 + 2 * period + tick * look
        if now > 1_000_000 + 50 * period:
            return rhythm
        rhythm.note(((number, max(int(t) for t in times[number] if t <= now)) for number in rhythm.sample), int(now))
    raise AssertionError


@settings(max_examples=40, deadline=None)
@given(st.floats(5, 600), st.floats(0.1, 1), st.floats(0, 0.1), st.integers(1, 40), st.integers(0, 2**32))
def test_the_rhythm_is_learnt_within_a_fifth(period: float, share: float, jitter: float, agents: int, seed: int) -> None:
    """For every look at most one period apart; keepalives are whole seconds, hence the one second more."""
    rhythm = learn(period, max(period * share, 1), jitter, agents, seed)
    assert abs(rhythm.period / 1000 - period) <= 0.2 * period + 1


@settings(max_examples=30, deadline=None)
@given(st.floats(5, 60), st.floats(1.1, 5), st.integers(0, 2**32))
def test_looking_too_rarely_never_gives_a_period_too_short(period: float, factor: float, seed: int) -> None:
    """A period too long says `quiet` later; one too short would say it of agents that are well."""
    assert learn(period, period * factor, 0.05, 32, seed).period / 1000 >= 0.8 * period - 1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([10, 20, 60]), st.just(61), st.integers(0, 2**32))
def test_a_file_that_is_written_once_a_minute_shows_the_agents_own_rhythm(period: int, commit: int, seed: int) -> None:
    learnt = learn(period, commit, 0, 32, seed).period / 1000
    assert period <= learnt <= period * 1.5 + 1


def test_nothing_is_said_before_enough_was_seen() -> None:
    rhythm = Rhythm()
    rhythm.choose([(1, 0)])
    for k in range(cadence.ENOUGH):
        rhythm.note([(1, 10 * k)], 10 * k)
        assert rhythm.period == 0
    rhythm.note([(1, 10 * cadence.ENOUGH)], 10 * cadence.ENOUGH)
    assert rhythm.period == 10_000


def test_a_new_rhythm_replaces_the_old() -> None:
    rhythm = Rhythm()
    rhythm.choose([(1, 0)])
    at = 0
    for step in [10] * 100 + [60] * cadence.DIFFERENCES:
        at += step
        rhythm.note([(1, at)], at)
    assert rhythm.period == 60_000


def test_agents_that_vanish_are_replaced_and_what_was_learnt_stays() -> None:
    rhythm = Rhythm()
    rhythm.choose((number, 0) for number in range(1, 33))
    for k in range(10):
        rhythm.note([(number, 20 * k) for number in rhythm.sample], 20 * k + 19)
    rhythm.choose((number, 200) for number in (1, 2, *range(100, 110)))
    assert set(rhythm.sample) == {1, 2, *range(100, 110)}
    rhythm.choose([])
    assert rhythm.sample == ()
    assert rhythm.period == 20_000


def test_of_many_the_last_heard_are_followed_and_who_stopped_moving_an_hour_ago_gives_way() -> None:
    """A worker's table is full of agents that report elsewhere."""
    rhythm = Rhythm()
    rhythm.choose((number, number) for number in range(1, 1001))
    assert set(rhythm.sample) == set(range(1000 - cadence.SAMPLE_SIZE + 1, 1001))
    first = set(rhythm.sample)
    rhythm.choose((number, 9000 if number <= cadence.SAMPLE_SIZE else 1000) for number in range(1, 1001))
    assert set(rhythm.sample) == set(range(1, cadence.SAMPLE_SIZE + 1))
    assert not first & set(rhythm.sample)


@given(st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)))
def test_the_sample_is_of_active_agents_and_bounded(first: set[int], then: set[int]) -> None:
    rhythm = Rhythm()
    rhythm.choose((number, 0) for number in first)
    kept = set(rhythm.sample) & then
    rhythm.choose((number, 0) for number in then)
    assert kept <= set(rhythm.sample) <= then
    assert len(rhythm.sample) == min(len(then), cadence.SAMPLE_SIZE)


def test_what_cannot_be_a_period_is_ignored() -> None:
    """Going back, standing still, an absence of hours, agents nobody follows."""
    rhythm = Rhythm()
    rhythm.choose([(1, 0)])
    for k in range(20):
        rhythm.note([(1, 5000 * (k % 2)), (2, 10 * k), (1, 5000 * (k % 2))], 5000)
    assert rhythm.period == 0
