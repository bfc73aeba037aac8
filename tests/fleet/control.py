"""Commands the fleet of docker-compose.yml, from inside its container:

    docker compose exec managers python3 tests/fleet/control.py stop 3
    docker compose exec managers python3 tests/fleet/control.py move 3 worker1 false

Commands are those of `tests/world/model.py`: start, stop, die, move, register, remove, restart_remoted …; `agents` and `now` ask.
Without a command it passes on lines of JSON, from stdin to the fleet and back.
"""

import contextlib
import json
import socket
import sys
from io import BufferedRWPair
from typing import Final

SOCKET: Final = "/tmp/fleet.sock"  # in the container, whose /tmp is its own
PATIENCE: Final = 10.0  # seconds


def main(arguments: list[str]) -> int:
    """0, or 1 where the fleet refused."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(SOCKET)
        with connection.makefile("rwb") as stream:
            if not arguments:
                for line in sys.stdin.buffer:
                    sys.stdout.buffer.write(_ask(stream, line))
                    sys.stdout.buffer.flush()
                return 0
            request = {"do": arguments[0], "with": [_value(text) for text in arguments[1:]]}
            answer = json.loads(_ask(stream, json.dumps(request).encode() + b"\n"))
    print(answer.get("error") or json.dumps(answer.get("answer")))
    return int("error" in answer)


def _ask(stream: BufferedRWPair, line: bytes) -> bytes:
    stream.write(line)
    stream.flush()
    return stream.readline()


def _value(text: str) -> object:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
