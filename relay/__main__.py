"""`wazuh-relay`: decides what is true of each agent of a Wazuh cluster, once, and publishes it signed."""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from typing import Final, get_args

from shared import cli, config, keyring, sealing, units
from shared.clock import SystemClock
from shared.errors import Stop, Transient

from . import agents, check, events, nodes, provision, quarantine, run, session, tail

_DESCRIPTION: Final = """\
Reads what the collectors of one Wazuh cluster say of its agents, decides what is true, and publishes every change once,
signed, to NATS JetStream: came up, was stopped, fell silent, was registered, was removed.
"""
_EPILOG: Final = """\
First steps:
  wazuh-relay provision      make the streams and the consumer (needs a NATS user who may)
  wazuh-relay check          is everything there that it needs? what to do if not
  wazuh-relay run            decide and publish, until it is stopped
  wazuh-relay tail           watch the events as they come, each one verified

Exit codes: 0 done; 1 a check failed, or what was asked for is not there or may not be done; 70 it cannot go on;
75 try again; 78 the configuration cannot be used.
"""


class _TryAgain(Stop):
    """Something did not answer just now."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def main(argv: list[str] | None = None) -> int:
    """The command's exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "tail" and arguments.agent is not None and arguments.kind in get_args(events.ManagerKind):
        parser.error(f"--agent and --kind {arguments.kind}: that is an event of a manager, not of an agent")
    return cli.run(lambda: _command(arguments), "wazuh-relay")


# Options ------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wazuh-relay", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add(commands, "run", "decide and publish, until SIGTERM or SIGINT", _run)
    _add(commands, "check", "look at every precondition and say what is wrong and what to do; exit code 0 or 1", _check)
    _provision_options(
        _add(
            commands,
            "provision",
            "make or update the streams and the durable consumers; changes nothing where all is as it should be",
            _provision,
        )
    )
    _tail_options(_add(commands, "tail", "follow the events and verify each one as it is printed", _tail))
    chosen = _add(commands, "agents", "print what is decided of each agent, from the relay's ledger", _agents)
    chosen.add_argument("--status", choices=get_args(events.Status), help="only agents of this status")
    _nodes_options(commands)
    _quarantine_options(commands)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, action: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    cli.add_config(command)
    if name != "run":
        cli.add_json(command)
    command.set_defaults(action=action)
    return command


def _provision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--consumer",
        action="append",
        default=[],
        type=_consumer,
        metavar="NAME",
        help="also a durable pull consumer of the events, for a SIEM whose user may not make one; may be repeated",
    )
    parser.add_argument(
        "--filter",
        action="append",
        metavar="SUBJECT",
        help=f"what these consumers read, below the prefix; may be repeated (default: {', '.join(provision.FILTERS)})",
    )


def _consumer(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a consumer: up to 64 letters, digits, '-' and '_'")
    return text


def _tail_options(parser: argparse.ArgumentParser) -> None:
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--from-start", action="store_true", help="begin with the oldest event in the stream, not with the next one")
    begin.add_argument("--since", type=_seconds, metavar="DURATION", help='begin so long ago: "90s", "15m", "24h", "7d"')
    parser.add_argument("--agent", type=_agent, metavar="ID", help="only this agent, such as 001")
    parser.add_argument("--kind", choices=tail.KINDS, metavar="KIND", help=f"only events of this kind: {', '.join(tail.KINDS)}")
    parser.add_argument("--limit", type=_count, metavar="N", help="end after N events")


def _nodes_options(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _verbs(commands, "nodes", "print the managers as the relay knows them, or retire one")
    _add(verbs, "list", "print every manager: is it heard, by which way, how far is its clock off", _nodes_list)
    forget = _add(verbs, "forget", "retire a manager: what it said leaves the fleet", _nodes_forget)
    forget.add_argument("node", metavar="NODE", help="its name, as `nodes list` prints it")
    forget.add_argument("--force", action="store_true", help="also if it is still heard")


def _quarantine_options(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _verbs(commands, "quarantine", "look at the messages that were refused, have one taken in again, or drop it")
    listed = _add(verbs, "list", "print the refused messages, the newest first", _quarantine_list)
    listed.add_argument("--limit", type=_count, default=100, metavar="N", help="at most N messages (100)")
    for name, text, action in (
        ("show", "print one message whole: why, headers, what it says, its bytes", _quarantine_show),
        ("retry", "have a message of a collector taken in again, after its cause is mended", _quarantine_retry),
        ("drop", "delete a message from the quarantine", _quarantine_drop),
    ):
        _add(verbs, name, text, action).add_argument("number", type=_count, metavar="N", help="its number, as `quarantine list` prints it")


def _verbs(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    return command.add_subparsers(dest="verb", required=True, metavar="VERB")


def _seconds(text: str) -> float:
    try:
        return units.seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no duration such as "15m"') from None


def _agent(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is no agent's id such as 001")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 10 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


# Commands -----------------------------------------------------------------------------------------------------------


def _command(arguments: argparse.Namespace) -> int:
    try:
        code: int = arguments.action(arguments)
    except Transient as error:
        raise _TryAgain(str(error)) from error
    return code


def _run(arguments: argparse.Namespace) -> int:
    return run.run(cli.load_config(arguments))


def _check(arguments: argparse.Namespace) -> int:
    return check.show(cli.load_config(arguments), sys.stdout, as_json=arguments.json)


def _agents(arguments: argparse.Namespace) -> int:
    return agents.show(cli.load_config(arguments), arguments.status, sys.stdout, as_json=arguments.json)


def _nodes_list(arguments: argparse.Namespace) -> int:
    return nodes.show_list(cli.load_config(arguments), sys.stdout, as_json=arguments.json)


def _nodes_forget(arguments: argparse.Namespace) -> int:
    settings = cli.load_config(arguments)
    return nodes.forget(settings, arguments.node, SystemClock(), sys.stdout, force=arguments.force, as_json=arguments.json)


def _quarantine_list(arguments: argparse.Namespace) -> int:
    return quarantine.show_list(cli.load_config(arguments), arguments.limit, sys.stdout, as_json=arguments.json)


def _quarantine_show(arguments: argparse.Namespace) -> int:
    return quarantine.show_one(cli.load_config(arguments), arguments.number, sys.stdout, as_json=arguments.json)


def _quarantine_retry(arguments: argparse.Namespace) -> int:
    return quarantine.retry(cli.load_config(arguments), arguments.number, SystemClock(), sys.stdout, as_json=arguments.json)


def _quarantine_drop(arguments: argparse.Namespace) -> int:
    return quarantine.drop(cli.load_config(arguments), arguments.number, SystemClock(), sys.stdout, as_json=arguments.json)


def _provision(arguments: argparse.Namespace) -> int:
    done = asyncio.run(_provisioned(cli.load_config(arguments), arguments.consumer, arguments.filter or provision.FILTERS))
    if arguments.json:
        cli.print_json(done, sys.stdout)
    else:
        sys.stdout.writelines(f"{line}\n" for line in done)
    return 0


async def _provisioned(settings: config.Config, readers: Sequence[str], filters: Sequence[str]) -> list[str]:
    async with session.connected(settings, "provision") as connection:
        return await provision.provision(connection, settings, readers, filters)


def _tail(arguments: argparse.Namespace) -> int:
    settings = cli.load_config(arguments)
    key = keyring.read_key(config.require(settings.security.signing_key_path, "security.signing_key_path"))
    wanted = tail.Wanted(arguments.from_start, arguments.since, arguments.agent, arguments.kind, arguments.limit)
    now = SystemClock().now_ms()
    return asyncio.run(tail.tail(settings, sealing.MessageSigner(key), wanted, sys.stdout, now, as_json=arguments.json))


if __name__ == "__main__":
    sys.exit(main())
