"""The configuration: one YAML file and the environment, checked before anything starts.

    WAZUH_JETSTREAM__NATS__URL=nats://10.0.0.5:4222     sets nats.url; the environment wins over the file

Rules
 * Every key has a default; `null` (or an empty environment variable) means the default.
 * An unknown key is refused with the nearest known one: a typing error never runs with a default in silence.
 * Durations are "500ms", "5s", "2m", "1h", "3d" or a number of seconds; sizes are "64MiB" or a number of bytes.
 * A secret is never a value here: keys and credentials are paths of files.
"""

import difflib
import os
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo

from . import subjects, units
from .errors import ConfigError
from .monitoring import MonitoringConfig
from .section import Section as _Section

ENVIRONMENT_PREFIX: Final = "WAZUH_JETSTREAM__"
MAX_FILE_BYTES: Final = 1 << 20  # of YAML: a whole configuration has about 2 KiB


# Values with a unit -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a value is called, what an error asks for, and how a default is printed."""

    name: str
    expected: str
    shown: Callable[[Any], str] = str


def _url(value: str) -> str:
    if "@" in value:
        raise ValueError("holds a user or a password; write `user:password` into the file that nats.credentials_file names")
    if not all(map(_is_nats_url, value.split(","))):
        raise ValueError('is not a URL such as "nats://10.0.0.5:4222" or "tls://nats.example.org:4222", or several with commas')
    return value


def _is_nats_url(value: str) -> bool:
    try:
        parts = urlsplit(value.strip())
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range, a broken IPv6 address
        return False


def _ledger_url(value: str) -> str:
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", value):
        raise ValueError("holds a password; use a pgpass file (the environment variable PGPASSFILE) instead")
    return value


def _prefix(value: str) -> str:
    try:
        return subjects.check_prefix(value)
    except ValueError:
        raise ValueError("may hold letters, digits, '-', '_' and single dots between them: it begins every subject") from None


def _token(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("may hold up to 64 letters, digits, '-' and '_': it becomes part of subjects")
    return value


def _name(value: str) -> str:
    if not value or not value.isprintable() or len(value) > 255:
        raise ValueError("must be 1 to 255 printable characters")
    return value


Duration = Annotated[
    float,
    BeforeValidator(units.seconds),
    _Kind("duration", 'a duration such as "500ms", "5s", "2m", "1h" or "3d"', units.show_seconds),
]
Size = Annotated[int, BeforeValidator(units.size), _Kind("size", 'a size such as "512KiB", "64MiB" or "8GiB"', units.show_size)]
LedgerUrl = Annotated[str, AfterValidator(_ledger_url)]
NatsUrl = Annotated[str, AfterValidator(_url)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Token = Annotated[str, AfterValidator(_token)]
Name = Annotated[str, AfterValidator(_name)]


# The sections -------------------------------------------------------------------------------------------------------


def _below_home(description: str, *paths: str) -> Any:
    """A field that is below wazuh.home unless it is set: the first of `paths` that exists, else the first."""

    def default(data: dict[str, Any]) -> Path:
        candidates = [Path(data["home"], path) for path in paths]
        return next((path for path in candidates if os.path.lexists(path)), candidates[0])

    shown = " or ".join(f"{{home}}/{path}" for path in paths)
    return Field(default_factory=default, json_schema_extra={"default": shown}, description=description)


class WazuhConfig(_Section):
    """The manager node that a collector watches."""

    home: Path = Field(default=Path("/var/ossec"), description="Where Wazuh is installed; /var/wazuh-manager for 5.0.")
    source: Literal["auto", "socket", "file"] = Field(
        default="auto", description="How to read agents: wazuh-db's socket, the file global.db, or the socket wherever it answers."
    )
    db_path: Path = _below_home("Wazuh's database of agents.", "queue/db/global.db")
    socket_path: Path = _below_home("The socket of wazuh-db.", "queue/db/wdb")
    client_keys_path: Path = _below_home("Wazuh's list of registered agents.", "etc/client.keys")
    config_path: Path = _below_home("Wazuh's configuration: its cluster block names the node.", "etc/ossec.conf", "etc/wazuh-manager.conf")
    poll_interval: Duration = Field(default=5.0, ge=0.05, le=3600, description="The longest wait between two looks at the agents.")
    manager_node: Name | None = Field(
        default=None, description="What this node is called on the bus; by default the node_name of Wazuh's cluster block."
    )


class NatsConfig(_Section):
    """The NATS cluster and how to speak to it."""

    url: NatsUrl = Field(default="nats://127.0.0.1:4222", description="Address of the NATS server; several with commas.")
    credentials_file: Path | None = Field(
        default=None,
        description="A .creds file, a file with an NKey seed, or a file with one line `user:password`; read again at each connect.",
    )
    token_file: Path | None = Field(default=None, description="A file with a token, in place of credentials_file.")
    inbox_prefix: Prefix | None = Field(default=None, description="Where answers come back; by default `_INBOX_` and the role.")
    tls_cert: Path | None = Field(default=None, description="Client certificate (PEM) for mutual TLS.")
    tls_key: Path | None = Field(default=None, description="Key (PEM) of the client certificate.")
    tls_ca: Path | None = Field(default=None, description="Certificate authority (PEM) of the server; the system's by default.")
    subject_prefix: Prefix = Field(default="wazuh", description="First part of every subject and stream name; one per Wazuh cluster.")
    max_reconnects: int = Field(
        default=10, ge=1, le=1000, description="Attempts of one client before it is replaced by a fresh one; the service never gives up."
    )
    reconnect_delay: Duration = Field(default=2.0, ge=0.01, le=60, description="Wait between two attempts to reconnect.")
    replicas: int = Field(default=1, ge=1, le=5, description="Copies of each stream that `wazuh-relay provision` makes; 3 in a cluster.")
    raw_max_bytes: Size = Field(
        default=8 << 30, ge=1 << 20, description="Bound of the stream of raw snapshots, used by `wazuh-relay provision`."
    )
    events_max_bytes: Size = Field(
        default=16 << 30, ge=1 << 20, description="Bound of the stream of events, used by `wazuh-relay provision`."
    )
    checkpoints_max_bytes: Size = Field(
        default=128 << 20, ge=1 << 20, description="Bound of the stream of checkpoints, used by `wazuh-relay provision`."
    )


class SecurityConfig(_Section):
    """Who signs, and whose signatures count."""

    signing_key_path: Path | None = Field(
        default=None,
        description="The key this service signs with: 64 hex digits (`openssl rand -hex 32`) or Ed25519 in PEM, mode 600; needed to run.",
    )
    keyring_path: Path | None = Field(
        default=None,
        description="Directory with one directory per manager node that holds its .key or .pub files; needed by the relay, whose own other"
        " keys are there too.",
    )
    encrypt_messages: bool = Field(default=False, description="Encrypt what is told of agents and managers (AES-256-GCM); by the relay.")
    encryption_key_path: Path | None = Field(
        default=None, description="The key for encrypt_messages: 64 hex digits (`openssl rand -hex 32`), mode 600."
    )


class CollectorConfig(_Section):
    """What `wazuh-collector` alone needs."""

    spool_path: Path = Field(
        default=Path("/var/lib/wazuh-jetstream/spool.db"), description="File that keeps snapshots with news until NATS has them."
    )
    spool_max_bytes: Size = Field(
        default=256 << 20, ge=1 << 20, description="Bound of the spool; above it single changes give way to one full snapshot, loudly."
    )
    source_budget: float = Field(default=0.01, gt=0, le=0.5, description="Share of wazuh-db's time that looking may take.")
    full_interval: Duration = Field(default=60.0, ge=1, le=86400, description="How often the whole table is sent.")
    request_timeout: Duration = Field(default=5.0, ge=0.05, le=60, description="How long wazuh-db may take to answer.")


class RelayConfig(_Section):
    """What `wazuh-relay` alone needs."""

    ledger_url: LedgerUrl = Field(
        default="sqlite:////var/lib/wazuh-jetstream/ledger.db", description="The relay's database: a SQLAlchemy URL without a password."
    )
    lease_duration: Duration = Field(default=5.0, ge=0.5, le=60, description="How long a relay that died is waited for (PostgreSQL).")
    name: Token = Field(default="relay", description="What this relay is called in ticks, heartbeats and the server's connection list.")
    reset_grace: Duration = Field(default=60.0, ge=0, description="How long an agent that a manager restart reset may take to return.")
    sync_jitter: Duration = Field(default=30.0, ge=0, description="How long a worker's row beats the master's copy of it.")
    baseline_timeout: Duration = Field(default=90.0, ge=0, description="The longest wait for every node's first full snapshot.")
    node_stale: Duration = Field(default=30.0, ge=0.1, description="A node that said nothing for so long is not heard any more.")
    tick_interval: Duration = Field(default=1.0, ge=0.05, le=60, description="How often the relay says that nothing came.")
    heartbeat_interval: Duration = Field(default=10.0, ge=0.1, le=3600, description="How often the health of each node is published.")
    checkpoint_interval: Duration = Field(
        default=3600.0, ge=0.1, le=86400, description="How often the head of the chain of events is signed and kept for good."
    )
    history_retention: Duration = Field(default=30 * 86400.0, ge=3600, description="How long decided events stay in the ledger.")
    quarantine_max_bytes: Size = Field(
        default=256 << 20, ge=1 << 20, description="Bound of the messages that are kept aside in the ledger; the oldest give way."
    )
    batch_messages: int = Field(default=500, ge=1, le=1000, description="Most messages in one atomic batch; NATS allows 1000.")
    consumer: Token = Field(default="relay", description="Durable consumer of the raw stream that the relay reads from.")


class Config(_Section):
    """Everything, one field per section."""

    wazuh: WazuhConfig = Field(default_factory=lambda: WazuhConfig())
    nats: NatsConfig = Field(default_factory=lambda: NatsConfig())
    security: SecurityConfig = Field(default_factory=lambda: SecurityConfig())
    monitoring: MonitoringConfig = Field(default_factory=lambda: MonitoringConfig())
    collector: CollectorConfig = Field(default_factory=lambda: CollectorConfig())
    relay: RelayConfig = Field(default_factory=lambda: RelayConfig())


_SECTIONS: Final = {name: cast("type[_Section]", field.annotation) for name, field in Config.model_fields.items()}
_FIELDS: Final = {f"{section}.{name}": field for section, model in _SECTIONS.items() for name, field in model.model_fields.items()}


# Loading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody set, and where."""

    value: object
    where: str


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of a YAML file, or of the defaults where `path` is None, below the environment.

    Raises ConfigError with one sentence: the key, where it was set, what is wrong and what is expected.
    """
    return _validate((_from_file(path) if path else {}) | _from_environment(environ))


def _validate(given: Mapping[str, _Given]) -> Config:
    sections: dict[str, dict[str, object]] = {section: {} for section in _SECTIONS}
    for key, one in given.items():
        _known(key, one.where)
        section, _, name = key.partition(".")
        if one.value is not None:
            sections[section][name] = one.value
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        raise _refusal(error, given) from None


def require(path: Path | None, key: str) -> Path:
    """The path of a key that this command cannot do without. Raises ConfigError where it is not set."""
    if path is None:
        raise ConfigError(f"{key} is not set, and this command needs it; {_text(_FIELDS[key].description)}")
    return path


def _from_file(path: Path) -> dict[str, _Given]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        tree = yaml.load(raw, _UniqueKeys) if len(raw) <= MAX_FILE_BYTES else f"larger than {MAX_FILE_BYTES} bytes"  # noqa: S506
    except OSError as error:
        raise ConfigError(f"configuration {path} cannot be read ({error.strerror}); see the path given to --config") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"configuration {path} is not YAML{_place(error)}") from error
    if not isinstance(tree, dict | None):
        raise ConfigError(f"configuration {path} must hold the sections {', '.join(_SECTIONS)}")
    return {key: _Given(value, str(path)) for key, value in _flat(tree or {}, path)}


def _flat(tree: Mapping[object, object], path: Path) -> Iterator[tuple[str, object]]:
    for section, keys in tree.items():
        if section not in _SECTIONS:
            raise ConfigError(f"unknown section {_shown(section)} in {path}{_nearest(section, _SECTIONS)}")
        if not isinstance(keys, dict | None):
            raise ConfigError(f"section {section} in {path} must hold keys and values, not {_shown(keys)}")
        yield from ((f"{section}.{name}", value) for name, value in (keys or {}).items())


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    return {
        variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".", 1): _Given(
            None if value in ("", "null", "~") else value, f"the environment variable {variable!a}"
        )
        for variable, value in environ.items()
        if variable.startswith(ENVIRONMENT_PREFIX)
    }


def _known(key: str, where: str) -> None:
    if key not in _FIELDS:
        raise ConfigError(f"unknown key {_shown(key)} in {where}{_nearest(key, _FIELDS)}")


def _nearest(key: object, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(str(key)[:100], known, n=1, cutoff=0)
    return f"; the nearest known one is {close[0]}" if close else ""


def _refusal(error: ValidationError, given: Mapping[str, _Given]) -> ConfigError:
    errors = [one for one in error.errors(include_url=False, include_input=False) if one["type"] != "default_factory_not_called"]
    key = ".".join(str(part) for part in errors[0]["loc"][:2])
    one = given[key]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ConfigError(f"configuration key {key} in {one.where} {_complaint(key, one.value, errors[0])}{more}")


def _complaint(key: str, value: object, error: Mapping[str, Any]) -> str:
    kind = _kind(_FIELDS[key])
    if error["type"] == "value_error" and kind.name not in ("duration", "size"):
        return str(error["ctx"]["error"])
    bounds = [f"{name} {kind.shown(error['ctx'][bound])}" for bound, name in _BOUNDS.items() if bound in error.get("ctx", {})]
    return f"is {_shown(value)}, expected {', '.join([kind.expected, *bounds])}"


_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most"}
_KINDS: Final[dict[object, _Kind]] = {
    bool: _Kind("true/false", "true or false", lambda value: str(value).lower()),
    int: _Kind("number", "a whole number"),
    float: _Kind("number", "a number"),
    str: _Kind("text", "a text (in quotes)"),
    Path: _Kind("path", "a path"),
}


def _kind(field: FieldInfo) -> _Kind:
    named = [extra for extra in field.metadata if isinstance(extra, _Kind)]
    if named:
        return named[0]
    options = getattr(field.annotation, "__args__", ())
    if options and all(isinstance(option, str) for option in options):
        return _Kind(" | ".join(options), f"one of {', '.join(options)}")
    return next(kind for plain, kind in _KINDS.items() if plain in (field.annotation, *(getattr(o, "__origin__", o) for o in options)))


def describe() -> list[tuple[str, str, str, str]]:
    """(key, type, default, description) of every key, in the order of the sections: the README's table."""
    return [(key, _kind(field).name, _default(field), _text(field.description)) for key, field in _FIELDS.items()]


def _default(field: FieldInfo) -> str:
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["default"])
    return "" if field.default is None else _kind(field).shown(field.default)


# Text ---------------------------------------------------------------------------------------------------------------


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice, of which YAML would keep one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is written twice", node.start_mark)
        return mapping


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": {getattr(error, 'problem', None)}, line {mark.line + 1}" if mark else ""


def _text(description: str | None) -> str:
    return description or ""


def _shown(value: object) -> str:
    text = reprlib.repr(value)  # bounded, and control characters are escaped
    return "a value with '@', not shown here" if "@" in text else text
