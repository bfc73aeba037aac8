"""`wazuh-collector`: watches one Wazuh manager node and tells NATS what it believes."""

import argparse
import sys
from typing import Final

from shared import cli
from shared.clock import SystemClock
from shared.errors import SourceUnavailable, Stop

_DESCRIPTION: Final = """\
Watches the agents of one Wazuh manager node and publishes what the node believes of them to NATS JetStream, signed.
It runs on the manager's own host, reads Wazuh and writes nothing there. `wazuh-relay` decides what is true of it.
"""
_EPILOG: Final = """\
First steps on a manager:
  wazuh-collector check      is everything there that it needs? what to do if not
  wazuh-collector snapshot   what it sees at this moment, without NATS
  wazuh-collector run        watch and publish, until it is stopped

Exit codes: 0 done; 1 a check failed; 75 Wazuh could not be read, try again; 78 the configuration cannot be used.
"""
_COMMANDS: Final = {
    "run": "watch the agents and publish what changes, until SIGTERM or SIGINT",
    "check": "look at every precondition and say what is wrong and what to do; exit code 0 or 1",
    "snapshot": "read every agent once and print what this node believes; needs no NATS",
}


class _TryAgain(Stop):
    """Wazuh could not be read just now."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def main(argv: list[str] | None = None) -> int:
    """The command's exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _command(arguments), "wazuh-collector")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wazuh-collector", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        cli.add_config(command)
        if name != "run":
            cli.add_json(command)
    return parser


def _command(arguments: argparse.Namespace) -> int:
    """Each command imports what it needs alone: `snapshot` must work, and stay small, where NATS is not even installed."""
    config = cli.load_config(arguments)
    try:
        if arguments.command == "run":
            from . import lean

            return lean.run(config)
        if arguments.command == "check":
            from . import check

            return check.show(config, SystemClock(), as_json=arguments.json, out=sys.stdout)
        from . import snapshot

        return snapshot.show(config, SystemClock(), as_json=arguments.json, out=sys.stdout)
    except SourceUnavailable as error:
        raise _TryAgain(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
