"""Every kind of fault, by the name that `--faults` and the numbers call it."""

from typing import Final

from tests.soak import breaking, killing, rotating, spoiling
from tests.soak.fault import Fault

KINDS: Final[dict[str, type[Fault]]] = {
    kind.name: kind
    for kind in (
        killing.KillCollector, killing.KillRelay, killing.KillNats, killing.KillWazuhDb, killing.KillPostgresql,
        killing.PauseCollector, killing.PauseRelay, killing.PauseNats, killing.PauseWazuhDb, killing.Terminate,
        killing.Crash, killing.HotJournal, killing.EmptyDb,
        breaking.CutLink, breaking.HalfOpen, breaking.DropPubAck, breaking.Password,
        breaking.ConsumerDeleted, breaking.ConsumerReset, breaking.ServerDiskFull,
        rotating.RotateRelayKey, rotating.RotateEncryptionKey, rotating.RotateNodeKey,
        spoiling.SpoolFull, spoiling.SpoolDiskFull, spoiling.ClockBack,
    )
}  # fmt: skip
