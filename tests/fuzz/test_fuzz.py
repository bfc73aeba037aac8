"""A short round of `make fuzz`, and proof that it would find what it looks for."""

import json
import random

import pytest

from tests.fuzz import borders, run
from tests.fuzz.borders import MIB, Border
from tests.fuzz.mutate import mutated

SHORT = 3_000


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_hostile_breaks_a_border_nor_passes_one(seed: int) -> None:
    tally = run.play(SHORT, seed, 1)
    assert (tally.inputs, tally.bad, tally.found) == (SHORT, 0, []), f"make fuzz ARGS='--seed {seed} --inputs {SHORT} --processes 1'"


def test_every_border_gets_its_share() -> None:
    everywhere = borders.borders()
    assert sum(one.share for one in everywhere) == 1000
    assert len(everywhere) == len({one.name for one in everywhere})


def test_the_seeds_themselves_are_accepted() -> None:
    """Else the mutations would all fail at the first step, and show nothing."""
    for one in borders.borders():
        if one.name in ("answers of JetStream", "fields of an envelope"):  # several readers of one text; values that are all wrong
            continue
        accepted = 0
        for seed in one.seeds:
            try:
                one.feed(seed)
                accepted += 1
            except one.refusals:
                pass
        assert accepted, one.name


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, second = (random.Random(7) for _ in range(2))
    assert [mutated([b"abc"], first) for _ in range(50)] == [mutated([b"abc"], second) for _ in range(50)]


@pytest.mark.parametrize(
    ("flaw", "count"), [("crash", "crashes"), ("hang", "hangs"), ("memory", "over_memory"), ("forgery", "forgeries"), ("refuse", "")]
)
def test_what_is_looked_for_is_found(monkeypatch: pytest.MonkeyPatch, flaw: str, count: str) -> None:
    def feed(data: bytes) -> bool:
        if flaw == "crash":
            raise KeyError("x")
        if flaw == "refuse":
            raise ValueError("documented")
        while flaw == "hang":
            pass
        held = bytearray(40 * MIB if flaw == "memory" else 0)
        return flaw == "forgery" and not held

    monkeypatch.setattr(run, "HANG_S", 0.05)
    monkeypatch.setattr(run, "borders", lambda: [Border("flawed", 1000, MIB, [b"x"], (ValueError,), feed)])
    tally = run.play(2, 1, 1)
    assert {name: getattr(tally, name) for name in run.COUNTS if name != "inputs" and getattr(tally, name)} == ({count: 2} if count else {})


def test_the_last_line_is_json_and_the_exit_code_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--inputs", "100", "--processes", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["inputs"], told["crashes"], sum(told["borders"].values())) == (100, 0, 100)
