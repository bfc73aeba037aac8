"""`claims.contacts`, the quick way to what `claims.says` says of many rows."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relay import claims
from relay.clocks import NodeClock
from shared import models
from tests.relay.lab import PERIOD, T0, cluster, row

LISTED_AT = T0 + 100  # when who is quiet was listed, by the node's clock
LISTED = LISTED_AT - models.quiet_after(PERIOD * 1000) // 1000
TIMES = st.sampled_from([LISTED - 1, LISTED, LISTED + 1])

ROWS = st.builds(
    row,
    st.just(1),
    st.sampled_from(models.CONNECTION_STATUSES),
    st.none() | TIMES,
    code=st.sampled_from([None, 0, 1]),
    dt=st.just(0) | TIMES,
    node=st.sampled_from(["w1", "unknown"]),
)
CLOCKS = st.sampled_from([(), ((LISTED * 1000, 7_000),), (((LISTED + 2) * 1000, -9_000),)])


@given(ROWS, st.sampled_from([None, set(), {1}]), st.booleans(), st.booleans(), CLOCKS)
def test_the_contact_of_who_lives_is_what_its_claim_says(
    one: models.AgentRow, news: set[int] | None, quiet: bool, proved: bool, settings: tuple[tuple[int, int], ...]
) -> None:
    fleet = cluster().fleet
    table = fleet.tables["w1"]
    table.news, table.quiet = news, {1: LISTED} if quiet else {}
    clock = NodeClock(500, 500, 0, 0, settings=settings)
    listed = {"quiet_at": LISTED_AT * 1000, "quiet_through": LISTED_AT * 1000 + 450, "period": PERIOD * 1000}
    node = fleet.nodes["w1"] = replace(fleet.nodes["w1"], proved=proved, clock=clock, **listed)  # type: ignore[arg-type]
    claim = claims.says(fleet, node, one)
    plain = claim is not None and one.status == "active" and not one.code and not quiet
    expected = (claim.seconds, claim.contact) if claim is not None and plain else None
    assert list(claims.contacts(node, table, [None, one])) == [None, expected]
