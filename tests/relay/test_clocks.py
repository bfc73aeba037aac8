"""Laws of a node's clock as the relay knows it. Milliseconds."""

from hypothesis import given
from hypothesis import strategies as st

from relay import clocks
from relay.clocks import OFFSET_WINDOW, SET_STEP, SET_WINDOW, NodeClock

BEAT = 5_000
T0 = 1_000_000_000_000


def beats(clock: NodeClock, now: int, offset: int, count: int, delays: tuple[int, ...] = (0,)) -> tuple[NodeClock, int]:
    """The clock after `count` messages, one every BEAT, each late by the next of `delays`; and the time."""
    for number in range(count):
        now += BEAT
        clock = clocks.heard(clock, offset + delays[number % len(delays)], now)
    return clock, now


@given(st.integers(-60_000, 60_000), st.lists(st.integers(0, SET_STEP), min_size=1, max_size=9))
def test_the_least_delay_is_believed_whatever_the_others_are(offset: int, delays: list[int]) -> None:
    clock, _ = beats(clocks.first(offset + delays[0], T0), T0, offset, 3 * OFFSET_WINDOW // BEAT, (*delays, 0))
    assert clock.offset == offset
    assert clock.set_at == 0


def test_a_drift_is_followed_within_two_windows() -> None:
    clock, _ = beats(clocks.first(0, T0), T0, 400, 2 * OFFSET_WINDOW // BEAT + 2)
    assert (clock.offset, clock.set_at) == (400, 0)


@given(st.integers(SET_STEP + 1, 86_400_000))
def test_a_clock_set_back_is_noticed_within_two_short_windows_and_what_is_older_than_its_new_beginning_keeps_its_time(step: int) -> None:
    clock, now = beats(clocks.first(0, T0), T0, 0, 10)
    written = now - step - 1_000
    clock, now = beats(clock, now, step, 2 * SET_WINDOW // BEAT + 1)
    assert clock.offset == step
    assert clock.stream_time(now - step) == now
    assert clock.stream_time(written) == written


@given(st.integers(SET_STEP + 1, 86_400_000))
def test_a_clock_set_forward_is_noticed_at_once_and_old_records_keep_their_time(step: int) -> None:
    clock, now = beats(clocks.first(0, T0), T0, 0, 10)
    written = now - 1_000
    clock = clocks.heard(clock, -step, now + BEAT)
    assert clock.stream_time(now + BEAT + step) == now + BEAT
    assert clock.stream_time(written) == written


def test_a_single_message_that_was_long_under_way_sets_no_clock() -> None:
    clock, now = beats(clocks.first(0, T0), T0, 0, 10)
    clock = clocks.heard(clock, 300_000, now + BEAT)
    clock, _ = beats(clock, now + BEAT, 0, 20)
    assert (clock.offset, clock.set_at) == (0, 0)


@given(st.lists(st.sampled_from((-45_000, -20_000, 20_000, 45_000)), min_size=2, max_size=clocks.SETTINGS))
def test_what_was_written_before_a_clock_was_set_keeps_its_time_however_often_it_was_set_since(steps: list[int]) -> None:
    clock, now, offset = clocks.first(0, T0), T0, 0
    written = []
    for step in steps:
        clock, now = beats(clock, now, offset, 40)
        written.append((now, now - offset))
        clock, now = beats(clock, now, offset, 20)
        offset += step
    clock, now = beats(clock, now, offset, 20)
    assert [clock.stream_time(recorded) for _, recorded in written] == [at for at, _ in written]


def test_a_clock_set_back_begins_after_the_last_message_that_was_on_time() -> None:
    clock, now = beats(clocks.first(0, T0), T0, 0, 10)
    on_time = now
    clock, _ = beats(clock, now, 45_000, SET_WINDOW // BEAT + 2)
    assert clock.set_at == on_time - 45_000
