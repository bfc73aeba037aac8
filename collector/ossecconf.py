"""Who this manager node is: the cluster block of ossec.conf (4.x) or wazuh-manager.conf (5.0).

Rules
 * Wazuh's file is not quite XML: it may hold several <ossec_config> roots and whatever an administrator typed. It is read
   by its tags alone; no entity but the five of XML means anything, and nothing is ever expanded or fetched.
 * Of several cluster blocks the last one counts, whole.
 * 4.x without a cluster block, or with <disabled>yes</disabled>, is standalone. What a block leaves out is the framework's
   default (wazuh/wazuh framework/wazuh/core/cluster/utils.py): cluster wazuh, node_name node01, node_type master. (The C
   daemons would say "undefined" for a missing node_name.) `client` is the old word for worker.
 * 5.0 (<wazuh_config>) is always clustered.

`parse` is pure; `read` reads.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import unescape

from shared.errors import ConfigError
from shared.models import NodeType

from . import files

MAX_BYTES: Final = 4 << 20
MAX_NAME: Final = 255  # characters of a node's or a cluster's name
MAX_DEPTH: Final = 64
_ROOTS: Final = ("ossec_config", "wazuh_config")
_TAG: Final = re.compile(r"<(/?)([A-Za-z_][A-Za-z0-9_.-]{0,63}+)[^<>]*+>([^<]*+)")  # possessive: time grows with the text alone
_TYPES: Final[dict[str, NodeType]] = {"master": "master", "worker": "worker", "client": "worker"}


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """How this node is called in Wazuh's own words."""

    cluster: str
    node_name: str
    node_type: NodeType


def parse(text: str) -> NodeIdentity:
    """The node that a configuration describes. Raises ConfigError: it is none of Wazuh's, or names a node that cannot be."""
    roots: list[str] = []
    cluster: dict[str, str] | None = None
    for path, value in _elements(_without_comments(text)):
        if len(path) == 1:
            roots.append(path[0])
        elif path[1:] == ["cluster"]:
            cluster = {}
        elif len(path) == 3 and path[1] == "cluster" and cluster is not None:
            cluster[path[2]] = value
    if not roots:
        raise ConfigError("it holds no <ossec_config> and no <wazuh_config>")
    return _identity(cluster, roots[-1] == "wazuh_config")


def _identity(cluster: dict[str, str] | None, always: bool) -> NodeIdentity:
    block = cluster or {}
    enabled = always or (cluster is not None and block.get("disabled", "no") != "yes")
    word = block.get("node_type") or "master"
    if word not in _TYPES:
        raise ConfigError(f"its cluster block has node_type {word[:MAX_NAME]!a}, which is neither master nor worker")
    names = block.get("name") or "wazuh", block.get("node_name") or "node01"
    for name in names:
        if len(name) > MAX_NAME or not name.isprintable():
            raise ConfigError(f"its cluster block has the name {name[:40]!a}; a name has 1 to {MAX_NAME} printable characters")
    return NodeIdentity(*names, _TYPES[word] if enabled else "standalone")


def _without_comments(text: str) -> str:
    kept: list[str] = []
    end = 0
    while (start := text.find("<!--", end)) >= 0:
        kept.append(text[end:start])
        end = text.find("-->", start)
        if end < 0:
            return "".join(kept)
        end += len("-->")
    return "".join([*kept, text[end:]])


def _elements(text: str) -> Iterator[tuple[list[str], str]]:
    """(path from a root, text) of each element down to three levels, where it begins; a stray closing tag closes nothing."""
    path: list[str] = []
    for tag in _TAG.finditer(text):
        name = tag[2]
        if tag[1]:
            if name in path:
                del path[len(path) - 1 - path[::-1].index(name) :]
            continue
        if not path and name not in _ROOTS:
            continue
        if len(path) < 3:
            yield [*path, name], unescape(tag[3]).strip()
        if text[tag.start(3) - 2] != "/":
            path.append(name)
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"its elements are nested deeper than {MAX_DEPTH}")


def read(path: Path) -> NodeIdentity:
    """The node that the file at `path` describes. Raises ConfigError: absent, not readable, too large, or see `parse`."""
    try:
        text = _content(path)
    except PermissionError as error:
        raise ConfigError(
            f"Wazuh's configuration {path} may not be read by this user; run the collector in the group wazuh (5.0: wazuh-manager)"
        ) from error
    except OSError as error:
        raise ConfigError(f"Wazuh's configuration {path} cannot be read ({error.strerror}); set wazuh.home or wazuh.config_path") from error
    try:
        return parse(text.decode("utf-8", "replace"))
    except ConfigError as error:
        raise ConfigError(f"Wazuh's configuration {path} cannot be used: {error}") from error


def _content(path: Path) -> bytes:
    with open(files.open_regular(path), "rb") as file:  # noqa: PTH123 -- a descriptor
        return files.read(file.fileno(), MAX_BYTES)
