#!/usr/bin/env python3
"""Proves what stands in WAZUH_EVENTS with nothing but Python's standard library and nats-py: every message is signed under your
key, in its order, tied to the one before it, and none is missing up to the newest head that the relay signed.

    pip install nats-py
    python verify_events.py --server nats://127.0.0.1:4222 --key events.key

Prints each fault with its place, then a verdict; exit code 0: proved, 1: not, 2: wrong usage, 75: NATS is not there. It reads and leaves
nothing behind. HMAC-SHA256 only: Ed25519 is not in the standard library, nor is the cipher of encrypted messages. Copy it, change
it: the format is docs/events.md.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import api

GENESIS = "0" * 64
APART = ("wazuh-chain", "wazuh-chain-previous", "wazuh-chain-digest", "wazuh-outbox-sequence", "wazuh-signature", "ce-datacontenttype")
Headers = Mapping[str, str]


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def canonical(fields: Mapping[str, Any]) -> bytes:
    """RFC 8785, for what the relay writes: keys sorted, no spaces, UTF-8."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unsigned(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "signature"}


# Signatures -----------------------------------------------------------------------------------------------------------


def key_id(key: bytes) -> str:
    return sha256(b"wazuh-jetstream key id\0" + key)[:16]


def signed(text: bytes, signature: str, keys: Mapping[str, bytes]) -> bool:
    made = (hmac.digest(key, text, "sha256").hex() for key in keys.values())
    return any(hmac.compare_digest(one.encode(), signature.encode()) for one in made)


def genuine(message: Msg, keys: Mapping[str, bytes]) -> dict[str, Any] | None:
    """What the body says, if both signatures are right: the header's, over subject, body and headers; and each event's own."""
    headers: Headers = message.headers or {}
    covered = {name.lower(): value for name, value in headers.items() if name.lower().startswith(("wazuh-", "ce-"))}
    covered.pop("wazuh-signature", None)
    statement = json.dumps(["wazuh-jetstream/1", message.subject, sha256(message.data), sorted(covered.items())], separators=(",", ":"))
    given = [entry.strip().split(";") for entry in headers.get("Wazuh-Signature", "").split(",")]
    known = [entry for entry in given if len(entry) == 3 and entry[0] == "hmac-sha256" and entry[1] in keys]
    if not any(signed(statement.encode(), entry[2], {entry[1]: keys[entry[1]]}) for entry in known):
        return None
    fields: dict[str, Any] = json.loads(message.data)  # it is the relay's: it can be read
    events = fields.get("events", [fields])
    return fields if all(signed(canonical(unsigned(event)), event["signature"], keys) for event in events) else None


# The chain ------------------------------------------------------------------------------------------------------------


def digest(message: Msg, said: Mapping[str, Any], sequence: int) -> str:
    """What the next message calls this one; `said` in its body."""
    headers: Headers = message.headers or {}
    if "Wazuh-Chain-Digest" in headers:  # it stands for a message that the server refused
        return headers["Wazuh-Chain-Digest"]
    fields = unsigned(said)
    if "events" in fields:
        fields["events"] = [unsigned(event) for event in fields["events"]]
    names = {name: name.lower() for name in headers if name.lower().startswith(("wazuh-", "ce-"))}
    telling = {name: low for name, low in names.items() if low not in APART and not low.startswith("wazuh-encryption")}
    content = sha256("\n".join([sha256(canonical(fields)), *sorted(f"{low}:{headers[name]}" for name, low in telling.items())]))
    chain, previous = headers["Wazuh-Chain"], headers["Wazuh-Chain-Previous"]
    return sha256("\n".join(["wazuh-jetstream-chain/1", chain, str(sequence), previous, message.subject, content]))


class Proof:
    """What was met so far. `heads`: the digests that the relay signed, by chain and sequence."""

    def __init__(self, keys: Mapping[str, bytes], heads: dict[tuple[str, int], str]) -> None:
        self.keys, self.heads = keys, heads
        self.chain, self.previous = "", ""
        self.first = self.last = self.count = self.faults = self.forged = 0
        self.missing: set[int] = set()

    def fault(self, text: str) -> None:
        self.faults += 1
        print(text)

    def take(self, message: Msg) -> None:
        self.count += 1
        headers: Headers = message.headers or {}
        sequence = headers.get("Wazuh-Outbox-Sequence", "")
        place = f"message {message.metadata.sequence.stream} (outbox sequence {sequence}, {headers.get('ce-id')!a})"
        said = genuine(message, self.keys)
        if said is None:
            self.forged += 1
            self.fault(f"forged: {place}: changed, put in by somebody, or under another key")
        elif "Wazuh-Chain" in headers:
            self.place(message, headers, said, int(sequence), place)
        elif self.chain:
            self.fault(f"out of the chain: {place}")

    def place(self, message: Msg, headers: Headers, said: Mapping[str, Any], sequence: int, place: str) -> None:
        forged, self.forged = self.forged, 0
        if headers["Wazuh-Chain"] != self.chain:
            if self.chain:
                self.fault(f"of another chain: {place}")
            self.chain, self.first, self.last, self.previous = headers["Wazuh-Chain"], sequence, sequence - 1, ""
        if sequence <= self.last:
            self.fault(f"{'out of its place' if sequence in self.missing else 'a second time'}: {place}")
            self.missing.discard(sequence)
            return
        if sequence == self.last + 1 and self.previous not in ("", headers["Wazuh-Chain-Previous"]) and not forged:
            self.fault(f"not tied to the message before it: {place}")
        if sequence - self.last - 1 > forged:
            self.fault(f"missing, or out of their place: outbox sequences {self.last + 1} to {sequence - 1}, before {place}")
            self.missing.update(range(self.last + 1, sequence))
        self.last, self.previous = sequence, digest(message, said, sequence)
        if self.heads.pop((self.chain, sequence), self.previous) != self.previous:
            self.fault(f"a signed head tells another digest: {place}")

    def end(self) -> bool:
        """Whether all is proved."""
        told = max((sequence for chain, sequence in self.heads if chain == self.chain or not self.chain), default=0)
        if told > self.last + self.forged:
            self.fault(f"the end is missing: the chain went on to outbox sequence {told}, and the stream ends with {self.last}")
        words = "NOT PROVED" if self.faults else "PROVED"
        print(f"{words}: {self.count} messages, outbox sequences {self.first} to {self.last} of chain {self.chain}, {self.faults} faults")
        return not self.faults


# NATS -----------------------------------------------------------------------------------------------------------------


async def read(stream: str, jetstream: nats.js.JetStreamContext) -> AsyncIterator[Msg]:
    """All that a stream holds now, in its order."""
    state = (await jetstream.stream_info(stream)).state
    if state.messages == 0:
        return
    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, deliver_policy=api.DeliverPolicy.ALL, inactive_threshold=60)
    subscription = await jetstream.pull_subscribe("", stream=stream, config=config)
    while True:
        for message in await subscription.fetch(1000, timeout=10):
            yield message
            if message.metadata.sequence.stream >= state.last_seq or message.metadata.num_pending == 0:
                await jetstream.delete_consumer(stream, (await subscription.consumer_info()).name)
                return


async def heads(prefix: str, jetstream: nats.js.JetStreamContext, keys: Mapping[str, bytes]) -> dict[tuple[str, int], str]:
    """How far the relay said, and signed, that the chain has come."""
    found: dict[tuple[str, int], str] = {}
    for stream in (f"{prefix}_CHECKPOINTS", f"{prefix}_HEARTBEATS"):
        async for message in read(stream, jetstream):
            fields = genuine(message, keys)
            if fields is not None:
                head = fields.get("head") if stream.endswith("_HEARTBEATS") else fields
                if head:
                    found[head["chain"], head["sequence"]] = head["digest"]
    return found


async def main(options: argparse.Namespace) -> int:
    keys = [bytes.fromhex(path.read_text()) for path in options.key]
    stream = options.prefix.replace(".", "_").upper()
    try:
        client = await nats.connect(options.server, user_credentials=options.creds, max_reconnect_attempts=2)
    except (OSError, nats.errors.Error) as error:
        print(f"no connection to {options.server}: {error}", file=sys.stderr)
        return 75
    try:
        jetstream = client.jetstream()
        by_id = {key_id(key): key for key in keys}
        proof = Proof(by_id, await heads(stream, jetstream, by_id))  # before the events: what they tell of is there then
        async for message in read(f"{stream}_EVENTS", jetstream):
            proof.take(message)
        return 0 if proof.end() else 1
    except (nats.errors.Error, nats.js.errors.Error) as error:
        print(f"{options.server} does not give what is asked for: {error!r}", file=sys.stderr)
        return 75
    finally:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Proves what stands in WAZUH_EVENTS.")
    parser.add_argument("--server", default="nats://127.0.0.1:4222", help="NATS, where the events are")
    parser.add_argument(
        "--key", type=Path, action="append", required=True, help="a file with the relay's key, 64 hex digits; several times"
    )
    parser.add_argument("--prefix", default="wazuh", help="nats.subject_prefix")
    parser.add_argument("--creds", help="a NATS credentials file")
    sys.exit(asyncio.run(main(parser.parse_args())))
