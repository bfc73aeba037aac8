"""What both commands do alike: options, exit codes, and output that no hostile name can bend.

Exit codes: 0 done, 1 a check failed, 2 wrong usage (argparse), 78 configuration (`shared.errors`), 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from .errors import Stop
from .logs import printable

if TYPE_CHECKING:
    from . import config

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
_PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file; without it: defaults and WAZUH_JETSTREAM__SECTION__KEY variables"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option of every command that prints."""
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


def load_config(arguments: argparse.Namespace) -> "config.Config":
    """The configuration that --config and the environment give. Raises ConfigError."""
    from . import config

    return config.load(arguments.config, os.environ)


def run(main: Callable[[], int], program: str | None = None) -> int:
    """`main`'s exit code; an error that ends the program becomes one line on stderr and its exit code."""
    name = program or Path(sys.argv[0]).name
    try:
        return main()
    except Stop as error:
        print(f"{name}: error: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; nothing must be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], out: TextIO) -> None:
    """Columns as wide as their widest cell; control characters are escaped, None is `-`."""
    cells = [list(headers), *([("-" if cell is None else printable(str(cell))) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    out.writelines("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells)


def print_json(value: object, out: TextIO) -> None:
    """One JSON document, ASCII, on one line."""
    out.write(json.dumps(value, separators=(",", ":")) + "\n")
