"""The version stands in two places that must agree."""

import tomllib
from pathlib import Path

from shared.version import VERSION


def test_the_version_is_the_packages() -> None:
    assert tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"] == VERSION
