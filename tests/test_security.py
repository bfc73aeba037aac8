"""SECURITY.md names a test for each line, and each named test is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
TABLE = re.search("<!-- threats -->\n(.*?)\n<!-- /threats -->", TEXT, re.DOTALL)
LINES = TABLE[1].splitlines()[2:] if TABLE else []
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_the_table_is_there() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip())
def test_each_threat_names_tests_that_are_there(line: str) -> None:
    named = NAMED.findall(line.split("|")[3])
    assert named
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        assert test in {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}, (file, test)


def test_every_file_it_links_to_is_there() -> None:
    assert all((ROOT / link).exists() for link in re.findall(r"\]\(([^)#:]+)\)", TEXT))
