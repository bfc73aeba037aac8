"""The configuration that goes through the pipe is the one that was checked."""

from pathlib import Path
from types import SimpleNamespace

from collector import lean
from shared import config


def test_what_arrives_has_every_value_of_what_was_checked(tmp_path: Path) -> None:
    checked = config.load(
        None,
        {
            "WAZUH_JETSTREAM__WAZUH__HOME": str(tmp_path),
            "WAZUH_JETSTREAM__WAZUH__MANAGER_NODE": 'a "node" \\ é',
            "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": "/etc/key",
        },
    )
    arrived = lean.load(lean.dump(checked))
    assert isinstance(arrived, SimpleNamespace)
    for section in type(checked).model_fields:
        fields = type(getattr(checked, section)).model_fields
        assert {name: getattr(getattr(checked, section), name) for name in fields} == vars(getattr(arrived, section))
    assert isinstance(arrived.security.signing_key_path, Path)
