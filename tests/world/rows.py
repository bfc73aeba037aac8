"""One row of a node's `agent` table, its columns by schema version, and the marks of the worker-to-master sync.

`internal_key` is in every row because Wazuh keeps it there; the keys here are made up from the seed and open nothing.
"""

from dataclasses import dataclass, field
from typing import Final

from .config import Schema
from .writes import Columns

SYNCED: Final = "synced"
SYNCREQ: Final = "syncreq"
SYNCREQ_STATUS: Final = "syncreq_status"
SYNCREQ_KEEPALIVE: Final = "syncreq_keepalive"

# wdb_global_validate_sync_status: a weaker pending mark never replaces a stronger one.
_STRENGTH: Final = {SYNCED: 0, SYNCREQ_KEEPALIVE: 1, SYNCREQ_STATUS: 2, SYNCREQ: 3}

_ONLY_4: Final = frozenset(
    ("os_codename", "os_build", "os_uname", "config_sum", "merged_sum", "manager_host", "node_name", "group_config_status")
)
_ONLY_5: Final = frozenset(("os_type",))
_MISSING: Final[dict[Schema, frozenset[str]]] = {
    "4.2": _ONLY_5 | {"disconnection_time", "status_code", "group_config_status"},
    "4.5": _ONLY_5 | {"status_code"},
    "4.14": _ONLY_5,
    "5.0": _ONLY_4,
}


@dataclass(frozen=True, slots=True)
class System:
    """What an agent says of its host. One value is shared by all agents of a kind."""

    name: str
    version: str
    major: str
    minor: str
    codename: str
    platform: str
    uname: str
    arch: str
    type: str

    def columns(self) -> Columns:
        """The os_* columns of both schemas and the two checksums, as update-agent-data writes them."""
        return {
            "os_name": self.name,
            "os_version": self.version,
            "os_major": self.major,
            "os_minor": self.minor,
            "os_codename": self.codename,
            "os_build": "",
            "os_type": self.type,
            "os_platform": self.platform,
            "os_uname": self.uname,
            "os_arch": self.arch,
            "config_sum": "ab73af41699f13fdd81903b5f23d8d00",
            "merged_sum": "4a8724b20dee0124ff9656783c490c4e",
            "group_config_status": "synced",
        }


SYSTEMS: Final = (
    System("Ubuntu", "24.04.2 LTS", "24", "04", "Noble Numbat", "ubuntu", "Linux |host |6.8.0", "x86_64", "linux"),
    System("Debian GNU/Linux", "12", "12", "", "bookworm", "debian", "Linux |host |6.1.0", "aarch64", "linux"),
    System("Microsoft Windows Server 2022", "10.0.20348", "10", "0", "", "windows", "Microsoft Windows Server 2022", "x86_64", "windows"),
    System("macOS", "15.3", "15", "3", "Sequoia", "darwin", "Darwin |host |24.3.0", "arm64", "macos"),
)


@dataclass(slots=True)
class Row:
    """One row as the last explicit write left it; what plain keepalives moved since is computed by the world."""

    id: int
    name: str
    register_ip: str
    internal_key: str = field(repr=False)
    date_add: int
    ip: str | None = None
    system: System | None = None
    version: str | None = None
    node_name: str = "unknown"
    last_keepalive: int | None = None
    connection_status: str = "never_connected"
    disconnection_time: int = 0
    status_code: int = 0

    @property
    def clean(self) -> bool:
        """As a plain keepalive leaves it."""
        return self.connection_status == "active" and not self.status_code and not self.disconnection_time


Change = int | str | None | System
Changes = dict[str, Change]


def columns(changes: Changes, schema: Schema) -> Columns:
    """`changes` of a Row (its field names; `system` stands for all that the host says) as columns of `schema`."""
    found: Columns = {}
    for name, value in changes.items():
        if isinstance(value, System):
            found |= value.columns() | {"manager_host": _text(changes.get("node_name"))}
        elif name != "system":
            found[name] = value
    missing = _MISSING[schema]
    return {name: value for name, value in found.items() if name not in missing}


def whole(row: Row, schema: Schema, sync_status: str) -> Columns:
    """Every column of the row that is not left to its default."""
    changes: Changes = {name: getattr(row, name) for name in _FIELDS}
    return columns(changes, schema) | {"group": None, "sync_status": sync_status}


_FIELDS: Final = tuple(Row.__dataclass_fields__)


def stronger(old: str, requested: str) -> str:
    """The mark that stays when `requested` is asked for over `old`; synced is always obeyed."""
    return requested if requested == SYNCED or _STRENGTH[requested] >= _STRENGTH[old] else old


def _text(value: Change) -> str | None:
    return value if isinstance(value, str) else None
