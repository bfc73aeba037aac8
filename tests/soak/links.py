"""The chain of EVENTS as docs/events.md has it, checked with the standard library alone."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

GENESIS: Final = "0" * 64
_APART: Final = frozenset(
    ("wazuh-signature", "wazuh-outbox-sequence", "wazuh-chain", "wazuh-chain-previous", "wazuh-chain-digest", "ce-datacontenttype")
)


class Links:
    """One stream's chain, read from its beginning."""

    def __init__(self) -> None:
        self._chain = ""
        self._before: str | None = GENESIS  # the digest of the message before; None: that one is not there, or not genuine

    def take(self, subject: str, headers: Mapping[str, str], fields: Mapping[str, Any], *, follows: bool) -> str:
        """What is wrong with a genuine message's place; empty where nothing is. `follows`: its sequence is the next one."""
        chain, previous = headers.get("Wazuh-Chain", ""), headers.get("Wazuh-Chain-Previous", "")
        before, self._before = self._before if follows else None, digest(subject, headers, fields)
        self._chain = self._chain or chain
        if not chain:
            return "has no place in the chain"
        if chain != self._chain:
            return f"is of chain {chain}, not of {self._chain}"
        return "" if before in (None, previous) else "is not tied to the message before it"

    def lose(self) -> None:
        """What stands here is not genuine."""
        self._before = None


def digest(subject: str, headers: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    """A message's digest, which the next one tells."""
    if "Wazuh-Chain-Digest" in headers:
        return headers["Wazuh-Chain-Digest"]
    told = _unsigned(fields)
    if isinstance(told.get("events"), list):
        told["events"] = [_unsigned(event) for event in told["events"]]
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    names = {name: name.lower() for name in headers if name.lower().startswith(("wazuh-", "ce-"))}
    said = sorted(f"{low}:{headers[name]}" for name, low in names.items() if low not in _APART and not low.startswith("wazuh-encryption"))
    content = _sha256(_sha256(body), *said)
    place = (headers.get("Wazuh-Chain", ""), headers.get("Wazuh-Outbox-Sequence", ""), headers.get("Wazuh-Chain-Previous", ""))
    return _sha256("wazuh-jetstream-chain/1", *place, subject, content)


def _unsigned(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "signature"}


def _sha256(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
