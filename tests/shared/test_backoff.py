"""Waits grow, are bounded, and begin anew after a success."""

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff


def test_waits_double_until_the_highest_and_stay_there() -> None:
    backoff = Backoff(first=1, highest=5, jitter=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(first=1, highest=5, jitter=lambda: 1.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1


def test_the_first_wait_is_a_quarter_second_at_most_and_none_is_above_fifteen() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    assert backoff.next() == 0.25
    assert max(backoff.next() for _ in range(100)) == 15


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_wait_is_the_jitter_s_share_of_its_ceiling(shares: list[float]) -> None:
    waits = iter(shares)
    backoff = Backoff(first=0.5, highest=8, jitter=lambda: next(waits))
    for number, share in enumerate(shares):
        assert backoff.next() == min(0.5 * 2**number, 8) * share
