"""Wazuh's `agent` table: the SELECTs this program sends, the rows they answer with, and the probe that sees what moved.

Pure: SQL texts out, answers in.

Rules
 * Only columns that the table has are named: 4.2 to 4.14 and 5.0 differ. `internal_key` is an agent's secret and is never
   selected. Id 0 is the manager itself and never an agent.
 * Every SELECT answers with the same nine values under one-letter names (`NAMES`): a page of the socket is cut at 64 KiB,
   so that short names mean fewer pages.
 * A row that breaks a rule is refused and counted; the rest goes on. Its id, where it has one, is told: the agent is
   there, although it cannot be read.
 * The probe answers with one text. wazuh-db turns every number into a double (wazuh/wazuh src/wazuh_db/wdb.c,
   wdb_exec_stmt), so that a sum above 2**53 would not arrive as it left.
 * The probe names each agent whose `mark` (its status, its code, and whether its node_name is this node's own, for a row may
   pass from a worker to the master and stay active all the while) is not the one that most agents had when the table was read:
   in a fleet that is well nearly nobody, so that it costs hardly more than walking through the table does. A weighted sum
   shows what leaves the marks alone: a disconnection_time or a date_add that moved.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import Final, cast

from shared.errors import SourceUnavailable
from shared.models import AgentRow, ConnectionStatus

from . import rowcheck

NAMES: Final = ("i", "n", "a", "s", "c", "d", "k", "t", "o")
"""id, name, ip, status, code, disconnection_time, last_keepalive, date_add, node_name in an answer."""

VERSION_5_0: Final = 500
"""What `Reading.db_version` says for 5.0, which has no metadata db_version but PRAGMA user_version 1."""

COLUMNS: Final = "select name n from pragma_table_info('agent')"
METADATA_COLUMNS: Final = "select name n from pragma_table_info('metadata')"
METADATA_VERSION: Final = "select value v from metadata where key='db_version'"
USER_VERSION: Final = "pragma user_version"
TOTAL_CHANGES: Final = "select total_changes() c"
IDS_PER_SELECT: Final = 500  # of up to 8 digits and a comma: half of the longest request wazuh-db should be sent
NAMED: Final = 3_000  # agents that one SELECT of a probe names, of up to 11 bytes each: half of what an answer holds
_WEIGHT: Final = "(id%1000+1)"  # 1,000,000 agents x 500 x 8e9 s stays below 2**63: SQLite's sum() raises above it


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source showed."""

    rows: tuple[AgentRow, ...]
    complete: bool  # rows are the whole table
    gone: tuple[int, ...]  # ids that left the table; only where the reading is not complete
    as_of: int  # Unix ms: what was written to the table before that is in here
    cost: float  # seconds the source was busy for us
    db_version: int
    refused: int = 0  # rows that broke a rule
    refusal: str = ""  # one sentence about the first of them
    unreadable: tuple[int, ...] = ()  # their ids: these agents are in the table all the same


# The schema ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Schema:
    """What a table of agents has, as parts of a SELECT."""

    db_version: int
    values: str  # the nine, under their NAMES
    disconnection_time: str
    last_keepalive: str
    code: str  # a number
    is_own: str  # 1 where the row is of this node itself
    times: str  # the sum of disconnection_time and date_add


def schema(columns: Iterable[object], user_version: object, metadata_version: object, own: str) -> Schema:
    """The schema of a table with these columns, on the node of that name. Raises SourceUnavailable: what we need is not there."""
    have = {column for column in columns if isinstance(column, str)}
    missing = [name for name in ("id", "name", "connection_status") if name not in have]
    if not have:
        raise SourceUnavailable("unsupported", "Wazuh's database has no table of agents; wazuh-db makes it when it starts")
    if missing:
        raise SourceUnavailable(
            "unsupported", f"Wazuh's table of agents has no {', '.join(missing)}; this program reads Wazuh 4.2 to 4.14 and 5.0"
        )

    def number(name: str) -> str:
        return f"ifnull({name},0)" if name in have else "0"

    addresses = ",".join(name for name in ("ip", "register_ip") if name in have)
    code = number("status_code") if "status_code" in have else "null"
    values = (
        "id",
        "name",
        f"coalesce({addresses})" if "," in addresses else addresses or "null",
        "connection_status",
        code,
        number("disconnection_time"),
        "last_keepalive" if "last_keepalive" in have else "null",
        number("date_add"),
        "ifnull(node_name,'unknown')" if "node_name" in have else "null",
    )
    return Schema(
        db_version=_db_version(user_version, metadata_version),
        values=",".join(f"{value} {name}" for value, name in zip(values, NAMES, strict=True)),
        disconnection_time=number("disconnection_time"),
        last_keepalive=values[6],
        code=number("status_code"),
        is_own=f"({values[8]} is {_quoted(own)})",
        times=f"ifnull(sum(cast(({number('disconnection_time')}+{number('date_add')})*{_WEIGHT} as integer)),0)",
    )


_BASES: Final[dict[ConnectionStatus, int]] = {"active": 0, "disconnected": 10, "pending": 20, "never_connected": 30}  # ten codes each
_OWN: Final = 40
_MARKS: Final = 100
"""What the probe names is an agent's id times this, and its mark."""

Mark = int


def mark(row: AgentRow, own: str) -> Mark:
    """What the probe shows of a row on the node of that name."""
    return _BASES[row.status] + (row.code or 0) + _OWN * (row.node_name == own)


def named(number: int, mark: Mark) -> int:
    """An agent as a probe names it."""
    return number * _MARKS + mark


def apart(name: int) -> tuple[int, Mark]:
    """(id, mark) of an agent that is `named`."""
    return divmod(name, _MARKS)


def _usual(table: Schema, usual: Mark) -> str:
    """A condition that only rows with this mark meet."""
    base, code = divmod(usual % _OWN, 10)
    status = next(status for status, begin in _BASES.items() if begin == base * 10)
    return f"connection_status='{status}' and {table.code}={code} and {table.is_own}={usual // _OWN}"


def _named(table: Schema) -> str:
    whens = " ".join(f"when '{status}' then {base}" for status, base in _BASES.items())
    status = f"case connection_status {whens} else {_BASES['never_connected']} end"
    return f"cast(id*{_MARKS}+({status})+max(0,min({table.code},{rowcheck.MAX_CODE}))+{_OWN}*{table.is_own} as integer)"


def _quoted(text: str) -> str:
    """A text as SQL that no character of it can leave; a blob, which equals no text, for one that no row can hold."""
    return f"cast(x'{text.encode().hex()}' as text)" if rowcheck.is_text(text) else "x''"


def _db_version(user_version: object, metadata_version: object) -> int:
    text = str(metadata_version)
    if text.isascii() and text.isdigit() and len(text) <= 3:
        return int(text)
    return VERSION_5_0 - 1 + user_version if isinstance(user_version, int) and 1 <= user_version < 100 else 0


# SELECTs ------------------------------------------------------------------------------------------------------------


def page(table: Schema, after: int, limit: int) -> str:
    """Whole rows by ascending id."""
    return f"select {table.values} from agent where id>{after:d} order by id limit {limit:d}"


def everything(table: Schema) -> str:
    """Every row by ascending id, for who is not cut at 64 KiB."""
    return f"select {table.values} from agent where id>0 order by id"


def chosen(table: Schema, ids: Sequence[int], after: int, limit: int) -> str:
    """Whole rows of at most IDS_PER_SELECT ids."""
    return f"select {table.values} from agent where id in ({_listed(ids)}) and id>{after:d} order by id limit {limit:d}"


def id_page(after: int, limit: int) -> str:
    """Ids alone."""
    return f"select id i from agent where id>{after:d} order by id limit {limit:d}"


def times_page(table: Schema, after: int, limit: int) -> str:
    """(id, disconnection_time) of agents that have one."""
    return (
        f"select id i,{table.disconnection_time} d from agent where id>{after:d} and {table.disconnection_time}<>0 "
        f"order by id limit {limit:d}"
    )


def keepalive_page(table: Schema, before: int, sample: Sequence[int], after: int, limit: int) -> str:
    """(id, last_keepalive) of active and pending agents last heard before `before`, and of at most IDS_PER_SELECT others."""
    quiet = f"connection_status in ('active','pending') and {table.last_keepalive}<{before:d}"
    values = f"id i,{table.last_keepalive} k"
    return f"select {values} from agent where id>{after:d} and (({quiet}) or id in ({_listed(sample)})) order by id limit {limit:d}"


@lru_cache(maxsize=64)  # the same again and again
def probe(table: Schema, usual: Mark, after: int, up_to: int | None) -> str:
    """One range of the probe, which names whoever has not the usual mark. `not indexed` makes SQLite walk the table itself."""
    bound = "" if up_to is None else f" and id<={up_to:d}"
    unlike = f"case when {_usual(table, usual)} then null else {_named(table)} end"
    values = ("total_changes()", "count(*)", "ifnull(sum(id),0)", table.times, f"ifnull(group_concat({unlike}),'')")
    shown = "||' '||".join(values)
    return f"select {shown} p from agent not indexed where id>{after:d}{bound}"


def probe_ranges(names: Collection[int]) -> list[tuple[int, int | None]]:
    """(after, up to) of each SELECT of a probe that names these; the last one is open."""
    bounds = [apart(name)[0] for name in sorted(names)[NAMED - 1 : -1 : NAMED]]
    return list(zip([0, *bounds], [*bounds, None], strict=True))


def _listed(ids: Sequence[int]) -> str:
    if len(ids) > IDS_PER_SELECT:
        raise ValueError(f"{len(ids)} ids in one SELECT, at most {IDS_PER_SELECT}")
    return ",".join(f"{number:d}" for number in ids)


# Rows ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of an answer, and what was refused."""

    rows: tuple[AgentRow, ...]
    unreadable: tuple[int, ...] = ()
    refused: int = 0
    refusal: str = ""


def decode(answer: Iterable[Mapping[str, object] | Sequence[object]]) -> Decoded:
    """The rows in an answer: objects of the socket (a NULL is left out of them) or tuples of SQLite."""
    many = list(answer)
    columns = rowcheck.columns(many, NAMES)
    if rowcheck.are_in_order(columns):
        # As `_make` does, which is the half of it again.
        return Decoded(tuple(map(tuple.__new__, repeat(AgentRow), zip(*columns, strict=True))))
    rows: list[AgentRow] = []
    unreadable: list[int] = []
    refused, refusal = 0, ""
    for values in zip(*columns, strict=True):
        try:
            rows.append(rowcheck.row(values))
        except ValueError as error:
            refused += 1
            refusal = refusal or f"a row of Wazuh's table of agents is refused: {error}"
            if rowcheck.is_id(values[0]):
                unreadable.append(cast("int", values[0]))
    return Decoded(tuple(rows), tuple(unreadable), refused, refusal)


def together(parts: Sequence[Decoded]) -> Decoded:
    """Several answers as one."""
    if len(parts) == 1:  # as nearly always
        return parts[0]
    return Decoded(
        tuple(row for part in parts for row in part.rows),
        tuple(number for part in parts for number in part.unreadable),
        sum(part.refused for part in parts),
        next((part.refusal for part in parts if part.refusal), ""),
    )


# The probe ----------------------------------------------------------------------------------------------------------


Ranges = tuple[str, ...]
"""What a probe shows of each range, as wazuh-db wrote it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The table without its keepalives."""

    count: int
    id_sum: int
    times: int  # the weighed sum of disconnection_time and date_add
    names: frozenset[int]  # `named`, of those who have not the usual mark
    ranges: Ranges = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Moved:
    """How a table differs from what is known of it."""

    listing: bool = False  # ids came or went
    ids: tuple[int, ...] = ()  # these have another status, code or node_name
    times: bool = False  # a disconnection_time or date_add moved: of some agent, or of one in `ids`


def probed(answers: Sequence[object]) -> tuple[int, Ranges]:
    """(total_changes() of wazuh-db's connection, what is shown) in a probe's answers. The changes are the first one's: what is written
    between two answers shows next time. Raises SourceUnavailable: one of them is no probe."""
    parts = [answer.partition(" ") if isinstance(answer, str) else ("", "", "") for answer in answers]
    try:
        return int(parts[0][0]), tuple(part[2] for part in parts)
    except ValueError:
        raise _no_probe(answers[0]) from None


def parse_probe(ranges: Ranges, usual: Mark) -> Probe:
    """The probe of consecutive ranges. Raises SourceUnavailable: it is none."""
    totals, names = [0, 0, 0], set[int]()
    for text in ranges:
        *sums, listed = text.split(" ")
        try:
            totals = [one + more for one, more in zip(totals, map(int, sums), strict=True)]
            names |= set(map(int, listed.split(","))) if listed else set()
        except ValueError:
            raise _no_probe(text) from None
    count, id_sum, times = totals
    # A code that Wazuh does not know is shown as rowcheck.MAX_CODE, which may be the usual one; an id that no agent can have is nobody's.
    unlike = frozenset(name for name in names if apart(name)[1] != usual and _MARKS <= name < _MARKS * (rowcheck.MAX_ID + 1))
    return Probe(count, id_sum, times, unlike, ranges)


def _no_probe(text: object) -> SourceUnavailable:
    return SourceUnavailable("garbled", f"wazuh-db answered a probe with {rowcheck.shown(text)}; is another program at its socket?")


def moved(old: Probe, new: Probe) -> Moved:
    """What differs."""
    if (old.count, old.id_sum) != (new.count, new.id_sum):
        return Moved(listing=True)
    changed = tuple(sorted({apart(name)[0] for name in old.names ^ new.names}))
    return Moved(ids=changed, times=old.times != new.times)
