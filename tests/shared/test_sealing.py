"""A signature holds for exactly what was signed: any change of key, subject, body or covered header breaks it."""

import hashlib
import hmac

from hypothesis import assume, given
from hypothesis import strategies as st

from shared import sealing
from shared.sealing import Key, MessageSigner

keys = st.binary(min_size=sealing.KEY_BYTES, max_size=sealing.KEY_BYTES).map(Key)
headers = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)
subjects = st.text(max_size=20)
bodies = st.binary(max_size=60)

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)


@given(keys, subjects, bodies, headers)
def test_what_was_signed_verifies(key: Key, subject: str, body: bytes, covered: dict[str, str]) -> None:
    signer = MessageSigner(key)
    assert signer.verify_header(signer.sign_header(subject, body, covered), subject, body, covered)
    assert signer.verify_signature(body, signer.sign_message(body))


@given(subjects, bodies, headers, subjects, bodies, headers)
def test_any_change_of_subject_body_or_covered_header_breaks_it(
    subject: str, body: bytes, covered: dict[str, str], other_subject: str, other_body: bytes, other_covered: dict[str, str]
) -> None:
    signer = MessageSigner(KEY)
    value = signer.sign_header(subject, body, covered)
    for one in [(other_subject, body, covered), (subject, other_body, covered), (subject, body, other_covered)]:
        assert signer.verify_header(value, *one) == (one == (subject, body, covered))


@given(bodies, bodies)
def test_a_message_s_signature_is_of_that_message(message: bytes, other: bytes) -> None:
    signer = MessageSigner(KEY)
    assert signer.verify_signature(other, signer.sign_message(message)) == (message == other)


@given(keys, keys)
def test_another_key_neither_verifies_nor_shares_its_id(one: Key, other: Key) -> None:
    assume(one != other)
    assert one.kid != other.kid
    value = MessageSigner(one).sign_header("s", b"body", {})
    assert not MessageSigner(other).verify_header(value, "s", b"body", {})
    assert not MessageSigner(other).verify_signature(b"body", MessageSigner(one).sign_message(b"body"))
    swapped = value.replace(one.kid, other.kid)
    assert not MessageSigner(other, [one]).verify_header(swapped, "s", b"body", {})


@given(st.text())
def test_no_text_is_a_signature_and_none_is_an_error(text: str) -> None:
    signer = MessageSigner(KEY)
    assert not signer.verify_header(text, "s", b"body", {})
    assert not signer.verify_header(f"{sealing.HMAC_SHA256};{KEY.kid};{text}", "s", b"body", {})
    assert not signer.verify_signature(b"body", text)


@given(st.integers(0, 200), st.characters())
def test_any_other_character_in_a_header_s_signature_breaks_it(place: int, character: str) -> None:
    signer = MessageSigner(KEY)
    value = signer.sign_header("s", b"body", {})
    place %= len(value)
    changed = value[:place] + character + value[place + 1 :]
    assume(changed != value)
    assert not signer.verify_header(changed, "s", b"body", {})


def test_a_key_that_is_rotated_leaves_nothing_unverifiable() -> None:
    old, new = MessageSigner(KEY), MessageSigner(OTHER, accepted=[KEY])
    assert new.kid == OTHER.kid
    assert new.verify_header(old.sign_header("s", b"", {}), "s", b"", {})
    assert new.verify_signature(b"m", old.sign_message(b"m"))
    both = f"{new.sign_header('s', b'', {})}, {old.sign_header('s', b'', {})}"
    assert old.verify_header(both, "s", b"", {})
    assert sealing.verify_header({OTHER.kid: OTHER}, both, "s", b"", {})


def test_more_signatures_than_a_rotation_needs_are_not_looked_at() -> None:
    good = MessageSigner(KEY).sign_header("s", b"", {})
    assert sealing.verify_header({KEY.kid: KEY}, ",".join(["x"] * (sealing.MAX_SIGNATURES - 1) + [good]), "s", b"", {})
    assert not sealing.verify_header({KEY.kid: KEY}, ",".join(["x"] * sealing.MAX_SIGNATURES + [good]), "s", b"", {})


def test_another_algorithm_is_no_signature() -> None:
    value = MessageSigner(KEY).sign_header("s", b"", {})
    assert not sealing.verify_header({KEY.kid: KEY}, value.replace("sha256", "sha1"), "s", b"", {})


def test_anybody_can_compute_the_signature() -> None:
    """HMAC-SHA256 over a JSON array: version, subject, SHA-256 of the body, the covered headers sorted."""
    digest = hashlib.sha256(b"body").hexdigest()
    statement = f'["wazuh-jetstream/1","a.b","{digest}",[["A","1"],["B","\\u00e9"]]]'
    assert sealing.statement("a.b", b"body", {"B": "é", "A": "1"}) == statement.encode()
    expected = hmac.new(KEY.secret, statement.encode(), hashlib.sha256).hexdigest()
    assert MessageSigner(KEY).sign_header("a.b", b"body", {"B": "é", "A": "1"}) == f"hmac-sha256;{KEY.kid};{expected}"


@given(keys)
def test_neither_a_key_s_repr_nor_its_id_shows_it(key: Key) -> None:
    assume(len(set(key.secret)) > 8)
    assert repr(key) == "Key()"
    assert key.secret.hex()[:16] != key.kid
