"""How a client shows who it is to NATS: credentials from a file, certificates, and never a password in the clear by accident.

`nats.credentials_file` holds one of: a .creds file (JWT and NKey), an NKey seed, or one line `user:password`; `nats.token_file` a
token. They are read again for each client, as are certificates, so that a rotated secret needs no restart.
"""

import contextlib
import importlib.util
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol import command

from . import secretfile
from .errors import ConfigError
from .findings import Finding
from .jsapi import Message

if TYPE_CHECKING:
    from .config import NatsConfig

_CREDS_MARK: Final = "-----BEGIN NATS USER JWT-----"


_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@lru_cache(maxsize=64)
def _is_plain(name: str) -> bool:
    return _KEY.fullmatch(name) is not None


def plain_lines(headers: Mapping[str, str]) -> bytes | None:
    """The lines that nats-py sends for headers of printable ASCII; None where it would alter or refuse any of them."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    text = lines.replace("\r\n", "")
    odd = " \r\n" in lines or ":  " in lines or len(lines) != len(text) + 2 * len(headers)  # a space or a line's end in a value
    if odd or not (text.isascii() and text.isprintable() and all(map(_is_plain, headers))):
        return None
    return lines.encode()


def plain_block(headers: Mapping[str, str]) -> bytes | None:
    """The block of such lines."""
    lines = plain_lines(headers)
    return None if lines is None else b"NATS/1.0\r\n%s\r\n" % lines


_PLAIN_SUBJECT: Final = re.compile(r"[!-~]+")


def plain_commands(messages: Iterable[Message]) -> list[bytes] | None:
    """What nats-py writes for each of these messages, where all are plain; None where any is not."""
    shared, lines, commands = None, plain_lines({}), list[bytes]()
    for message in messages:
        if message.shared is not shared:
            shared, lines = message.shared, plain_lines(message.shared)
        own = plain_lines(message.headers)
        twice = not message.headers.keys().isdisjoint(message.shared)
        if lines is None or own is None or twice or _PLAIN_SUBJECT.fullmatch(message.subject) is None:
            return None
        commands.append(command.hpub_cmd(message.subject, "", b"NATS/1.0\r\n%s%s\r\n" % (lines, own), message.body))
    return commands


_PLAIN_BLOCK: Final = re.compile(rb"NATS/1\.0\r\n(?:[!-9;-~]+: [!-~](?:[ -~]*[!-~])?\r\n)+\r\n")


def plain_headers(block: bytes) -> dict[str, str] | None:
    """What nats-py reads from a block that `plain_block` may have made; None for any other."""
    if _PLAIN_BLOCK.fullmatch(block) is None:
        return None
    lines = block[10:-4].decode("ascii").split("\r\n")
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


class SecureClient(Client):
    """nats-py 2.16's client without five holes (measured).

    It goes on in the clear where the server offers no TLS, credentials included, whatever the URL says: `tls_wanted`
    refuses that. And nats-server stores header blocks and subjects that nats-py cannot read; one such message, from
    anybody who may publish, would end the reading of whoever gets it, again and again: here they are read as they can be.
    An attempt that fails may leave its socket open for the next one to overwrite: here it is closed first. And a broken link is
    closed only after what was written to it is sent, on a half-open link never: here it is cut. And it takes longer to write an
    event's seventeen headers than everything else that publishing it takes: here a block with nothing odd in it is made, and read,
    at once.
    """

    tls_wanted = False

    def hang_up(self) -> None:
        """Cut the socket, if there is one, whatever state the client is in; what is still to be sent is lost with it."""
        if self._transport is not None:
            self.cut()
            self._transport = None

    @property
    def all_answered(self) -> bool:
        """Whether no ping waits for the server's pong."""
        return self._pings_outstanding == 0

    def cut(self) -> None:
        """Break the connection, whatever waits in it to be sent: the client notices and connects again."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            # Python up to 3.11.2, which is Debian 12's, lets go of what a TLS transport was when it is closed twice.
            with contextlib.suppress(AttributeError):
                writer.transport.abort()

    async def _send_publish(self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, str] | None) -> None:
        block = None if headers is None else plain_block(headers)
        if block is None or not subject:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(command.hpub_cmd(subject, reply, block, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish these in order, as `publish` does each, in one write where nothing about them is odd."""
        commands = plain_commands(messages)
        if commands is None or not self.is_connected or self.is_draining:
            for message in messages:
                await self.publish(message.subject, message.body, headers=message.all_headers)
            return
        self.stats["out_msgs"] += len(messages)
        self.stats["out_bytes"] += sum(len(message.body) for message in messages)
        await self._send_command(b"".join(commands))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _attempt_reconnect(self) -> None:
        self.cut()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Any) -> None:
        self.hang_up()
        await super()._connect_to_server(s)

    def _connect_command(self) -> bytes:
        if self.tls_wanted and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        plain = plain_headers(headers) if headers else None
        if plain is not None:
            return plain
        try:
            return await super()._process_headers(headers)
        except (IndexError, ValueError):  # no status line, or one that is not UTF-8
            return {}

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None) -> Msg:
        message: Msg = super()._build_message(sid, _utf8(subject), _utf8(reply), data, headers)
        return message


def _utf8(subject: bytes) -> bytes:
    return subject if subject.isascii() else subject.decode("utf-8", "replace").encode()


def options(config: "NatsConfig") -> dict[str, Any]:
    """The arguments of `Client.connect` that say who we are. Raises ConfigError where a file cannot be used."""
    if config.credentials_file and config.token_file:
        raise ConfigError("nats.credentials_file and nats.token_file are both set; a client is one or the other")
    chosen: dict[str, Any] = {"tls": _tls(config)} if wants_tls(config) else {}
    if config.token_file:
        return chosen | {"token": _token(config.token_file)}
    return chosen | (_credentials(config.credentials_file) if config.credentials_file else {})


def wants_tls(config: "NatsConfig") -> bool:
    """Whether anything in the configuration speaks of TLS."""
    return bool(config.tls_ca or config.tls_cert or config.tls_key or "tls://" in config.url)


def goes_in_the_clear(config: "NatsConfig") -> list[str]:
    """The servers beyond this machine that are spoken to without TLS."""
    if wants_tls(config):
        return []
    hosts = [urlsplit(url.strip()).hostname or "" for url in config.url.split(",")]
    return [host for host in hosts if not is_loopback(host)]


def transport(config: "NatsConfig") -> Finding:
    """What a `check` says of TLS."""
    hosts = goes_in_the_clear(config)
    if hosts:
        detail = f"no TLS to {', '.join(hosts)}: who is on the way reads everything, a password too"
        return Finding(
            "transport", "warn", detail, "give the server a certificate (deploy/nats), and set nats.url to tls://... or nats.tls_ca"
        )
    if not wants_tls(config):
        return Finding("transport", "ok", "no TLS; it stays on this machine")
    shown = ", with a certificate of our own" if config.tls_cert else ""
    return Finding("transport", "ok", f"TLS, the server verified by {config.tls_ca or 'the authorities of this system'}{shown}")


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine: `localhost`, 127.0.0.0/8 (RFC 1122 3.2.1.3), ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(config: "NatsConfig") -> ssl.SSLContext:
    """The peer's certificate and its name are always verified: there is no key that turns it off."""
    if config.tls_key and not config.tls_cert:
        raise ConfigError("nats.tls_key is set without nats.tls_cert; both belong together")
    if config.tls_cert:
        _check_key(config.tls_key, config.tls_cert)
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        if config.tls_cert:
            context.load_cert_chain(config.tls_cert, config.tls_key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ConfigError(f"a file of nats.tls_ca, nats.tls_cert or nats.tls_key cannot be used ({_reason(error)})") from error
    return context


def _check_key(key: Path | None, cert: Path) -> None:
    if key:
        secretfile.check(key, "nats.tls_key")
    elif cert.is_file() and b"PRIVATE KEY-----" in cert.read_bytes()[: secretfile.MAX_BYTES]:
        secretfile.check(cert, "nats.tls_cert")


def _no_password() -> str:
    raise ValueError("the key is encrypted; write it without a passphrase")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _token(path: Path) -> str:
    text = secretfile.read(path, "nats.token_file")
    if any(character.isspace() for character in text):
        raise ConfigError(f"nats.token_file {path} must hold one line with a token")
    return text


def _credentials(path: Path) -> dict[str, Any]:
    text = secretfile.read(path, "nats.credentials_file")
    if text.startswith(_CREDS_MARK):
        return _with_nkeys({"user_credentials": str(path)}, path)
    if text.startswith("SU") and ":" not in text:
        return _with_nkeys({"nkeys_seed": str(path)}, path)
    user, colon, password = text.partition(":")
    if not (user and colon and password) or "\n" in text:
        raise ConfigError(
            f"nats.credentials_file {path} is neither a .creds file nor an NKey seed nor one line `user:password`;"
            " for a token there is nats.token_file"
        )
    return {"user": user, "password": password}


def _with_nkeys(chosen: dict[str, Any], path: Path) -> dict[str, Any]:
    if importlib.util.find_spec("nkeys") is None:
        raise ConfigError(
            f"nats.credentials_file {path} holds an NKey, which needs the package nkeys; run: pip install 'wazuh-jetstream[nkeys]'"
        )
    return chosen
