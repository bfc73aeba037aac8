"""The ledger's tables as this program uses them; `relay.migrations` makes them, and a test holds the two together.

Rules
 * SQLAlchemy Core, and types that SQLite and PostgreSQL both have. JSON is text.
 * Positions, sequences and Wazuh's numbers are 64 bits wide. SQLite's INTEGER is; only that name makes a primary key its rowid.
 * Text that came from outside goes through `relay.stored.plain`: neither database holds every Python string.
 * Times are Unix milliseconds by the stream's clock where a comment does not say otherwise.

The tables `agents` and `history` are made to be read by people with SQL.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA: Final = MetaData()

_BIG: Final = BigInteger().with_variant(Integer(), "sqlite")

MIGRATIONS: Final = Table(
    "migrations",
    METADATA,
    Column("number", _BIG, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)

META: Final = Table(  # one row, whose id is 1
    "meta",
    METADATA,
    Column("id", _BIG, primary_key=True, autoincrement=False),
    Column("position", _BIG, nullable=False),  # RAW sequence up to which everything is decided; 0: nothing yet
    Column("outbox_sequence", _BIG, nullable=False),  # the last one given out, never again
    Column("sent_through", _BIG, nullable=False),  # all up to and including it are in EVENTS
    Column("began_at", _BIG),  # this and what follows are the fleet's own
    Column("heard_at", _BIG),
    Column("settled", Boolean, nullable=False),
    Column("chain", Text, nullable=False),  # empty: none has begun
    Column("chain_digest", Text, nullable=False),  # of the message whose sequence is the greater of outbox_sequence and sent_through
)

LEASE: Final = Table(  # one row, whose id is 1
    "lease",
    METADATA,
    Column("id", _BIG, primary_key=True, autoincrement=False),
    Column("epoch", _BIG, nullable=False),  # one more with each relay that takes it
    Column("holder", Text, nullable=False),  # for people; empty: nobody
    Column("until", _BIG, nullable=False),  # by the database's clock
)

NODES: Final = Table(
    "nodes",
    METADATA,
    Column("number", _BIG, primary_key=True, autoincrement=False),  # in the order in which they were first heard
    Column("node", Text, nullable=False),
    Column("facts", Text, nullable=False),  # fleet.Node as JSON
)

QUIET: Final = Table(  # apart from `nodes`, whose rows are written with every message
    "quiet",
    METADATA,
    Column("node_number", _BIG, primary_key=True, autoincrement=False),
    Column("quiet", LargeBinary, nullable=False),  # stored.Quiet as msgpack
)

SNAPSHOTS: Final = Table(  # folded in the order of their positions they give a node's rows and keys
    "snapshots",
    METADATA,
    Column("node_number", _BIG, primary_key=True, autoincrement=False),
    Column("position", _BIG, primary_key=True, autoincrement=False),
    Column("now", _BIG, nullable=False),
    Column("sent_at", _BIG, nullable=False),  # by the node's clock
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

AGENTS: Final = Table(
    "agents",
    METADATA,
    Column("agent_id", _BIG, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("date_add", _BIG, nullable=False),  # Unix seconds
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", _BIG, nullable=False),  # Unix seconds
    Column("ip", Text),
    Column("last_keepalive", _BIG),  # Unix seconds
    Column("manager_node", Text, nullable=False),
    Column("witness", Text),
    Column("contact", _BIG),  # Unix seconds
    Column("last_event_id", Text, nullable=False),
    Column("hold_kind", Text),
    Column("hold_since", _BIG),
    Column("hold_until", _BIG),
    Column("hold_began", _BIG),
    Column("mirrored", Boolean, nullable=False),
    Column("moving_node", Text),
    Column("moving_since", _BIG),
    Column("moving_at", _BIG),  # Unix seconds
    Column("overdue", _BIG),  # Unix seconds
    Column("refused", Boolean, nullable=False),
    Column("refused_by", Text),
    Column("refused_at", _BIG),
    Column("went_at", _BIG),  # Unix seconds
)

GHOSTS: Final = Table(
    "ghosts",
    METADATA,
    Column("agent_id", _BIG, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("date_add", _BIG, nullable=False),  # Unix seconds
    Column("since", _BIG, nullable=False),
    Column("until", _BIG, nullable=False),
    Column("last_event_id", Text, nullable=False),
    Column("told", Boolean, nullable=False),
)

MANAGERS: Final = Table(
    "managers",
    METADATA,
    Column("node", Text, primary_key=True),
    Column("reset_at", _BIG, nullable=False),  # Unix seconds
    Column("unreachable", Boolean, nullable=False),
    Column("clock_off", Boolean, nullable=False),
    Column("twin_at", _BIG, nullable=False),
    Column("last_event_id", Text, nullable=False),
)

HISTORY: Final = Table(
    "history",
    METADATA,
    Column("number", _BIG, primary_key=True),
    Column("position", _BIG, nullable=False),
    Column("now", _BIG, nullable=False),
    Column("muted", Boolean, nullable=False),  # decided again, not published again
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("agent_id", _BIG, nullable=False),
    Column("agent_name", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("current", Text, nullable=False),
    Column("ip", Text),
    Column("last_keepalive", _BIG),  # Unix seconds
    Column("manager_node", Text, nullable=False),
    Column("timestamp", _BIG, nullable=False),  # Unix seconds
    Column("event_id", Text, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("left_manager", Text),
    Index("history_agent_id", "agent_id", "number"),
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("sequence", _BIG, primary_key=True, autoincrement=False),
    Column("position", _BIG, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("headers", Text, nullable=False),  # JSON
    Column("body", LargeBinary, nullable=False),
    Column("chain", Text, nullable=False),  # empty: decided before there was one
    Column("previous", Text, nullable=False),
)

QUARANTINE: Final = Table(
    "quarantine",
    METADATA,
    Column("number", _BIG, primary_key=True),
    Column("position", _BIG, nullable=False),
    Column("now", _BIG, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("headers", Text, nullable=False),  # JSON
    Column("payload", LargeBinary, nullable=False),
)
