"""What the names of a message's headers decide alone, worked out once for all messages that have the same: nearly all have. Pure.

A proof needs what headers say twice, in two forms and two orders: as the header's signature covers it (`sealing.statement` of
`events.covered`), and as the chain does (`chain.content`). A law holds both forms to these.
"""

from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from shared import sealing

from . import chain, events

KEPT: Final = 4096  # characters of all names together: what is longer is none of ours, and not worth remembering


class Layout:
    """Where things stand among headers of these names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        covered = {lower: name for name in names if (lower := events.covered_name(name))}
        self.encrypted = events.H_ENCRYPTION.lower() in covered
        self._signed = [(f"[{quoted(lower)},", covered[lower]) for lower in sorted(covered)]
        self._signed_end = "]]]" if covered else "]]"
        self._chained = sorted((f"{lower}:", name) for name in names if (lower := chain.telling(name)))

    def statement(self, subject: str, body: str, headers: Mapping[str, str]) -> bytes:
        """What the header's signature is over; `body` is the SHA-256 of the body as sent, in hex."""
        pairs = "],".join([begin + quoted(headers[name]) for begin, name in self._signed])
        return f'["{sealing.STATEMENT_VERSION}",{quoted(subject)},"{body}",[{pairs}{self._signed_end}'.encode()

    def content(self, body: str, headers: Mapping[str, str]) -> str:
        """What the message says, as the chain covers it; `body` is the SHA-256 of the body without its signatures, in hex."""
        told = sorted([begin + headers[name] for begin, name in self._chained])  # in order already, unless names differ in case alone
        return chain.sha256("\n".join((body, *told)).encode("utf-8", "surrogatepass"))


def of(headers: Mapping[str, str]) -> Layout:
    """The layout of a message's headers."""
    names = tuple(headers)
    return _kept(names) if sum(map(len, names)) <= KEPT else Layout(names)


_kept: Final = lru_cache(maxsize=64)(Layout)
