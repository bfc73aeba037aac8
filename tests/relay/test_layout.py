"""What a layout makes of headers is what is signed and what the chain is over, whatever the headers are; and it is remembered only
where names are short."""

from hypothesis import example, given
from hypothesis import strategies as st

from relay import chain, events, layout, seal
from shared import sealing
from tests.relay.streams import SIGNER, messages

NAMES = st.one_of(
    st.sampled_from(
        [events.H_KIND, events.H_ENCRYPTION, events.H_CHAIN, events.H_PREVIOUS, events.CE_ID, events.CE_CONTENT, "Nats-Msg-Id"]
    ),
    st.sampled_from(
        ["wazuh-kind", "WAZUH-KIND", "ce-ID", "wazuh-", "wazuh-kind:", "wazuh-kind: a\nce-id", "ce-%s", 'ce-"', "Wazuh-Signature"]
    ),
    st.text(max_size=6).map("Wazuh-".__add__),
    st.text(max_size=6),
)
VALUES = st.one_of(st.text(max_size=8), st.sampled_from(['"', "\\", "%s", "\ud800", "\r\n", "é\U0001f600"]))


@given(st.dictionaries(NAMES, VALUES, max_size=12), st.one_of(st.sampled_from(["wazuh.agent.001.status", 'a."', "é"]), st.text(max_size=5)))
@example({}, "")
@example({"Wazuh-Kind": "b", "wazuh-kind": "a", "WAZUH-KIND": "c"}, "x")
def test_a_layout_says_what_is_signed_and_what_is_chained(headers: dict[str, str], subject: str) -> None:
    found, body = layout.of(headers), b"body"
    assert found.statement(subject, chain.sha256(body), headers) == sealing.statement(subject, body, events.covered(headers))
    assert found.content("0" * 64, headers) == chain.content("0" * 64, headers)
    assert found.encrypted == any(name.lower() == "wazuh-encryption" for name in headers)


def test_messages_with_the_same_names_share_one_and_long_names_are_not_kept() -> None:
    one, other = (seal.seal(message, 1, 7, SIGNER)[2] for message in messages(1))
    assert layout.of(one) is layout.of(other)
    long = {"wazuh-" + "x" * layout.KEPT: "1"}
    assert layout.of(long) is not layout.of(long)
