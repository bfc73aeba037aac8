"""Laws of the breaker: it costs nothing while all is well, asks a failing dependency seldom, and never gives up."""

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff
from shared.breaker import TRIAL_S, Breaker


def breaker() -> Breaker:
    return Breaker(Backoff(first=1.0, highest=4.0, jitter=lambda: 1.0))


def test_it_is_closed_until_something_fails() -> None:
    made = breaker()
    assert (made.delay(0.0), made.patience(0.0), made.state, made.why) == (0.0, 0.0, "closed", "")


def test_a_failure_opens_it_and_the_next_one_opens_it_for_longer() -> None:
    made = breaker()
    made.failed(10.0, "away")
    assert (made.state, made.why, made.delay(10.25), made.patience(10.25)) == ("open", "away", 0.75, 0.75)
    assert (made.delay(11.0), made.state) == (0.0, "half-open")
    made.failed(11.0, "away still")
    assert (made.why, made.delay(11.0)) == ("away still", 2.0)


def test_half_open_lets_one_try_and_the_others_wait() -> None:
    made = breaker()
    made.failed(0.0, "away")
    assert made.delay(1.0) == 0.0
    assert made.delay(1.0) == TRIAL_S
    assert made.patience(1.0) == 0.0


def test_a_trial_of_which_nobody_told_the_end_is_followed_by_another() -> None:
    made = breaker()
    made.failed(0.0, "away")
    made.delay(1.0)
    assert made.delay(1.0 + TRIAL_S) == 0.0


def test_who_is_hurried_tries_at_once_and_waits_for_longer_where_that_fails_too() -> None:
    made = breaker()
    made.hurry()
    assert made.state == "closed"
    made.failed(0.0, "away")
    made.hurry()
    assert (made.delay(0.0), made.state) == (0.0, "half-open")
    made.hurry()
    assert made.delay(0.0) == TRIAL_S, "one tries"
    made.failed(0.0, "away")
    assert made.delay(0.0) == 2.0


def test_a_success_closes_it_and_begins_anew() -> None:
    made = breaker()
    for moment in (0.0, 10.0, 20.0):
        made.failed(moment, "away")
    made.succeeded()
    assert (made.state, made.why, made.delay(20.0)) == ("closed", "", 0.0)
    made.failed(30.0, "away")
    assert made.delay(30.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from(["ask", "failed", "hurry", "succeeded"]), st.integers(0, 20).map(lambda n: n / 4))))
def test_who_waits_as_told_may_always_ask_in_the_end(steps: list[tuple[str, float]]) -> None:
    made, now = breaker(), 0.0  # quarters of a second, so that sums are exact
    for what, seconds in steps:
        now += seconds
        if what == "ask":
            made.delay(now)
        elif what == "failed":
            made.failed(now, "away")
        elif what == "hurry":
            made.hurry()
        else:
            made.succeeded()
        assert (made.state == "closed") == (made.why == "")
    for _ in range(2):
        now += (wait := made.delay(now))
        assert 0.0 <= wait <= max(TRIAL_S, 4.0)
    assert made.delay(now) == 0.0 or made.state == "half-open"
