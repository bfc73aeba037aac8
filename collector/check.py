"""The doctor: every precondition of the collector on a line, what is wrong, and what to do.

Nothing is changed: the spool is opened by nobody, NATS is asked and told nothing, Wazuh is read once.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TextIO

from shared import findings, keyring, pages, subjects
from shared.clock import Clock
from shared.config import Config, WazuhConfig, require
from shared.errors import ConfigError, SourceUnavailable, WazuhJetstreamError
from shared.findings import Finding, State

from . import clientkeys, files, globaldb, ossecconf, rows, wdb

NATS_TIMEOUT: Final = 5.0  # seconds
_OPTIONS: Final = "etc/local_internal_options.conf"
_MAX_OPTIONS: Final = 1 << 20  # bytes
_COMMIT_TIME: Final = re.compile(rb"^[ \t]*wazuh_db\.commit_time_max[ \t]*=[ \t]*([0-9]{1,9})", re.MULTILINE)
_COMMIT_TIME_DEFAULT: Final = 60  # s: wazuh/wazuh etc/internal_options.conf
_COMMIT_TIME_GOOD: Final = 5  # s: above it a disconnection is told late, and a busy database is locked for long


NatsProbe = Callable[[Config], Awaitable[list[Finding]]]
"""Asks NATS; raises nothing."""


def show(config: Config, clock: Clock, *, as_json: bool, out: TextIO) -> int:
    """Print every finding; exit code 1 where one failed."""
    return findings.show(examine(config, clock, ask_nats), out, as_json=as_json)


def examine(config: Config, clock: Clock, nats: NatsProbe) -> list[Finding]:
    """Every finding. The configuration itself was read before: a broken one never comes so far."""
    own = [Finding("configuration", "ok", "read"), *_wazuh(config, clock), _spool(config), _signing_key(config), _transport(config)]
    return [*own, *asyncio.run(_bounded(nats, config)), *pages.examine(config.monitoring, os.environ)]


async def _bounded(nats: NatsProbe, config: Config) -> list[Finding]:
    try:
        async with asyncio.timeout(2 * NATS_TIMEOUT):
            return list(await nats(config))
    except TimeoutError:
        return [Finding("nats", "fail", f"{config.nats.url} did not answer", "see whether the server runs, and nats.url")]


# Wazuh --------------------------------------------------------------------------------------------------------------


def _wazuh(config: Config, clock: Clock) -> Iterator[Finding]:
    yield _identity(config)
    yield _user(config.wazuh.db_path.parent)
    in_use = config.wazuh.source == "file"
    if not in_use:
        socket = _socket(config, clock)
        in_use = config.wazuh.source == "auto" and socket.state != "ok"
        yield socket
    yield from _database(config, clock, in_use=in_use)
    yield _client_keys(config)


def _identity(config: Config) -> Finding:
    try:
        identity = ossecconf.read(config.wazuh.config_path)
    except ConfigError as error:
        return Finding("node", "fail", str(error), "set wazuh.home to where Wazuh is installed")
    name = config.wazuh.manager_node or identity.node_name
    return Finding("node", "ok", f"{name}: {identity.node_type} {identity.node_name} of cluster {identity.cluster}", "")


def _user(directory: Path) -> Finding:
    """Wazuh's files belong to its group, which is all the collector needs."""
    if os.geteuid() == 0:
        return Finding("user", "warn", "runs as root", "a user of its own in the group wazuh (5.0: wazuh-manager) is enough")
    try:
        group = directory.stat().st_gid
    except OSError as error:
        return Finding("user", "warn", f"the group of {directory} cannot be seen ({error.strerror})", "see `database` below")
    if group in {os.getegid(), *os.getgroups()}:
        return Finding("user", "ok", "in the group of Wazuh's database", "")
    return Finding("user", "warn", f"not in group {group}, which owns {directory}", "usermod --append --groups wazuh USER, and start again")


def _socket(config: Config, clock: Clock) -> Finding:
    database = wdb.Wdb(config.wazuh.socket_path, clock, config.collector.request_timeout)
    try:
        database.select(rows.TOTAL_CHANGES)
    except SourceUnavailable as error:
        state: State = "fail" if config.wazuh.source == "socket" else "warn"
        return Finding("socket", state, str(error), "" if state == "fail" else "until then the file is read, which is behind")
    finally:
        database.close()
    return Finding("socket", "ok", f"{config.wazuh.socket_path} answers", "")


def _database(config: Config, clock: Clock, *, in_use: bool) -> Iterator[Finding]:
    path = config.wazuh.db_path
    source = globaldb.FileSource(path, clock, config.wazuh.poll_interval)
    locked = False
    try:
        reading = source.read()
    except SourceUnavailable as error:
        locked = error.state == "locked"
        yield Finding("database", "fail" if in_use else "warn", str(error), "" if in_use else "the socket is used; nothing depends on this")
    else:
        count = f"{len(reading.rows)} agents, database version {reading.db_version}"
        refused = f"; {reading.refused} rows refused, the first: {reading.refusal}" if reading.refused else ""
        yield Finding("database", "warn" if refused else "ok", f"{path}: {count}{refused}", "")
    finally:
        source.close()
    if in_use or locked:
        yield _commit_time(config.wazuh.home / _OPTIONS)


def _commit_time(path: Path) -> Finding:
    seconds = _commit_seconds(path)
    if seconds <= _COMMIT_TIME_GOOD:
        return Finding("commit time", "ok", f"wazuh-db commits at least every {seconds + 1} s", "")
    remedy = f"set wazuh_db.commit_time_max=2 in {path} and restart the manager"
    return Finding("commit time", "warn", f"wazuh-db commits about every {seconds + 1} s: the file is that far behind", remedy)


def _commit_seconds(path: Path) -> int:
    """wazuh_db.commit_time_max as the administrator set it; the default where the file cannot be read."""
    try:
        with open(files.open_regular(path), "rb") as file:  # noqa: PTH123 -- a descriptor
            found = _COMMIT_TIME.findall(files.read(file.fileno(), _MAX_OPTIONS))
    except OSError:
        return _COMMIT_TIME_DEFAULT
    return int(found[-1]) if found else _COMMIT_TIME_DEFAULT


def _client_keys(config: Config) -> Finding:
    file = clientkeys.KeysFile(config.wazuh.client_keys_path)
    keys = file.read_if_changed()
    if keys is None:
        return Finding("client.keys", "fail", file.error, "")
    removed = sum(entry.removed for entry in keys.entries)
    found = f"{len(keys.entries) - removed} agents registered, {removed} removed"
    if keys.bad_lines:
        return Finding(
            "client.keys", "warn", f"{found}, broken lines: {keys.bad_lines}", f"repair {config.wazuh.client_keys_path}: ID NAME IP KEY"
        )
    return Finding("client.keys", "ok", found, "")


# This program -------------------------------------------------------------------------------------------------------


def _spool(config: Config) -> Finding:
    path = config.collector.spool_path
    writable = os.access(f"{path.parent}/.", os.W_OK | os.X_OK) and (not os.path.lexists(path) or os.access(path, os.R_OK | os.W_OK))
    if not writable:
        remedy = f"make {path.parent} a directory that this user may write, or set collector.spool_path"
        return Finding("spool", "fail", f"{path} cannot be written by this user", remedy)
    return Finding("spool", "ok", f"{path} can be written", "")


def _signing_key(config: Config) -> Finding:
    try:
        key = keyring.read_key(require(config.security.signing_key_path, "security.signing_key_path"))
    except ConfigError as error:
        return Finding("signing key", "fail", str(error), "")
    return Finding("signing key", "ok", f"key id {key.kid}", "")


# NATS ---------------------------------------------------------------------------------------------------------------


def _transport(config: Config) -> Finding:
    from shared import login  # with it comes nats-py

    return login.transport(config.nats)


async def ask_nats(config: Config) -> list[Finding]:
    """A NatsProbe over a real connection."""
    from shared import jetstream  # not before it is needed: `snapshot` and tests go without

    told: list[str] = []
    connection = jetstream.Connection(config.nats, "check", lambda _, detail: told.append(detail), role=_role(config.wazuh))
    try:
        await connection.start()
        async with asyncio.timeout(NATS_TIMEOUT):
            await connection.client()
    except (TimeoutError, WazuhJetstreamError) as error:
        why = str(error) or (told[-1] if told else f"no answer within {NATS_TIMEOUT:g} s")
        await connection.close()
        return [Finding("nats", "fail", f"{config.nats.url}: {why}", "see whether the server runs; set nats.url and nats.credentials_file")]
    reached = Finding("nats", "ok", f"{config.nats.url} answers", "")
    stream = subjects.raw_stream(config.nats.subject_prefix)
    try:
        await connection.stream_info(stream)
    except WazuhJetstreamError as error:
        return [reached, _no_stream(stream, error, told)]
    finally:
        await connection.close()
    return [reached, Finding("stream", "ok", f"{stream} is there")]


def _role(wazuh: WazuhConfig) -> str:
    """As `run` has it, so that one user is enough for both."""
    try:
        return f"collector-{wazuh.manager_node or ossecconf.read(wazuh.config_path).node_name}"
    except ConfigError:
        return "collector"


def _no_stream(stream: str, error: WazuhJetstreamError, told: list[str]) -> Finding:
    if any("permissions violation" in detail.lower() for detail in told):
        return Finding("stream", "warn", f"this user may not ask for {stream}, which it need not", "run `wazuh-relay check`, which may")
    return Finding("stream", "fail", f"{stream}: {error}", "make the streams: wazuh-relay provision")
