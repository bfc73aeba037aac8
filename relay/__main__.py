"""`wazuh-relay`: decides what is true of each agent of a Wazuh cluster, once, and publishes it signed."""

import argparse
import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

from shared import cli, config, keygen, units
from shared.clock import SystemClock
from shared.errors import Stop, Transient

from . import agents, check, consumerkeys, events, keys, nodes, provision, quarantine, run, session, tail, trust, verify_stream

_DESCRIPTION: Final = """\
Reads what the collectors of one Wazuh cluster say of its agents, decides what is true, and publishes every change once,
signed, to NATS JetStream: came up, was stopped, fell silent, was registered, was removed.
"""
_EPILOG: Final = """\
First steps:
  wazuh-relay keys generate  make the key that it signs with
  wazuh-relay provision      make the streams and the consumer (needs a NATS user who may)
  wazuh-relay check          is everything there that it needs? what to do if not
  wazuh-relay run            decide and publish, until it is stopped
  wazuh-relay tail           watch the events as they come, each one verified
  wazuh-relay verify         prove all events that the stream holds: signatures, order, and that none is missing

Exit codes: 0 done; 1 a check failed, events could not be proved, or what was asked for is not there or may not be done; 70 it cannot go on;
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
    if arguments.command == "keys" and arguments.verb == "export" and arguments.with_secrets and arguments.out is None:
        parser.error("--with-secrets needs --out FILE: no secret is printed")
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
    _verify_options(_add(commands, "verify", "prove that all events are signed, in their order, and none is missing", _verify))
    chosen = _add(commands, "agents", "print what is decided of each agent, from the relay's ledger", _agents)
    chosen.add_argument("--status", choices=get_args(events.Status), help="only agents of this status")
    _nodes_options(commands)
    _quarantine_options(commands)
    _keys_options(commands)
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
    _keys_option(parser)


def _keys_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=Path, metavar="FILE", help="verify with the keys that `keys export` wrote, not the configured ones")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="since", type=_moment, metavar="TIME", help='begin at this time, "2026-11-23T05:05:00Z", or so long ago, "24h"'
    )
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until SIGINT or SIGTERM")
    _keys_option(parser)
    parser.epilog = "Exit codes: 0 all is proved; 1 something is wrong, and where is printed; 70, 75, 78 as of every command."


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


def _keys_options(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _verbs(commands, "keys", "make, list, change and hand out keys; docs/keys.md tells the order of a change")
    made = _add(verbs, "generate", "make a key file that only its owner can read; none is overwritten", _keys_generate)
    made.add_argument("path", type=Path, nargs="?", metavar="FILE", help="where; by default the file that the configuration names")
    made.add_argument("--algorithm", choices=keys.ALGORITHMS, default=keys.ALGORITHMS[0], help=f"of the key ({keys.ALGORITHMS[0]})")
    _add(verbs, "list", "print every key by its id: for what, since when, where", _keys_list)
    changed = _add(
        verbs, "rotate", "do the next step of a key's change: make the next one, switch to it, retire the one before", _keys_rotate
    )
    changed.add_argument("use", nargs="?", choices=("signing", "encryption"), default="signing", help="which key (signing)")
    changed.add_argument("--algorithm", choices=keygen.SIGNING, help="of the next signing key; by default as the one in use")
    changed.add_argument("--now", action="store_true", help="also if the step before was done less than a minute ago")
    handed = _add(verbs, "export", "write the JSON file with which a consumer verifies", _keys_export)
    handed.add_argument("--out", type=Path, metavar="FILE", help="where to; without it to the terminal")
    handed.add_argument(
        "--with-secrets",
        action="store_true",
        help="with the secrets of HMAC-SHA256 and AES-256-GCM keys, for a consumer that must verify or decrypt under one and that you"
        " trust to sign like the relay; only with --out, into a file of mode 600",
    )


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


def _moment(text: str) -> int:
    """Unix ms."""
    with contextlib.suppress(ValueError):
        return SystemClock().now_ms() - round(units.seconds(text) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no time such as "2026-11-23T05:05:00Z" or "24h"') from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


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


def _keys_generate(arguments: argparse.Namespace) -> int:
    return keys.generate(cli.load_config(arguments), arguments.path, arguments.algorithm, sys.stdout, as_json=arguments.json)


def _keys_list(arguments: argparse.Namespace) -> int:
    return keys.show_list(cli.load_config(arguments), sys.stdout, as_json=arguments.json)


def _keys_rotate(arguments: argparse.Namespace) -> int:
    settings, algorithm = cli.load_config(arguments), arguments.algorithm
    return keys.change(settings, arguments.use, algorithm, SystemClock(), sys.stdout, at_once=arguments.now, as_json=arguments.json)


def _keys_export(arguments: argparse.Namespace) -> int:
    settings = cli.load_config(arguments)
    return keys.export(settings, arguments.out, sys.stdout, sys.stderr, with_secrets=arguments.with_secrets)


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
    held = _reading(settings, arguments)
    wanted = tail.Wanted(arguments.from_start, arguments.since, arguments.agent, arguments.kind, arguments.limit)
    now = SystemClock().now_ms()
    return asyncio.run(tail.tail(settings, held, wanted, sys.stdout, now, as_json=arguments.json))


def _verify(arguments: argparse.Namespace) -> int:
    settings = cli.load_config(arguments)
    held, wanted = _reading(settings, arguments), verify_stream.Wanted(arguments.since, arguments.follow)
    proving = verify_stream.verify(settings, held, wanted, SystemClock(), sys.stdout, sys.stderr, as_json=arguments.json)
    return asyncio.run(proving)


def _reading(settings: config.Config, arguments: argparse.Namespace) -> trust.Reading:
    return trust.reading(settings) if arguments.keys is None else consumerkeys.reading(arguments.keys)


if __name__ == "__main__":
    sys.exit(main())
