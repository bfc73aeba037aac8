"""One look at this node, printed: what the collector would say, without NATS.

Every field of the raw snapshot is shown; there is no key in it.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Final, TextIO

from shared import cli, logs, subjects, wire
from shared.clock import Clock
from shared.config import Config
from shared.models import DIGEST_MODULUS, AgentRow, row_digest

from . import clientkeys, ossecconf, sources

_FOREVER: Final = 253_402_300_799  # s; a date beyond year 9999 cannot be shown as one


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot and what was refused on the way to it."""

    snapshot: wire.Snapshot
    refused_rows: int
    refusal: str  # one sentence about the first of them
    bad_key_lines: int
    keys_error: str  # one sentence where client.keys could not be read


def take(config: Config, clock: Clock) -> wire.Snapshot:
    """One full snapshot. Raises SourceUnavailable; ConfigError where Wazuh's configuration cannot be read."""
    return look(config, clock).snapshot


def look(config: Config, clock: Clock) -> Look:
    """One full snapshot and what was refused. Raises as `take`."""
    identity = ossecconf.read(config.wazuh.config_path)
    keys_file = clientkeys.KeysFile(config.wazuh.client_keys_path)
    keys = keys_file.read_if_changed() or clientkeys.Keys((), 0)
    source = sources.open_source(config, clock, identity.node_name)
    try:
        taken_at, reading = clock.now_ms(), source.read()
    finally:
        source.close()
    snapshot = wire.Snapshot(
        cluster=identity.cluster,
        node=config.wazuh.manager_node or identity.node_name,
        node_name=identity.node_name,
        node_type=identity.node_type,
        boot=0,
        seq=1,
        kind="full",
        taken_at=taken_at,
        as_of=reading.as_of,
        late=0,
        source=source.kind,
        source_state="ok",
        source_error="",
        db_version=reading.db_version,
        rows=reading.rows,
        gone=(),
        keys=keys.entries,
        keys_gone=(),
        keys_state=keys_file.state,
        quiet=None,
        period=0,
        count=len(reading.rows),
        digest=sum(map(row_digest, reading.rows)) % DIGEST_MODULUS,
        gap=False,
    )
    return Look(snapshot, reading.refused, reading.refusal, keys.bad_lines, keys_file.error)


def show(config: Config, clock: Clock, *, as_json: bool, out: TextIO) -> int:
    """Print one look; exit code 0. Raises as `take`."""
    found = look(config, clock)
    if as_json:
        cli.print_json(_document(found), out)
    else:
        _print_tables(found, out)
    for complaint in _complaints(found):
        sys.stderr.write(f"{complaint}\n")
    return 0


def _document(found: Look) -> dict[str, object]:
    counts = {field.name: getattr(found, field.name) for field in fields(found)[1:]}
    listed = {name: [one._asdict() for one in getattr(found.snapshot, name)] for name in ("rows", "keys")}
    return asdict(found.snapshot) | listed | counts


def _complaints(found: Look) -> Iterable[str]:
    if found.refused_rows:
        yield f"rows refused: {found.refused_rows} of {found.refused_rows + found.snapshot.count}; the first: {found.refusal}"
    if found.bad_key_lines:
        yield f"broken lines in client.keys, which Wazuh would not accept: {found.bad_key_lines}"
    if found.keys_error:
        yield found.keys_error


def _print_tables(found: Look, out: TextIO) -> None:
    snapshot = found.snapshot
    summary = (
        ("node", f"{snapshot.node} ({snapshot.node_type}, node_name {snapshot.node_name}, cluster {snapshot.cluster})"),
        ("source", f"{snapshot.source}, database version {snapshot.db_version}, as of {_date(snapshot.as_of // 1000)}"),
        ("agents", _counts(snapshot.rows)),
        (
            "client.keys",
            f"{snapshot.keys_state}, {len(snapshot.keys)} entries, {sum(key.removed for key in snapshot.keys)} of them removed",
        ),
    )
    out.writelines(f"{name + ':':<13}{logs.printable(value)}\n" for name, value in summary)
    out.write("\n")
    headers = ("ID", "NAME", "IP", "STATUS", "CODE", "DISCONNECTED", "LAST KEEPALIVE", "REGISTERED", "NODE")
    cli.print_table(headers, [_cells(row) for row in snapshot.rows], out)


def _counts(agents: Sequence[AgentRow]) -> str:
    statuses = [row.status for row in agents]
    return ", ".join([f"{len(agents)} in all", *(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))])


def _cells(row: AgentRow) -> Sequence[object]:
    dates = (_date(row.disconnection_time or None), _date(row.last_keepalive), _date(row.date_add or None))
    return (subjects.agent_id(row.id), row.name, row.ip, row.status, row.code, *dates, row.node_name)


def _date(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(min(seconds, _FOREVER), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
