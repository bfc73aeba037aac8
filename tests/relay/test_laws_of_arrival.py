"""Laws of whose word counts: what others say of an agent makes no event, and the order in which nodes are heard decides nothing."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.fleet import Heard
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, row

Said = dict[str, object]

# Claims of those that do not own the agent ----------------------------------------------------------------------------

BEFORE = T0 - 40  # what others say is older than this: a whole sync before the owner's first contact
OTHERS = st.fixed_dictionaries(
    {
        "node": st.sampled_from(["m", "w2"]),
        "status": st.sampled_from(["active", "disconnected", "pending", "never_connected"]),
        "code": st.sampled_from([0, 1, 2, 3, 4, 5, None]),
        "kept": st.none() | st.integers(BEFORE - 500, BEFORE),
        "left": st.just(0) | st.integers(BEFORE - 500, BEFORE),
        "swept": st.booleans(),  # code 4 and 5 have a fresh time, however old the contact is
        "named": st.sampled_from(["m", "w1", "w2", "unknown", None]),
        "passed": st.sampled_from([0, 5, 20]),
        "gone": st.booleans(),
    }
)


def owned() -> Lab:
    """Agent 1 lives on w1; the others know it from before."""
    lab = Lab()
    for name in ("m", "w1", "w2"):
        lab.node(name, "master" if name == "m" else "worker")
    lab.full("w1", [row(1, "active", T0, node="w1", added=0)], T0)
    lab.full("w2", [row(1, "never_connected", added=0)], T0)
    lab.full("m", [row(1, "active", BEFORE, node="w1")], T0, quiet=((1, BEFORE),))
    assert lab.fleet.settled
    return lab


def older(said: Said, now: int) -> AgentRow:
    status, code, left = said["status"], said["code"], int(str(said["left"]))
    fresh = said["swept"] and code in (4, 5)
    return row(
        1, status, said["kept"], code=code, dt=now if fresh else left, node=said["named"],  # type: ignore[arg-type]
        added=T0 - 1000 if said["node"] == "m" else 0,
    )  # fmt: skip


@settings(max_examples=70, deadline=None)
@given(st.lists(OTHERS, max_size=8))
def test_no_sequence_of_claims_by_non_owners_makes_an_event(course: list[Said]) -> None:
    """The owner's contacts are the newest by more than a sync; whoever is alive elsewhere is named as quiet there, as collectors do."""
    lab, now = owned(), T0
    for said in [*course, None, None]:
        for _ in range(int(str(said["passed"])) // 5 if said else 30):
            now += 5
            for name in lab.speakers:
                listed = lab.speakers[name].rows.get(1)
                kept = None if listed is None or name == "w1" or listed.status not in ("active", "pending") else listed.last_keepalive
                lab.beat(name, now, {} if kept is None else {1: kept})
        if said is None:
            continue
        node, new = str(said["node"]), older(said, now)
        quiet = ((1, new.last_keepalive),) if new.status in ("active", "pending") and new.last_keepalive is not None else ()
        if said["gone"] and node == "w2":
            lab.delta(node, now=now, gone=[1], quiet=())
        else:
            lab.delta(node, new, now=now, quiet=quiet)
    assert lab.events == []
    assert lab.status(1) == "Active"


# The order of arrival -------------------------------------------------------------------------------------------------

NODES = ("m", "w1", "w2")
AWAY = 400  # seconds for which NATS was away: what the spools kept then arrives in any order of the nodes
SHIFT = {"m": 0, "w1": 36, "w2": 40}  # contacts on the master are a sync apart from those on workers, these a tie from each other
Spec = tuple[str, int, str]


def specs(node: str) -> st.SearchStrategy[list[Spec]]:
    moments = st.integers(0, (AWAY - 50) // 80).map(lambda turn: T0 + 10 + 80 * turn + SHIFT[node])
    copies = st.tuples(st.sampled_from(["active", "stopped", "silent", "reset"]), moments, st.sampled_from(["w1", "w2"]))
    own = st.tuples(st.sampled_from(["active", "pending", "stopped", "silent", "reset"]), moments, st.just(node))
    one = own | copies if node == "m" else own
    return st.lists(one, max_size=3, unique_by=lambda spec: spec[1]).map(lambda found: sorted(found, key=lambda spec: spec[1]))


COURSES = st.fixed_dictionaries({node: specs(node) for node in NODES})
ORDERS = COURSES.flatmap(lambda course: st.permutations([node for node in NODES for _ in course[node]]).map(lambda order: (course, order)))


def row_of(node: str, spec: Spec) -> AgentRow:
    kind, at, named = spec
    code = {"stopped": 3, "silent": 4, "reset": 5}.get(kind, 0)
    status = kind if code == 0 else "disconnected"
    kept = at - 5 if kind == "stopped" else at
    left = 0 if code == 0 else at if kind == "stopped" else at + 3
    return row(1, status, kept, code=code, dt=left, node=named, added=T0 - 1000 if node == "m" else 0)  # type: ignore[arg-type]


def arrived(course: dict[str, list[Spec]], order: Iterable[str], lives: str) -> Lab:
    """All that was said, in this order of the nodes, and then time beyond every hold."""
    lab = Lab()
    for name in NODES:
        lab.node(name, "master" if name == "m" else "worker")
    lab.full("w1", [row(1, "active", T0 - 5, node="w1", added=0)], T0)
    lab.full("w2", [row(1, "never_connected", added=0)], T0)
    lab.full("m", [row(1, "active", T0 - 3, node="w1")], T0)

    def quiet(name: str, now: int) -> dict[int, int]:
        held = lab.speakers[name].rows[1]
        if held.status not in ("active", "pending") or held.last_keepalive is None or now - 15 <= held.last_keepalive:
            return {}
        keeps_alive = name == lives == held.node_name and held.status == "active" and now > T0 + AWAY
        return {} if keeps_alive else {1: held.last_keepalive}

    waiting = {name: list(said) for name, said in course.items()}
    for name in order:
        spec = waiting[name].pop(0)
        new = lab.speakers[name].rows[1] = row_of(name, spec)
        taken = spec[1] + 4
        snapshot = lab.speakers[name].snapshot("delta", taken, rows=(new,), quiet=tuple(quiet(name, taken).items()))
        lab.position += 1
        lab.step(Heard(lab.position, (T0 + AWAY) * 1000, (T0 + AWAY) * 1000, snapshot))
    for now in range(T0 + AWAY + 5, T0 + AWAY + 200, 5):
        lab.beats(now, {name: quiet(name, now) for name in NODES})
    return lab


@settings(max_examples=60, deadline=None)
@given(ORDERS, st.sampled_from([*NODES, "nowhere"]))
def test_the_order_in_which_nodes_are_heard_does_not_change_the_final_verdict(
    said: tuple[dict[str, list[Spec]], list[str]], lives: str
) -> None:
    """Each node's own order is kept. It holds where contacts on workers are more than a second apart, and the master's own more than
    a sync from them: within these nobody can say what was first. A row's contacts only grow, and a copy keeps nobody alive."""
    course, order = said
    straight = arrived(course, sorted(order, key=NODES.index), lives)
    assert arrived(course, order, lives).status(1) == straight.status(1)
