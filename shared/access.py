"""Who may read a service's pages: everybody on this machine, or whoever has the token.

Rules
 * Beyond loopback nobody listens without a token file.
 * The file is read at each request that shows a token, so that it can be replaced while the service runs. One that cannot be
   read then opens nothing.
 * Its group may read it (Prometheus needs the same file); others may not.
"""

import hmac
import os
import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import ConfigError

if TYPE_CHECKING:
    from .monitoring import MonitoringConfig

_LOOPBACK: Final = re.compile(r"127\.\d+\.\d+\.\d+|::1")
_TOKEN: Final = re.compile(rb"[!-~]{16,4096}")  # printable ASCII, as a header can hold it (RFC 6750)
_MAX_FILE: Final = 8192
_SCHEME: Final = b"bearer "


@dataclass(frozen=True, slots=True)
class Access:
    """Where the pages are served, and to whom."""

    host: str = "127.0.0.1"
    token_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def granted(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header opens every page; b"" where there is none."""
        if self.token_file is None:
            return True
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        try:
            token = read_token(self.token_file)
        except ConfigError:
            return False
        return hmac.compare_digest(authorization[len(_SCHEME) :].strip(), token)


def access(monitoring: "MonitoringConfig") -> Access:
    """What the configuration says. Raises ConfigError where it would let strangers in, or names a file that cannot be used."""
    if monitoring.token_file is not None:
        read_token(monitoring.token_file)
    elif monitoring.enable_metrics and not is_loopback(monitoring.listen):
        raise ConfigError(
            f"monitoring.listen is {monitoring.listen}, beyond this machine, and monitoring.token_file is not set: name a file with a token"
            " (umask 077; openssl rand -hex 32 > metrics.token), or listen on 127.0.0.1"
        )
    return Access(monitoring.listen, monitoring.token_file, _tls(monitoring.tls_cert, monitoring.tls_key))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return _LOOPBACK.fullmatch(address) is not None


def read_token(path: Path) -> bytes:
    """The token in a file. Raises ConfigError: absent, readable by everybody, or none."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a pipe is refused, never waited for
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_FILE).strip() if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(
            f"monitoring.token_file {path} cannot be read ({error.strerror}); make one: openssl rand -hex 32 > {path}"
        ) from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"monitoring.token_file {path} is open to others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}")
    if not _TOKEN.fullmatch(text):
        raise ConfigError(
            f"monitoring.token_file {path} must hold one line of at least 16 letters and digits; make one: openssl rand -hex 32"
        )
    return text


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("monitoring.tls_cert and monitoring.tls_key go together; set both, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # never asks a terminal
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"monitoring.tls_cert {cert} and monitoring.tls_key {key} cannot be used ({error}); both are PEM, the key without a password"
        ) from error
    return context
