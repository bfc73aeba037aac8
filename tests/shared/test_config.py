"""The configuration is either whole and right, or refused in one sentence that says where and what."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared import config
from shared.config import Config
from shared.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def load(file: Path, text: str, **environ: str) -> Config:
    file.write_text(text)
    return config.load(file, {f"WAZUH_JETSTREAM__{name}": value for name, value in environ.items()})


def refusal(file: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(file, text, **environ)
    sentence = str(refused.value)
    assert sentence.isprintable()
    return sentence


# What is accepted ---------------------------------------------------------------------------------------------------


def test_everything_has_a_default() -> None:
    assert config.load(None, {}) == Config()


@pytest.mark.parametrize("text", ["", "{}", "nats:\n", "nats: {}\n", "nats: {url: null}\n", "# nothing\n"])
def test_an_empty_file_section_or_value_means_the_default(file: Path, text: str) -> None:
    assert load(file, text) == Config()


def test_the_file_of_the_first_specification_is_understood(file: Path) -> None:
    loaded = load(
        file,
        """
wazuh: {db_path: "/var/ossec/queue/db/global.db", poll_interval: "5s", manager_node: "wazuh-manager-01"}
nats:
  url: "nats://localhost:4222"
  credentials_file: "/etc/wazuh-nats/nats.creds"
  tls_cert: "/etc/wazuh-nats/client.crt"
  tls_key: "/etc/wazuh-nats/client.key"
  subject_prefix: "wazuh"
  max_reconnects: 10
  reconnect_delay: "2s"
security:
  signing_key_path: "/etc/wazuh-nats/signing.key"
  encrypt_messages: true
  encryption_key_path: "/etc/wazuh-nats/encryption.key"
monitoring: {enable_metrics: true, metrics_port: 9090, log_level: "info"}
""",
    )
    assert (loaded.wazuh.poll_interval, loaded.wazuh.manager_node) == (5, "wazuh-manager-01")
    assert (loaded.nats.reconnect_delay, loaded.nats.credentials_file) == (2, Path("/etc/wazuh-nats/nats.creds"))


def test_the_environment_wins_over_the_file(file: Path) -> None:
    loaded = load(
        file,
        "nats: {url: 'nats://a:1', replicas: 2}",
        NATS__URL="nats://b:2,tls://c:3",
        MONITORING__METRICS_PORT="0",
        MONITORING__ENABLE_METRICS="false",
        COLLECTOR__SPOOL_MAX_BYTES="1GiB",
        RELAY__RESET_GRACE="90s",
        COLLECTOR__SOURCE_BUDGET="0.02",
        WAZUH__MANAGER_NODE="007",
        NATS__TLS_CA="",
    )
    assert (loaded.nats.url, loaded.nats.replicas, loaded.nats.tls_ca) == ("nats://b:2,tls://c:3", 2, None)
    assert (loaded.monitoring.metrics_port, loaded.monitoring.enable_metrics) == (0, False)
    assert (loaded.collector.spool_max_bytes, loaded.relay.reset_grace, loaded.collector.source_budget) == (1 << 30, 90, 0.02)
    assert loaded.wazuh.manager_node == "007"


def test_other_variables_are_not_ours() -> None:
    environ = {"WAZUH_JETSTREAM_CRASH_AT": "x", "WAZUH_JETSTREAM_FIXTURES": "y", "PATH": "z", "wazuh_jetstream__nats__url": "w"}
    assert config.load(None, environ) == Config()


def test_wazuh_s_paths_are_below_its_home_unless_they_are_set(file: Path, tmp_path: Path) -> None:
    wazuh = load(file, f"wazuh: {{home: {tmp_path}, socket_path: /run/wdb}}").wazuh
    assert (wazuh.db_path, wazuh.socket_path) == (tmp_path / "queue/db/global.db", Path("/run/wdb"))
    assert wazuh.client_keys_path == tmp_path / "etc/client.keys"


def test_the_configuration_of_wazuh_5_is_found_where_4_has_none(file: Path, tmp_path: Path) -> None:
    text = f"wazuh: {{home: {tmp_path}}}"
    assert load(file, text).wazuh.config_path == tmp_path / "etc/ossec.conf"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/wazuh-manager.conf").touch()
    assert load(file, text).wazuh.config_path == tmp_path / "etc/wazuh-manager.conf"
    (tmp_path / "etc/ossec.conf").touch()
    assert load(file, text).wazuh.config_path == tmp_path / "etc/ossec.conf"


def test_a_loaded_configuration_cannot_be_changed() -> None:
    loaded = config.load(None, {})
    with pytest.raises(ValueError, match="frozen"):
        loaded.nats.url = "nats://x"


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nats: {urll: x}", ["nats.urll", "config.yaml", "nats.url"]),
        ("nat: {url: x}", ["nat", "config.yaml", "nats"]),
        ("relay: {reset_grase: 1}", ["reset_grase", "relay.reset_grace"]),
        ('nats: {"a\\e[2J": 1}', ["x1b[2J"]),
        ("1: {}", ["1"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(file: Path, text: str, names: list[str]) -> None:
    sentence = refusal(file, text)
    assert "unknown" in sentence
    assert all(name in sentence for name in names)


def test_an_unknown_variable_is_refused_with_the_nearest_known_key(file: Path) -> None:
    sentence = refusal(file, "", NATS__URLS="x")
    assert "WAZUH_JETSTREAM__NATS__URLS" in sentence
    assert "nats.url" in sentence
    assert "unknown" in refusal(file, "", NATS="x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("wazuh: {poll_interval: often}", ["wazuh.poll_interval", "'often'", '"500ms"']),
        ("wazuh: {poll_interval: 0}", ["at least 50ms"]),
        ("wazuh: {poll_interval: true}", ["True", '"5s"']),
        ("wazuh: {home: 3}", ["wazuh.home", "a path"]),
        ("wazuh: {source: sockets}", ["'sockets'", "auto, socket, file"]),
        ("wazuh: {manager_node: 1}", ["a text (in quotes)"]),
        ("wazuh: {manager_node: ''}", ["printable"]),
        ('wazuh: {manager_node: "a\\nb"}', ["printable"]),
        ("nats: {replicas: many}", ["'many'", "a whole number"]),
        ("nats: {replicas: 9}", ["at most 5"]),
        ("nats: {url: localhost}", ["nats.url", "nats://"]),
        ("nats: {url: 'nats://h:99999'}", ["nats.url"]),
        ("nats: {url: 'nats://[h'}", ["nats.url"]),
        ("nats: {url: 'nats://h:0'}", ["nats.url"]),
        ("nats: {url: 'nats://a:1,http://b'}", ["nats.url"]),
        ("nats: {subject_prefix: 'a.*'}", ["nats.subject_prefix", "letters"]),
        ("security: {encrypt_messages: 7}", ["true or false"]),
        ("monitoring: {metrics_port: 70000}", ["65535"]),
        ("collector: {spool_max_bytes: 1MB}", ["'1MB'", '"64MiB"']),
        ("collector: {spool_max_bytes: 1KiB}", ["at least 1MiB"]),
        ("collector: {source_budget: 0}", ["above 0"]),
        ("collector: {source_budget: .nan}", ["nan"]),
        ("relay: {name: 'a.b'}", ["relay.name", "letters"]),
        ("relay: {consumer: ''}", ["relay.consumer"]),
        ("nats: {url: 5, replicas: x}", ["nats.url", "1 more"]),
        ("nats: 3", ["section nats", "keys and values"]),
        ("- a", ["sections wazuh"]),
        ("text", ["sections wazuh"]),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_expected(file: Path, text: str, parts: list[str]) -> None:
    sentence = refusal(file, text)
    assert "config.yaml" in sentence
    for part in parts:
        assert part in sentence


def test_a_wrong_variable_is_named(file: Path) -> None:
    assert "WAZUH_JETSTREAM__NATS__REPLICAS' is 'x'" in refusal(file, "nats: {replicas: 3}", NATS__REPLICAS="x")


@pytest.mark.parametrize(
    "text",
    [
        "nats: {url: 'nats://user:hunter2@h'}",
        "nats: {url: ['nats://user:hunter2@h']}",
        "nats: {url: 'nats://hunter2@h'}",
        "relay: {ledger_url: 'postgresql+psycopg://user:hunter2@h/db'}",
        "relay: {ledger_url: ['postgresql://user:hunter2@h/db']}",
    ],
)
def test_a_secret_in_the_configuration_is_refused_and_not_shown(file: Path, text: str) -> None:
    assert "hunter2" not in refusal(file, text)


def test_a_ledger_without_a_password_is_accepted(file: Path) -> None:
    url = "postgresql+psycopg://user@host/db"
    assert load(file, f"relay: {{ledger_url: '{url}'}}").relay.ledger_url == url


@pytest.mark.parametrize(
    "text", ["a: [", "nats: {url: a, url: b}", "nats: {}\nnats: {}", "\x01", "a: &a [*a", "!!python/object:os.system {}", "{[1]: 2}"]
)
def test_what_is_no_yaml_is_refused_with_its_line(file: Path, text: str) -> None:
    assert "not YAML" in refusal(file, text)


@pytest.mark.parametrize("text", ["a: " + "[" * 1000, "a: " + "x" * config.MAX_FILE_BYTES])
def test_a_hostile_file_is_refused(file: Path, text: str) -> None:
    refusal(file, text)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            config.load(path, {})


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([key for key, *_ in config.describe()]), _values)
def test_any_value_of_any_key_is_accepted_or_refused_in_one_printable_sentence(key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    given = config._Given(value, "x.yaml")
    try:
        config._validate({key: given})
    except ConfigError as refused:
        sentence = str(refused)
    else:
        sentence = key
    assert sentence.isprintable()
    assert name in sentence
    assert section in sentence


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, errors="surrogateescape")
    sentence = ""
    try:
        config.load(file, {})
    except ConfigError as refused:
        sentence = str(refused)
    assert sentence.isprintable()


# What commands need -------------------------------------------------------------------------------------------------


def test_a_key_that_a_command_needs_is_asked_for_by_name() -> None:
    assert config.require(Path("/k"), "security.signing_key_path") == Path("/k")
    with pytest.raises(ConfigError, match=r"security\.signing_key_path is not set.*openssl"):
        config.require(None, "security.signing_key_path")


def test_every_key_is_described_with_a_default_that_can_be_written_back(tmp_path: Path) -> None:
    described = config.describe()
    assert len({key for key, *_ in described}) == len(described) > 40
    tree: dict[str, dict[str, object]] = {}
    for key, kind, default, description in described:
        assert description.endswith((".", ")")), key
        assert kind
        section, _, name = key.partition(".")
        if "{home}" not in default and default:
            tree.setdefault(section, {})[name] = yaml.safe_load(default)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(tree))
    assert config.load(tmp_path / "all.yaml", {}) == Config()
    kinds = {key: kind for key, kind, *_ in described}
    assert kinds["wazuh.source"] == "auto | socket | file"
    assert kinds["nats.tls_ca"] == "path"
    assert kinds["wazuh.manager_node"] == "text"
    assert kinds["monitoring.enable_metrics"] == "true/false"
