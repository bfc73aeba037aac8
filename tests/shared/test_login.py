"""Who we are comes from files, wrong ones are named, and no secret is ever shown."""

import re
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nats.errors
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.protocol import command

from shared import config, login
from shared.config import NatsConfig
from shared.errors import ConfigError
from shared.jsapi import Message
from tests.nats_server import NatsServer


def options(tmp_path: Path, text: str | bytes) -> dict[str, object]:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return login.options(NatsConfig(credentials_file=path))


def test_nothing_is_needed() -> None:
    assert login.options(NatsConfig()) == {}


@pytest.mark.parametrize("text", ["u:p:w", "u:p:w\n", "  u:p:w  \r\n"])
def test_a_user_and_a_password(tmp_path: Path, text: str) -> None:
    assert options(tmp_path, text) == {"user": "u", "password": "p:w"}


@pytest.mark.parametrize("text", ["", "hunter2", ":hunter2", "u:", "u:hunter2\nv:w", b"\xff\xfe", "x" * 100_000])
def test_another_file_is_refused_and_not_shown(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError, match="credentials_file") as refused:
        options(tmp_path, text)
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            login.options(NatsConfig(credentials_file=path))


@pytest.mark.parametrize(("text", "option"), [("-----BEGIN NATS USER JWT-----\nx\n", "user_credentials"), ("SUAEXAMPLE\n", "nkeys_seed")])
def test_nkeys_go_to_the_library_that_can_sign_with_them(tmp_path: Path, text: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert options(tmp_path, text) == {option: str(tmp_path / "credentials")}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="nkeys"):
        options(tmp_path, text)


def test_a_token_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("hunter2\n")
    assert login.options(NatsConfig(token_file=path)) == {"token": "hunter2"}
    for text in ("", "hunter2 hunter3", "hunter2\nhunter3"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="token_file") as refused:
            login.options(NatsConfig(token_file=path))
        assert "hunter" not in str(refused.value)


def test_a_client_is_a_user_or_has_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both set"):
        login.options(NatsConfig(token_file=tmp_path / "t", credentials_file=tmp_path / "c"))


@pytest.mark.parametrize("key", ["credentials_file", "token_file"])
def test_a_secret_that_others_can_read_is_refused_with_what_mends_it(tmp_path: Path, key: str) -> None:
    path = tmp_path / "secret"
    path.write_text("u:hunter2")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=rf"nats\.{key}.*mode 644.*chmod 600 {path}") as refused:
        login.options(NatsConfig.model_validate({key: path}))
    assert "hunter2" not in str(refused.value)


def test_the_key_of_a_certificate_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Also where it stands in one file with the certificate."""
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    for path in (cert, key):
        path.write_text("-----BEGIN PRIVATE KEY-----\n")
        path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"nats\.tls_key .*chmod 600"):
        login.options(NatsConfig(tls_cert=cert, tls_key=key))
    with pytest.raises(ConfigError, match=r"nats\.tls_cert .*chmod 600"):
        login.options(NatsConfig(tls_cert=cert))


def test_no_key_turns_the_verification_of_the_server_off() -> None:
    """Whoever adds one must change this list, and say why."""
    speaking_of_tls = {key for key, *_ in config.describe() if re.search("tls|verif|insecure|hostname|skip", key)}
    assert {key for key in speaking_of_tls if key.startswith("nats.")} == {"nats.tls_cert", "nats.tls_key", "nats.tls_ca"}


@pytest.mark.parametrize(
    ("settings", "state", "words"),
    [
        ({}, "ok", "stays on this machine"),
        ({"url": "nats://127.1.2.3:4222,nats://[::1]:4222,nats://localhost"}, "ok", "stays on this machine"),
        ({"url": "nats://10.0.0.5:4222,nats://localhost"}, "warn", "no TLS to 10.0.0.5:"),
        ({"url": "nats://nats.example.org"}, "warn", "no TLS to nats.example.org"),
        ({"url": "tls://nats.example.org"}, "ok", "the authorities of this system"),
        ({"url": "nats://h", "tls_ca": "/ca.crt", "tls_cert": "/c.crt"}, "ok", "verified by /ca.crt, with a certificate of our own"),
    ],
)
def test_check_tells_what_goes_in_the_clear(settings: dict[str, str], state: str, words: str) -> None:
    found = login.transport(NatsConfig.model_validate(settings))
    assert (found.state, words in found.detail, bool(found.remedy)) == (state, True, state == "warn")


def test_tls_is_wanted_where_anything_speaks_of_it(tmp_path: Path) -> None:
    assert not login.wants_tls(NatsConfig())
    assert login.wants_tls(NatsConfig(url="nats://a,tls://b"))
    for key in ("tls_ca", "tls_cert", "tls_key"):
        assert login.wants_tls(NatsConfig.model_validate({key: tmp_path}))


def test_tls_verifies_the_server() -> None:
    context = login.options(NatsConfig(url="tls://h"))["tls"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("key", ["tls_ca", "tls_cert"])
def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    for path in (tmp_path / "none.pem", tmp_path / "x.pem"):
        with pytest.raises(ConfigError, match="tls_ca"):
            login.options(NatsConfig.model_validate({key: path}))


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nats\.tls_cert"):
        login.options(NatsConfig(tls_key=tmp_path / "k"))


def test_the_collector_s_import_of_nats_brings_nothing_heavy() -> None:
    """Memory on a manager counts: what one import drags in is measured in megabytes."""
    heavy = ["aiohttp", "nkeys", "cryptography", "requests", "prometheus_client", "sqlalchemy", "wsgiref"]
    program = f"import sys; from shared import jetstream; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Recorder(Client):
    """nats-py's own client, that tells what it would have written."""

    sent = b""

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent = cmd


@given(
    st.dictionaries(st.sampled_from(["Wazuh-Kind", "ce-id", "Nats-Msg-Id", "odd name", "é"]), st.text(" ab:\t\n\r\x0b\xa0é", max_size=4))
)
@example({"Wazuh-Kind": "moved", "ce-id": "evt"})
async def test_a_block_of_headers_is_what_nats_py_writes_or_left_to_it(headers: dict[str, str]) -> None:
    plain = all(value.isascii() and value.isalpha() for value in headers.values()) and not {"odd name", "é"} & headers.keys()
    client, block = Recorder(), login.plain_block(headers)
    assert block is not None or not plain
    if block is not None:
        await client._send_publish("a.b", "", b"body", 4, headers)
        assert client.sent == command.hpub_cmd("a.b", "", block, b"body")


names = st.sampled_from(["Wazuh-Kind", "ce-id", "odd name"])
values = st.sampled_from(["moved", "evt", " 1", "1\r\nB: 2"])


@given(st.lists(st.tuples(st.sampled_from(["a.b", "a b"]), st.dictionaries(names, values), st.dictionaries(names, values)), max_size=3))
@example([("a.b", {"ce-id": "evt"}, {"Wazuh-Kind": "moved"}), ("a.b", {"ce-id": "evt"}, {})])
async def test_messages_that_go_together_are_what_nats_py_writes_one_by_one_or_left_to_it(
    given: list[tuple[str, dict[str, str], dict[str, str]]],
) -> None:
    messages = [Message(subject, b"body", own, shared) for subject, own, shared in given]
    plain = all(
        subject == "a.b" and {*(own | shared).values()} <= {"moved", "evt"} and "odd name" not in own | shared and not own.keys() & shared
        for subject, own, shared in given
    )
    commands = login.plain_commands(messages)
    assert (commands is not None) == plain
    for message, written in zip(messages, commands or [], strict=commands is not None):
        client = Recorder()
        await client._send_publish(message.subject, "", message.body, len(message.body), message.all_headers)
        assert client.sent == written


@given(
    st.lists(
        st.tuples(st.sampled_from(["Wazuh-Kind", "ce-id", "a", "odd name", "é", ""]), st.text(" ab:\t\n\r\x0b\xa0é", max_size=4)),
        max_size=4,
    ),
    st.sampled_from([b"NATS/1.0\r\n", b"NATS/1.0 503\r\n"]),
)
@example([("Wazuh-Kind", "moved"), ("ce-id", "a: b"), ("ce-id", "evt")], b"NATS/1.0\r\n")
async def test_a_block_that_is_read_at_once_is_what_nats_py_reads(headers: list[tuple[str, str]], status: bytes) -> None:
    block = status + "".join(f"{name}: {value}\r\n" for name, value in headers).encode() + b"\r\n"
    found = login.plain_headers(block)
    if found is not None:
        assert found == await Client()._process_headers(block)
    if (
        status == b"NATS/1.0\r\n"
        and headers
        and all(name.isascii() and name.isalpha() and value.isalpha() and value.isascii() for name, value in headers)
    ):
        assert found is not None


async def test_what_is_odd_goes_nats_pys_own_way(nats_server: NatsServer) -> None:
    """A line's end in a value never begins another header."""
    client = login.SecureClient()
    await client.connect(nats_server.url)
    inbox = await client.subscribe("x")
    for headers in ({"A": "1\r\nB: 2"}, {"A": " 1 "}, {"A": "1"}):
        await client.publish("x", b"", headers=headers)
    assert [(await inbox.next_msg(5)).headers for _ in range(3)] == [{"A": "1  B: 2"}, {"A": "1"}, {"A": "1"}]
    await client.close()


async def test_messages_that_go_together_come_in_order_the_odd_ones_too(nats_server: NatsServer) -> None:
    client = login.SecureClient()
    await client.connect(nats_server.url)
    inbox = await client.subscribe("x")
    shared = {"S": "1"}
    plain = [Message("x", b"%d" % number, {"A": str(number)}, shared) for number in range(3)]
    await client.publish_all(plain)
    await client.publish_all([*plain, Message("x", b"3", {"A": "1\r\nB: 2"}, shared)])
    found = [await inbox.next_msg(5) for _ in range(7)]
    assert [(one.data, one.headers) for one in found] == [
        *[(b"%d" % number, {"S": "1", "A": str(number)}) for number in (0, 1, 2, 0, 1, 2)], (b"3", {"S": "1", "A": "1  B: 2"}),
    ]  # fmt: skip
    assert client.stats["out_msgs"] == 7
    assert client.stats["out_bytes"] == 7
    await client.close()
    with pytest.raises(nats.errors.ConnectionClosedError):
        await client.publish_all(plain)


def test_a_tls_transport_that_was_closed_twice_does_not_stop_a_reconnect() -> None:
    """asyncio.sslproto of Python 3.11.2: such a transport has no protocol left that it could abort."""

    class Transport:
        def abort(self) -> None:
            raise AttributeError("'NoneType' object has no attribute '_abort'")

    client = login.SecureClient()
    client._transport = SimpleNamespace(_io_writer=SimpleNamespace(transport=Transport()))  # type: ignore[assignment]
    client.hang_up()
    assert client._transport is None
