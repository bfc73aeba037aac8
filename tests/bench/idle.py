"""The floor of memory: an asyncio process with nats-py, connected and idle.

python tests/bench/idle.py --url tls://… [--authority tls.pem]
"""

import argparse
import asyncio
import ssl

import nats


async def work(url: str, authority: str | None) -> None:
    """Connect, say so, and wait for the end."""
    tls = {} if authority is None else {"tls": ssl.create_default_context(cafile=authority)}
    await nats.connect(url, **tls)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--authority")
    arguments = parser.parse_args()
    asyncio.run(work(arguments.url, arguments.authority))


if __name__ == "__main__":
    main()
