"""Laws of gaps: whatever the order, what was not met between the first and the end is missing."""

from hypothesis import given
from hypothesis import strategies as st

from relay.gaps import Gaps


@given(st.permutations(range(1, 9)), st.sets(st.integers(2, 8)))
def test_what_was_not_met_is_missing(order: list[int], left_out: set[int]) -> None:
    gaps: Gaps[int] = Gaps()
    gaps.reach(1)
    met = {1}
    for number in order:
        if number in left_out or number in met:
            continue
        assert not gaps.met(number)
        met.add(number)
        end = gaps.end or 0
        if number < end:
            gaps.fill(number)
        elif number == end + 1:
            gaps.reach(number)
        elif number % 2:
            gaps.note(number)
        else:
            gaps.skip(number, number, told=False)
        assert all(gaps.met(one) == (one in met) for one in range(1, 9))
    missing = [one for first, last, _ in gaps.missing() for one in range(first, last + 1)]
    assert missing == [one for one in range(1, (gaps.end or 0) + 1) if one not in met]
    assert list(gaps.missing()) == []


def test_before_the_first_only_the_neighbour_moves_it() -> None:
    gaps: Gaps[int] = Gaps()
    assert (gaps.met(1), gaps.first, gaps.end) == (False, None, None)
    gaps.reach(5)
    gaps.fill(2)
    assert (gaps.first, gaps.met(2)) == (5, False)
    gaps.fill(4)
    assert (gaps.first, gaps.met(4)) == (4, True)


def test_a_gap_that_is_told_of_already_is_not_told_again_in_parts() -> None:
    gaps: Gaps[str] = Gaps()
    gaps.reach(1)
    gaps.skip(6, "six", told=True)
    gaps.fill(3)
    assert list(gaps.missing()) == []
    gaps.skip(9, "nine", told=False)
    gaps.fill(7)
    assert list(gaps.missing()) == [(8, 8, "nine")]
