"""The doctor: every precondition of the relay on a line, what is wrong, and what to do.

Nothing is changed: the ledger is opened read-only, NATS is asked and told nothing.
"""

import asyncio
import os
from collections.abc import Collection, Iterator
from typing import Any, Final, TextIO

from sqlalchemy.engine import make_url

from shared import config, findings, jetstream, keyring, login, pages, subjects
from shared.errors import ConfigError, Stop, WazuhJetstreamError
from shared.findings import Finding

from . import ledger, provision, session, trust

PROVISION: Final = "run: wazuh-relay provision"


def show(settings: config.Config, out: TextIO, *, as_json: bool) -> int:
    """Print every finding; exit code 1 where one failed."""
    return findings.show(examine(settings), out, as_json=as_json)


def examine(settings: config.Config) -> list[Finding]:
    """Every finding. The configuration itself was read before: a broken one never comes so far."""
    own = [Finding("configuration", "ok", "read"), *_keys(settings)]
    book, position = _ledger(settings)
    asked = asyncio.run(_nats(settings, position))
    return [*own, book, login.transport(settings.nats), *asked, *pages.examine(settings.monitoring, os.environ)]


# Keys ---------------------------------------------------------------------------------------------------------------


def _keys(settings: config.Config) -> Iterator[Finding]:
    own: tuple[str, ...] = ()
    try:
        own = trust.signer(settings).kids
        beside = f", {len(own) - 1} more verify" if len(own) > 1 else ""
        yield Finding("signing key", "ok", f"key id {own[0]}{beside}")
    except ConfigError as error:
        yield Finding("signing key", "fail", str(error))
    yield from _encryption(settings.security)
    try:
        nodes = keyring.read_keyring(config.require(settings.security.keyring_path, "security.keyring_path"))
    except (ConfigError, ValueError) as error:
        yield Finding("keyring", "fail", str(error))
        return
    if not nodes:
        yield Finding("keyring", "fail", "no node in it", "for each manager make a directory named like its node, with its .key file")
    yield from (_node(node, keys.keys(), own, nodes) for node, keys in nodes.items())


def _node(node: str, kids: Collection[str], own: Collection[str], nodes: keyring.Keyring) -> Finding:
    if not set(own).isdisjoint(kids):
        return Finding("keyring", "fail", f"{node} has the relay's own key", "give every manager a key of its own: it could sign events")
    shared = [other for other, keys in nodes.items() if other != node and not keys.keys().isdisjoint(kids)]
    if shared:
        return Finding(
            "keyring", "warn", f"{node} has a key of {shared[0]}", "give every manager a key of its own: one could speak as the other"
        )
    return Finding("keyring", "ok", f"{node}: key ids {', '.join(sorted(kids))}")


def _encryption(security: config.SecurityConfig) -> Iterator[Finding]:
    try:
        keys = trust.own(security, "encryption")
        if security.encrypt_messages:
            config.require(security.encryption_key_path, "security.encryption_key_path")
            yield Finding("encryption", "ok", f"key id {keys[0].key.kid}")
        elif keys:
            yield Finding("encryption", "ok", f"off; {len(keys)} keys decrypt what was encrypted before")
    except ConfigError as error:
        yield Finding("encryption", "fail", str(error))


# Ledger -------------------------------------------------------------------------------------------------------------


def _ledger(settings: config.Config) -> tuple[Finding, int]:
    """The finding, and the position that the ledger has decided RAW up to."""
    url = settings.relay.ledger_url
    missing = _not_made_yet(url)
    if missing is not None:
        return missing, 0
    try:
        book = ledger.Ledger.open(url, read_only=True)
    except WazuhJetstreamError as error:
        return Finding("ledger", "fail", str(error)), 0
    try:
        position, waiting = book.position(), book.outbox_depth()
    except WazuhJetstreamError as error:
        return Finding("ledger", "fail", str(error)), 0
    finally:
        book.close()
    return Finding("ledger", "ok", f"decided up to {position}, {waiting} messages wait to be published"), position


def _not_made_yet(url: str) -> Finding | None:
    """The finding on a SQLite ledger that is not there; None where there is one, or another database."""
    path = make_url(url).database if url.startswith("sqlite") else None
    if path is None or os.path.exists(path):  # noqa: PTH110 -- a name that may be anything
        return None
    directory = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120
    if os.access(directory, os.W_OK | os.X_OK):
        return Finding("ledger", "ok", f"{path} will be made at the first start")
    return Finding("ledger", "fail", f"{directory} cannot be written by this user", f"make it, owned by this user, mode 750: {directory}")


# NATS ---------------------------------------------------------------------------------------------------------------


async def _nats(settings: config.Config, position: int) -> list[Finding]:
    try:
        async with session.connected(settings, "check") as connection:
            found = [Finding("nats", "ok", f"{settings.nats.url} answers")]
            for name, wanted in provision.streams(settings.nats).items():
                found += await _stream(connection, name, wanted, position if name.endswith("_RAW") else 0)
            return [*found, await _consumer(connection, settings)]
    except Stop as error:
        return [Finding("nats", "fail", str(error))]


async def _stream(connection: jetstream.Connection, name: str, wanted: dict[str, Any], position: int) -> list[Finding]:
    try:
        info = await connection.stream_info(name)
    except jetstream.NotStored as error:
        return [Finding("stream", "fail", f"{name}: {error}", PROVISION)]
    except jetstream.Timeout:
        return [Finding("stream", "warn", f"this user may not ask for {name}", f"permit $JS.API.STREAM.INFO.{name} to the relay")]
    last = int(info["state"]["last_seq"])
    if last < position:
        detail = f"{name} ends at {last}, the ledger has decided up to {position}: the stream was made anew"
        return [Finding("stream", "fail", detail, "move the ledger away; it is made anew from RAW and EVENTS")]
    off = provision.differences(wanted, info["config"])
    if off:
        said = ", ".join(f"{d.key} is {d.found!r}, should be {d.wanted!r}" for d in off)
        return [Finding("stream", "warn", f"{name}: {said}", PROVISION)]
    return [Finding("stream", "ok", f"{name}: {info['state']['messages']} messages")]


async def _consumer(connection: jetstream.Connection, settings: config.Config) -> Finding:
    stream, name = subjects.raw_stream(settings.nats.subject_prefix), settings.relay.consumer
    try:
        found = await connection.api(f"CONSUMER.INFO.{stream}.{name}")
    except jetstream.NotStored as error:
        return Finding("consumer", "fail", f"{name} on {stream}: {error}", PROVISION)
    except jetstream.Timeout:
        return Finding(
            "consumer", "warn", f"this user may not ask for {name}", f"permit $JS.API.CONSUMER.INFO.{stream}.{name} to the relay"
        )
    off = provision.differences(provision.consumer(), found["config"])
    if off:
        said = ", ".join(f"{d.key} is {d.found!r}, should be {d.wanted!r}" for d in off)
        return Finding("consumer", "warn", f"{name} on {stream}: {said}", PROVISION)
    return Finding("consumer", "ok", f"{name} on {stream}: {found['num_pending']} messages wait")
