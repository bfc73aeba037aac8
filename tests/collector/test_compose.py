"""Laws of what is said after a look."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from collector import compose
from collector.compose import Composer, Identity, Look, sayings
from collector.mirror import Changes, KeyChanges
from shared import wire
from shared.models import KeyEntry
from tests.collector.fakes import agent

flags = st.fixed_dictionaries({name: st.booleans() for name in ("whole", "first", "gap", "news", "full_due", "beat_due")})


@given(flags)
def test_news_is_never_left_to_what_may_be_dropped(given_flags: dict[str, bool]) -> None:
    said = sayings(**given_flags)
    if given_flags["news"]:
        assert any(saying.kept for saying in said)


@given(flags)
def test_a_full_is_said_only_of_a_whole_table_and_once_per_look(given_flags: dict[str, bool]) -> None:
    fulls = [saying for saying in sayings(**given_flags) if saying.kind == "full"]
    assert len(fulls) <= given_flags["whole"]
    assert all(saying.gap == given_flags["gap"] for saying in fulls)
    if given_flags["whole"] and (given_flags["gap"] or given_flags["first"]):
        assert fulls[0].kept


@given(flags)
def test_where_a_beat_is_due_something_is_said_and_a_beat_is_said_alone(given_flags: dict[str, bool]) -> None:
    said = sayings(**given_flags)
    assert said or not given_flags["beat_due"]
    assert compose.BEAT not in said or said == (compose.BEAT,)


LOOK = Look(1000, 900, 5, "file", "locked", "it is locked", 7, "denied", ((1, 2),), 20_000, 3, 4)


def test_a_snapshot_says_what_the_look_and_the_identity_say() -> None:
    composer = Composer(Identity("wazuh", "Milan", "node01", "worker"), 17)
    snapshot = composer.beat(LOOK)
    for field in dataclasses.fields(Look):
        assert getattr(snapshot, field.name) == getattr(LOOK, field.name)
    assert (snapshot.cluster, snapshot.node, snapshot.node_name, snapshot.node_type) == ("wazuh", "Milan", "node01", "worker")
    assert wire.decode(wire.encode(snapshot)) == snapshot


def test_seq_grows_by_one_with_every_snapshot_made() -> None:
    composer = Composer(Identity("wazuh", "n", "n", "master"), 17)
    key = KeyEntry(1, "a", "any", False)
    made = [
        composer.full(LOOK, [agent(1)], [key], gap=True),
        composer.delta(LOOK, Changes((agent(2),), (1,)), KeyChanges((key,), (2,))),
        composer.beat(LOOK),
        composer.full(LOOK, [], []),
    ]
    assert [(s.boot, s.seq, s.kind, s.gap) for s in made] == [
        (17, 1, "full", True),
        (17, 2, "delta", False),
        (17, 3, "beat", False),
        (17, 4, "full", False),
    ]
    assert (made[1].rows, made[1].gone, made[1].keys, made[1].keys_gone) == ((agent(2),), (1,), (key,), (2,))
