"""`wazuh-collector`: watches one Wazuh manager node and tells NATS what it believes."""

import argparse
import sys
from pathlib import Path
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
  wazuh-collector keys generate   make the key that this node signs with
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
    _keys_options(commands.add_parser("keys", help="make the key that this node signs with", description="Make keys."))
    return parser


def _keys_options(keys: argparse.ArgumentParser) -> None:
    verbs = keys.add_subparsers(dest="verb", required=True, metavar="VERB")
    text = "make a key file that only its owner can read; none is overwritten"
    made = verbs.add_parser("generate", help=text, description=f"{text[0].upper()}{text[1:]}.")
    made.add_argument("path", type=Path, nargs="?", metavar="FILE", help="where; by default the file that the configuration names")
    made.add_argument(
        "--algorithm",
        choices=("hmac-sha256", "ed25519"),
        default="hmac-sha256",
        help="hmac-sha256 (default): relay and collector share a secret; ed25519: the relay needs the public half alone, and the collector"
        " the package cryptography",
    )
    cli.add_config(made)
    cli.add_json(made)


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
        if arguments.command == "keys":
            return _generate(arguments, config.security.signing_key_path)
        from . import snapshot

        return snapshot.show(config, SystemClock(), as_json=arguments.json, out=sys.stdout)
    except SourceUnavailable as error:
        raise _TryAgain(str(error)) from error


def _generate(arguments: argparse.Namespace, configured: Path | None) -> int:
    from shared import keygen
    from shared.config import require

    path = arguments.path or require(configured, "security.signing_key_path")
    keygen.show(keygen.signing_key(path, arguments.algorithm), sys.stdout, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
