"""Faults that are none: a key is changed while everything runs, and nothing may come of it."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import ClassVar

from relay import rotate
from shared import keygen, keywatch
from tests.soak.fault import Fault, collectors, node_of
from tests.soak.stage import Stage

READ_S = keywatch.LOOK_S + 1.0  # by then every service that runs has looked


class RotateRelayKey(Fault):
    name = "rotate-relay-key"
    help = "one step of `wazuh-relay keys rotate`: the next key is made, or switched to, or the one before is retired"
    lasts = (READ_S, READ_S)
    use: ClassVar[rotate.Own] = "signing"

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return ["signing-key"]

    async def play(self, stage: Stage) -> None:
        rotate.rotate(stage.security, self.use, None, 0, at_once=True)
        await asyncio.sleep(self.seconds)


class RotateEncryptionKey(RotateRelayKey):
    name = "rotate-encryption-key"
    help = "the same with the key that the relays encrypt under (--encrypt)"
    use = "encryption"

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return ["encryption-key"] if stage.plan.encrypted else []


class RotateNodeKey(Fault):
    name = "rotate-node-key"
    help = "a node's key is changed: the relay holds the next one, the collector switches to it, both stay valid"
    lasts = (READ_S, READ_S)
    targets = staticmethod(collectors)

    async def play(self, stage: Stage) -> None:
        directory = stage.directory / "keyring" / node_of(self.target)
        current, following = directory / "current.key", directory / "next.key"
        following.unlink(missing_ok=True)
        keygen.create(following, keygen.secret_text("hmac-sha256"))
        await asyncio.sleep(self.seconds)
        keygen.put(directory / f"old-{secrets.token_hex(4)}.key", current.read_bytes())
        keygen.put(current, following.read_bytes())
        following.unlink()
