"""A manager's home directory as Wazuh lays it out: etc/ossec.conf (5.0: etc/wazuh-manager.conf), etc/client.keys, queue/db."""

import argparse
import os
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

_CONF: Final = """<!-- A simulated manager. -->
<{root}>
  <global>
    <agents_disconnection_time>{silence}</agents_disconnection_time>
    <agents_disconnection_alert_time>0</agents_disconnection_alert_time>
  </global>
  <cluster>
    <name>{cluster}</name>
    <node_name>{name}</node_name>
    <node_type>{type}</node_type>
    <port>1516</port>
    <bind_addr>127.0.0.1</bind_addr>
    <nodes>
      <node>127.0.0.1</node>
    </nodes>
    <hidden>no</hidden>
    <disabled>{disabled}</disabled>
  </cluster>
</{root}>
"""
_ROOTS: Final = {"4.14": ("ossec.conf", "ossec_config"), "5.0": ("wazuh-manager.conf", "wazuh_config")}


def lay_out(home: Path, options: argparse.Namespace) -> None:
    """Make what is missing; the configuration is written anew, client.keys and the database are kept."""
    for folder in ("etc", "queue/db", "queue/sockets", "logs", "var/run"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    file, root = _ROOTS[options.schema]
    text = _CONF.format(
        root=root,
        silence=escape(options.disconnection_time),
        cluster=escape(options.cluster or "wazuh"),
        name=escape(options.node_name),
        type=options.node_type,
        disabled="no" if options.cluster else "yes",
    )
    (home / "etc" / file).write_text(text)
    (home / "etc/local_internal_options.conf").write_text(f"wazuh_db.commit_time_max={max(1, int(options.commit_seconds) - 1)}\n")
    keys = home / "etc/client.keys"
    if not keys.exists():
        write_keys(keys, "")


def write_keys(path: Path, text: str) -> None:
    """Replace client.keys by temporary file and rename, as OS_WriteKeys does."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.chmod(0o640)
    os.replace(temporary, path)
