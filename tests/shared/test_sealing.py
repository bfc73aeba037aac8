"""A signature holds for exactly what was signed: any change of key, subject, body or covered header breaks it."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared import ed25519, sealing
from shared.sealing import Key, MessageSigner, SigningKey

hmac_keys = st.binary(min_size=sealing.KEY_BYTES, max_size=sealing.KEY_BYTES).map(Key)
keys: st.SearchStrategy[SigningKey] = st.one_of(
    hmac_keys, st.binary(min_size=32, max_size=32).map(ed25519.PrivateKey.from_raw)
)  # fmt: skip
headers = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)
subjects = st.text(max_size=20)
bodies = st.binary(max_size=60)

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)
PAIR = ed25519.PrivateKey.from_raw(b"p" * 32)


def foreign_keys() -> tuple[bytes, bytes, bytes]:
    """PEM that is well-formed and nothing to sign with here."""
    no, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    p8, passphrase = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    curve = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    locked = Ed25519PrivateKey.generate().private_bytes(pem, p8, passphrase)
    return curve, x25519.X25519PrivateKey.generate().private_bytes(pem, p8, no), locked


both = st.sampled_from([MessageSigner(KEY), MessageSigner(PAIR), MessageSigner(PAIR, beside=[KEY])])


@given(keys, subjects, bodies, headers)
def test_what_was_signed_verifies(key: SigningKey, subject: str, body: bytes, covered: dict[str, str]) -> None:
    signer = MessageSigner(key)
    assert signer.verify_header(signer.sign_header(subject, body, covered), subject, body, covered)
    assert signer.verify_signature(body, signer.sign_message(body))


@given(both, subjects, bodies, headers, subjects, bodies, headers)
def test_any_change_of_subject_body_or_covered_header_breaks_it(
    signer: MessageSigner,
    subject: str,
    body: bytes,
    covered: dict[str, str],
    other_subject: str,
    other_body: bytes,
    other_covered: dict[str, str],
) -> None:
    value = signer.sign_header(subject, body, covered)
    for one in [(other_subject, body, covered), (subject, other_body, covered), (subject, body, other_covered)]:
        assert signer.verify_header(value, *one) == (one == (subject, body, covered))


@given(both, bodies, bodies)
def test_a_message_s_signature_is_of_that_message(signer: MessageSigner, message: bytes, other: bytes) -> None:
    assert signer.verify_signature(other, signer.sign_message(message)) == (message == other)


@given(keys, keys)
def test_another_key_neither_verifies_nor_shares_its_id(one: SigningKey, other: SigningKey) -> None:
    assume(one.kid != other.kid)
    value = MessageSigner(one).sign_header("s", b"body", {})
    assert not MessageSigner(other).verify_header(value, "s", b"body", {})
    assert not MessageSigner(other).verify_signature(b"body", MessageSigner(one).sign_message(b"body"))
    swapped = value.replace(one.kid, other.kid)
    assert not MessageSigner(other, [one]).verify_header(swapped, "s", b"body", {})


@given(both, st.text())
@example(MessageSigner(PAIR), "00" * 64)
@example(MessageSigner(PAIR), "00" * 63 + " 00")
def test_no_text_is_a_signature_and_none_is_an_error(signer: MessageSigner, text: str) -> None:
    algorithm = signer.signing[0].algorithm
    assert not signer.verify_header(text, "s", b"body", {})
    assert not signer.verify_header(f"{algorithm};{signer.kid};{text}", "s", b"body", {})
    assert not signer.verify_signature(b"body", text)


@given(st.sampled_from([MessageSigner(KEY), MessageSigner(PAIR)]), st.integers(0, 400), st.characters())
def test_any_other_character_in_a_header_s_signature_breaks_it(signer: MessageSigner, place: int, character: str) -> None:
    """Also one that spells the same bytes: upper case of a hex digit."""
    value = signer.sign_header("s", b"body", {})
    place %= len(value)
    for changed in (value[:place] + character + value[place + 1 :], value[:place] + value[place].upper() + value[place + 1 :]):
        assert signer.verify_header(changed, "s", b"body", {}) == (changed == value)


@given(st.binary(min_size=32, max_size=32), bodies)
def test_whoever_holds_the_public_half_verifies_and_cannot_sign(seed: bytes, body: bytes) -> None:
    private = ed25519.PrivateKey.from_raw(seed)
    public = ed25519.PublicKey.from_raw(private.public.raw)
    assert public.kid == private.kid
    assert public.verifies(body, private.sign(body))
    assert sealing.signs(private)
    assert not sealing.signs(public)
    with pytest.raises(TypeError, match="public key"):
        MessageSigner(public)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="public key"):
        MessageSigner(KEY, beside=[public])  # type: ignore[list-item]


@given(bodies)
def test_a_public_key_is_no_secret_to_sign_with(body: bytes) -> None:
    """The oldest trick against two algorithms: HMAC under the bytes of the public key, under either name."""
    verifier = sealing.Verifier([PAIR.public])
    forged = Key(PAIR.public.raw).sign(sealing.statement("s", body, {}))
    for algorithm in (sealing.HMAC_SHA256, ed25519.ALGORITHM, "none", ""):
        assert not verifier.verify_header(f"{algorithm};{PAIR.kid};{forged}", "s", body, {})
    assert Key(PAIR.public.raw).kid != PAIR.kid


def test_a_signer_goes_on_with_other_keys() -> None:
    signer, old = MessageSigner(KEY), MessageSigner(KEY)
    signer.renew(MessageSigner(PAIR, accepted=[KEY]))
    assert (signer.kid, signer.kids) == (PAIR.kid, (PAIR.kid, KEY.kid))
    assert PAIR.verifies(b"m", signer.sign_message(b"m"))
    assert signer.verify_signature(b"m", old.sign_message(b"m"))
    assert not old.verify_header(signer.sign_header("s", b"", {}), "s", b"", {})


def test_the_key_beside_signs_headers_and_not_bodies_and_none_signs_twice() -> None:
    signer = MessageSigner(PAIR, beside=[KEY, PAIR])
    value = signer.sign_header("s", b"", {})
    assert [entry.split(";")[:2] for entry in value.split(", ")] == [["ed25519", PAIR.kid], ["hmac-sha256", KEY.kid]]
    assert MessageSigner(KEY).verify_header(value, "s", b"", {})
    assert not MessageSigner(KEY).verify_signature(b"m", signer.sign_message(b"m"))


def test_a_key_that_is_rotated_leaves_nothing_unverifiable() -> None:
    old, new = MessageSigner(KEY), MessageSigner(OTHER, accepted=[KEY])
    assert new.kid == OTHER.kid
    assert new.verify_header(old.sign_header("s", b"", {}), "s", b"", {})
    assert new.verify_signature(b"m", old.sign_message(b"m"))
    double = f"{new.sign_header('s', b'', {})}, {old.sign_header('s', b'', {})}"
    assert old.verify_header(double, "s", b"", {})
    assert sealing.verify_header({OTHER.kid: OTHER}, double, "s", b"", {})


def test_a_header_with_more_signatures_than_a_rotation_needs_is_refused_wherever_the_good_one_stands() -> None:
    good, most = MessageSigner(KEY).sign_header("s", b"", {}), sealing.MAX_SIGNATURES
    for place in range(most):
        entries = ["x"] * (most - 1)
        entries.insert(place, good)
        assert sealing.verify_header({KEY.kid: KEY}, ",".join(entries), "s", b"", {})
        assert not sealing.verify_header({KEY.kid: KEY}, ",".join([*entries, "x"]), "s", b"", {})
    assert not sealing.verify_header({KEY.kid: KEY}, good + "," + "x" * sealing.MAX_HEADER, "s", b"", {})


def test_as_many_of_the_longest_signatures_as_are_allowed_fit() -> None:
    pairs = [ed25519.PrivateKey.from_raw(bytes([number]) * 32) for number in range(sealing.MAX_SIGNATURES)]
    signer = MessageSigner(pairs[0], beside=pairs[1:])
    assert sealing.Verifier([pairs[-1].public]).verify_header(signer.sign_header("s", b"", {}), "s", b"", {})


@pytest.mark.parametrize("algorithm", ["hmac-sha1", "HMAC-SHA256", "ed25519", "", "none"])
def test_another_algorithm_is_no_signature(algorithm: str) -> None:
    value = MessageSigner(KEY).sign_header("s", b"", {})
    assert not sealing.verify_header({KEY.kid: KEY}, value.replace("hmac-sha256", algorithm), "s", b"", {})


def test_anybody_can_compute_the_signature() -> None:
    """HMAC-SHA256 over a JSON array: version, subject, SHA-256 of the body, the covered headers sorted."""
    digest = hashlib.sha256(b"body").hexdigest()
    statement = f'["wazuh-jetstream/1","a.b","{digest}",[["A","1"],["B","\\u00e9"]]]'
    assert sealing.statement("a.b", b"body", {"B": "é", "A": "1"}) == statement.encode()
    expected = hmac.new(KEY.secret, statement.encode(), hashlib.sha256).hexdigest()
    assert MessageSigner(KEY).sign_header("a.b", b"body", {"B": "é", "A": "1"}) == f"hmac-sha256;{KEY.kid};{expected}"


@given(st.binary(max_size=200), st.binary(max_size=200))
@example(b"k" * 64, b"")
@example(b"k" * 65, b"x")
def test_a_secret_signs_as_rfc_2104_has_it(secret: bytes, message: bytes) -> None:
    key = Key(secret)
    assert [key.sign(message) for _ in range(2)] == [hmac.new(secret, message, hashlib.sha256).hexdigest()] * 2


@given(subjects, bodies, headers)
def test_a_statement_of_what_was_made_before_is_the_same(subject: str, body: bytes, covered: dict[str, str]) -> None:
    pairs = [sealing.pair(name, value) for name, value in sorted(covered.items())]
    assert sealing.stated(subject, hashlib.sha256(body).hexdigest(), pairs) == sealing.statement(subject, body, covered)


@given(st.binary(min_size=32, max_size=32))
def test_neither_a_key_s_repr_nor_its_id_shows_it(secret: bytes) -> None:
    assume(len(set(secret)) > 8)
    assert repr(Key(secret)) == "Key()"
    assert Key(secret).kid not in secret.hex()
    pair = ed25519.PrivateKey.from_raw(secret)
    assert secret.hex() not in repr(pair)
    assert repr(secret)[2:-1] not in repr(pair)
    assert pair.kid not in secret.hex()


def test_a_pair_goes_through_its_files_and_what_is_no_pair_is_refused() -> None:
    private, public = ed25519.read(PAIR.pem()), ed25519.read(PAIR.public.pem())
    assert isinstance(private, ed25519.PrivateKey)
    assert isinstance(public, ed25519.PublicKey)
    assert private.kid == public.kid == PAIR.kid
    assert ed25519.PrivateKey.generate().kid != ed25519.PrivateKey.generate().kid
    for text in (b"", b"-----BEGIN PRIVATE KEY-----", EC_PUBLIC, X25519_PRIVATE, WITH_PASSPHRASE, PAIR.pem()[:60]):
        with pytest.raises(ValueError):
            ed25519.read(text)


EC_PUBLIC, X25519_PRIVATE, WITH_PASSPHRASE = foreign_keys()
