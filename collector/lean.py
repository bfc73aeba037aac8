"""Starts the service in the memory that it needs: the same process, begun anew without what only its beginning needed.

pydantic and YAML read the configuration, once, and would stay for 12 MB (measured, Python 3.11): a quarter of what the
collector may take on somebody's busiest security server. So the checked values go through a pipe to `python -m
collector.lean`, which takes this process' place (same process id) and imports neither.

Holds as long as nothing that `collector.run` imports needs `shared.config` for more than names of types.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from shared import config as configs

_PATH: Final = "\0path"  # marks a path among the JSON values; no text of a configuration begins so


def run(config: "configs.Config") -> int:
    """Become the service; does not return. (The type is that of `collector.run.run`, whose place this takes.)"""
    reading, writing = os.pipe()
    os.write(writing, dump(config).encode())  # a few KB: a pipe holds 64 KiB
    os.close(writing)
    os.set_inheritable(reading, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a folder named `collector` where we were started must not be taken for us.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "collector.lean", str(reading)])  # noqa: S606 -- ourselves


def dump(config: "configs.Config") -> str:
    """The values of a configuration as JSON."""
    return json.dumps(config.model_dump(), default=lambda path: {_PATH: str(path)})


def load(text: str) -> "configs.Config":
    """What `dump` wrote: an object with the same attributes, and no more."""

    def plain(fields: dict[str, Any]) -> object:
        return Path(fields[_PATH]) if _PATH in fields else SimpleNamespace(**fields)

    return cast("configs.Config", json.loads(text, object_hook=plain))


def main() -> int:
    """The service, with the configuration from the pipe that the first argument names."""
    from shared import cli

    from . import run as service

    with open(int(sys.argv[1])) as pipe:  # noqa: PTH123 -- a descriptor
        config = load(pipe.read())
    return cli.run(lambda: service.run(config), "wazuh-collector")


if __name__ == "__main__":
    sys.exit(main())
