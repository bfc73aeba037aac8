"""Durations and sizes: what is printed is read back, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import units


@pytest.mark.parametrize(
    ("text", "value"),
    [("5s", 5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("3d", 259200), ("7", 7), (7, 7), (0.5, 0.5), ("1.5 h", 5400), ("0s", 0)],
)
def test_durations_are_seconds(text: object, value: float) -> None:
    assert units.seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("64MiB", 64 << 20), ("512KiB", 512 << 10), ("8GiB", 8 << 30), ("1TiB", 1 << 40), (9, 9), ("1.5KiB", 1536), ("3B", 3)],
)
def test_sizes_are_bytes(text: object, value: int) -> None:
    assert units.size(text) == value


@pytest.mark.parametrize(
    "value", ["", "s", "5x", "-5s", "5 s s", "1e3s", "٣s", "5S", True, None, [], "5\n", "NaN", float("inf"), float("nan"), -1, "1" * 99]
)
@pytest.mark.parametrize("read", [units.seconds, units.size])
def test_other_things_are_neither(read: object, value: object) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        read(value)  # type: ignore[operator]


@given(st.integers(0, 10**9))
def test_a_printed_duration_is_read_back(milliseconds: int) -> None:
    value = milliseconds / 1000
    assert units.seconds(units.show_seconds(value)) == pytest.approx(value, rel=1e-5, abs=1e-9)


@given(st.integers(0, 10**15))
def test_a_printed_size_is_read_back(value: int) -> None:
    assert units.size(units.show_size(value)) == value


def test_the_largest_whole_unit_is_printed() -> None:
    assert [units.show_seconds(v) for v in (0.0, 0.25, 5, 60, 90, 3600, 86400)] == ["0s", "250ms", "5s", "1m", "90s", "1h", "1d"]
    assert [units.show_size(v) for v in (0, 5, 1024, 1 << 20, 1025)] == ["0B", "5B", "1KiB", "1MiB", "1025B"]
