"""The cluster block, out of whatever an administrator typed around it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import files, ossecconf
from collector.ossecconf import NodeIdentity
from shared.errors import ConfigError

STANDALONE = NodeIdentity("wazuh", "node01", "standalone")


def block(**options: str) -> str:
    return "<cluster>" + "".join(f"<{name}>{value}</{name}>" for name, value in options.items()) + "</cluster>"


def conf(*blocks: str) -> str:
    return f"<ossec_config>{''.join(blocks)}</ossec_config>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (conf(), STANDALONE),
        ("<ossec_config/>", STANDALONE),
        (conf("<global><jsonout_output>yes</jsonout_output></global>"), STANDALONE),
        (conf(block(name="c", node_name="n1", node_type="master", disabled="no")), NodeIdentity("c", "n1", "master")),
        (conf(block(name="c", node_name="n1", node_type="worker")), NodeIdentity("c", "n1", "worker")),
        (conf(block(name="c", node_name="n1", node_type="client")), NodeIdentity("c", "n1", "worker")),
        (conf(block(name="c", node_name="n1", node_type="master", disabled="yes")), NodeIdentity("c", "n1", "standalone")),
        (conf("<cluster/>"), NodeIdentity("wazuh", "node01", "master")),
        (conf(block(node_name="")), NodeIdentity("wazuh", "node01", "master")),
        (conf("<cluster><disabled/><node_name> n1\n</node_name></cluster>"), NodeIdentity("wazuh", "n1", "master")),
        (conf(block(node_name="a"), block(node_name="b", name="c")), NodeIdentity("c", "b", "master")),
        (conf(block(node_name="a", name="x"), block(node_name="b")), NodeIdentity("wazuh", "b", "master")),
        (conf(block(node_name="a")) + "\n<!-- x -->\n" + conf(block(node_name="b")), NodeIdentity("wazuh", "b", "master")),
        (conf(block(node_name="a")) + conf(), NodeIdentity("wazuh", "a", "master")),
        (conf("<!-- ", block(node_name="a"), " -->", block(node_name="b")), NodeIdentity("wazuh", "b", "master")),
        (conf(block(node_name="a")) + "<!-- " + conf(block(node_name="b")), NodeIdentity("wazuh", "a", "master")),
        (conf("<cluster><nodes><node_name>x</node_name></nodes></cluster>"), NodeIdentity("wazuh", "node01", "master")),
        (conf("<regex>(?<x>a)</regex>", block(node_name="a")), NodeIdentity("wazuh", "a", "master")),
        (conf("</nothing>", block(node_name="a&amp;b")), NodeIdentity("wazuh", "a&b", "master")),
        (block(node_name="outside") + conf(), STANDALONE),
        (conf("<a>" + block(node_name="inside") + "</a>"), STANDALONE),
        (conf("<node_name>stray</node_name>"), STANDALONE),
        ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "boom">]>' + conf(block(node_name="&e;")), NodeIdentity("wazuh", "&e;", "master")),
        ("<wazuh_config></wazuh_config>", NodeIdentity("wazuh", "node01", "master")),
        (f"<wazuh_config>{block(node_name='w', node_type='worker', disabled='yes')}</wazuh_config>", NodeIdentity("wazuh", "w", "worker")),
        ("<ossec_config><cluster><node_name>unclosed", NodeIdentity("wazuh", "unclosed", "master")),
    ],
)  # fmt: skip
def test_the_node_of_a_configuration(text: str, expected: NodeIdentity) -> None:
    assert ossecconf.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no <ossec_config>"),
        ("<html></html>", "no <ossec_config>"),
        ("\0\1\2" * 1000, "no <ossec_config>"),
        (conf(block(node_type="boss")), "node_type 'boss'"),
        (conf(block(node_name="a\x1bb")), "printable"),
        (conf(block(name="x" * 256)), "printable"),
        (conf("<a>" * 100), "nested deeper"),
    ],
)
def test_what_is_no_configuration_of_a_node_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        ossecconf.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def outcome(text: str) -> str:
    try:
        return ossecconf.parse(text).node_name
    except ConfigError as error:
        return str(error)


PIECES = ["<", "<a", "<a>", "<!--", "<!-- -->", "</a>", "<a ", "<" + "a" * 100, "&amp;", "<cluster>", "</ossec_config>", ">"]


@pytest.mark.parametrize("piece", PIECES)
def test_the_time_grows_with_the_text_alone(piece: str) -> None:
    """Four megabytes of anything; quadratic time would not end before the run does."""
    told = outcome(conf(piece * (ossecconf.MAX_BYTES // len(piece))))
    assert told == "node01" or "nested" in told


@given(st.lists(st.sampled_from([*PIECES, "<ossec_config>", "</cluster>", "<node_name>", "x", "-->", "<a/>"])))
def test_any_tags_give_a_node_or_a_sentence(pieces: list[str]) -> None:
    assert outcome("".join(pieces))


def test_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ossec.conf"
    path.write_bytes(b"\xef\xbb\xbf" + conf(block(node_name="n1")).encode())
    assert ossecconf.read(path).node_name == "n1"


def test_a_file_that_cannot_be_used_is_one_sentence_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ossec.conf"
    with pytest.raises(ConfigError, match="No such file"):
        ossecconf.read(path)
    for content, words in ((b"x" * (ossecconf.MAX_BYTES + 1), "larger than"), (b"<html>", "cannot be used")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words) as caught:
            ossecconf.read(path)
        assert str(path) in str(caught.value)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        ossecconf.read(path)

    def refuse(_: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open_regular", refuse)
    with pytest.raises(ConfigError, match="group wazuh"):
        ossecconf.read(path)
