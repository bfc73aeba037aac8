"""A seeded mutator: bytes in, bytes a little or very different out. The same seed gives the same inputs."""

import random
from collections.abc import Sequence

TOKENS = (
    *(b"\0", b"\n", b"\r\n", b" ", b"\x1b[2J", b"{", b"}", b"[" * 200, b'"', b"\\u0000", b"\\ud800", b"null", b"true", b"-1", b"1e999"),
    *(b"9" * 30, b"\xff", b"\xc0\x80", b"\xf0\x9f\x98\x80" * 64, b"\xe2\x80\xae", b"A" * 5000, b",", b";", b":", b"..", b"%00", b"%", b"*"),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd4\x00\x00"),
    *(b"<", b">", b"</", b"<!--", b"-->", b"&lt;", b"&a *a", b"!!python/object:os.system"),
)
"""What parsers stumble over."""

MAX_BYTES = 64 * 1024


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One of the seeds after one to six steps."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _step(data, seeds, chance)
    return bytes(data[:MAX_BYTES])


def _step(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((1, 1, 2, 4, 8, 64)))
    match chance.randrange(8):
        case 0:
            data[start:end] = chance.randbytes(end - start)
        case 1:
            data[start:start] = chance.randbytes(chance.choice((1, 2, 4, 16)))
        case 2:
            del data[start:end]
        case 3 if start < len(data):
            data[start] ^= 1 << chance.randrange(8)
        case 4:
            data[start:end] = chance.choice(TOKENS)
        case 5:
            del data[start:]
        case 6:
            data[start:start] = data[start:end] * chance.choice((1, 2, 50))
        case _:
            other = chance.choice(seeds)
            cut = chance.randrange(len(other) + 1)
            data[start:end] = other[cut : cut + chance.choice((1, 8, 64, 1000))]
