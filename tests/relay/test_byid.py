"""A mapping by id is a dict in everything but its size."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.byid import PAGE, ById

IDS = st.integers(0, 3 * PAGE) | st.sampled_from([2**31, 2**63 - 1])


@given(st.lists(st.tuples(st.sampled_from(["set", "set", "pop", "delete"]), IDS)), st.dictionaries(IDS, st.text(max_size=2)))
def test_it_is_a_dict(doings: list[tuple[str, int]], begins: dict[int, str]) -> None:
    model, mapping = dict(begins), ById(begins)
    for at, (doing, number) in enumerate(doings):
        if doing == "set":
            model[number] = mapping[number] = str(at)
        elif doing == "pop":
            assert mapping.pop(number, None) == model.pop(number, None)
        elif number in model:
            del model[number], mapping[number]
        assert (len(mapping), number in mapping, mapping.get(number)) == (len(model), number in model, model.get(number))
    assert mapping == model
    assert sorted(mapping) == sorted(model)
    assert mapping.of([*model, 5]) == [*model.values(), model.get(5)]
    assert repr(mapping) == f"ById({dict(mapping)})"


@given(st.dictionaries(IDS, st.text(max_size=2)), st.lists(IDS, unique=True), st.booleans())
def test_many_at_once(begins: dict[int, str], numbers: list[int], ascending: bool) -> None:
    numbers = [*sorted(numbers), *range(10 * PAGE - 5, 12 * PAGE + 5)] if ascending else numbers
    mapping = ById(begins)
    assert mapping.of(numbers) == [begins.get(number) for number in numbers]
    mapping.fill({number: str(number) for number in numbers})
    assert (dict(mapping), len(mapping)) == (all_of := begins | {number: str(number) for number in numbers}, len(all_of))
    assert mapping.of(numbers) == list(map(str, numbers))


def test_what_is_not_there_is_said_so() -> None:
    mapping = ById({1: "one"})
    assert mapping.get(2, "none") == "none"
    assert (2 in mapping, 1 in mapping) == (False, True)
    for missing in (2, 2 * PAGE):
        with pytest.raises(KeyError):
            mapping[missing]
        with pytest.raises(KeyError):
            del mapping[missing]


def test_what_is_empty_is_let_go() -> None:
    mapping = ById(dict.fromkeys(range(10 * PAGE), "x"))
    for number in range(10 * PAGE):
        del mapping[number]
    assert mapping == ById[str]()
    assert not mapping._pages


def test_an_id_costs_little_more_than_its_value() -> None:
    many = 100 * PAGE
    mapping = ById(dict.fromkeys(range(many), "x"))
    assert (sys.getsizeof(mapping._pages) + sum(map(sys.getsizeof, mapping._pages.values()))) / many < 12
