"""Laws of the proof: what the relay wrote is proved, and any one change of it is found and its place named."""

import secrets
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import chain, encryption, events, seal
from relay.chain import Head
from relay.publish import instead
from relay.stored import Outgoing
from relay.verify import MEANING, Fault, Signed, Told, Verdict, Verifier, proved
from shared import sealing
from tests.relay import streams
from tests.relay.streams import NONE, OTHER, SIGNER, beat, checkpoint, flipped, heads, messages, restored, stream

COUNTS = st.integers(3, 14)


def verified(found: list[Told], *signed: Told, kept_since: int | None = None) -> tuple[Verdict, list[Fault]]:
    verifier = Verifier(SIGNER, kept_since)
    faults = [fault for head in signed for fault in verifier.hear(head, "WAZUH_CHECKPOINTS")]
    for one in found:
        faults += verifier.take(one)
    faults += verifier.settle()
    assert verifier.settle() == []
    verdict = verifier.verdict()
    assert verdict.ok == (not faults)
    assert sum(verdict.faults.values()) == len(faults)
    return verdict, faults


def kinds(faults: list[Fault]) -> list[str]:
    return [fault.kind for fault in faults]


# What is genuine ----------------------------------------------------------------------------------------------------


@given(COUNTS, st.data())
def test_what_the_relay_wrote_is_proved_from_wherever_it_begins(count: int, data: st.DataObject) -> None:
    made = messages(count)
    begin = data.draw(st.integers(0, len(made) - 1))
    told = data.draw(st.lists(st.sampled_from(heads(made)), max_size=4))
    verdict, faults = verified(stream(made)[begin:], *map(checkpoint, told), beat(None))
    assert faults == []
    assert (verdict.messages, verdict.from_beginning) == (len(made) - begin, begin == 0)
    assert verdict.first is not None
    assert verdict.last is not None
    assert (verdict.first.outbox_sequence, verdict.last.outbox_sequence) == (begin + 1, len(made))
    newest = max((head.sequence for head in told if head.sequence > begin), default=0)
    assert (0 if verdict.complete is None else verdict.complete.head.sequence) == newest
    before = max((head.sequence for head in told if head.sequence <= begin), default=0)
    assert (0 if verdict.before is None else verdict.before.head.sequence) == before


def test_events_are_counted_once_each() -> None:
    assert verified(stream(messages(6)))[0].events == 6 + 2
    assert verified(stream(messages(1)))[0].events == 1


def test_signing_again_under_another_key_keeps_the_chain() -> None:
    made = messages(4)
    again = sealing.MessageSigner(sealing.Key(b"o" * 32), [sealing.Key(b"r" * 32)])
    verifier = Verifier(again)
    for one in (*stream(made)[:5], *stream(made, OTHER)[5:]):
        assert verifier.take(one) == []
    assert verifier.settle() == []


def test_what_is_encrypted_is_proved_with_the_key_and_forged_without_it() -> None:
    crypt = encryption.EncryptionHandler(encryption.Secret(b"e" * 32), (), secrets.token_bytes)
    found = stream(messages(3), crypt=crypt)
    for key, wanted in ((crypt, set[str]()), (None, {"forged"})):
        verifier = Verifier(SIGNER, crypt=key)
        faults = [fault for one in found for fault in verifier.take(one)] + verifier.settle()
        assert set(kinds(faults)) == wanted
        assert verifier.verdict().messages == len(found)


def test_what_wraps_a_body_is_not_of_the_chain() -> None:
    _, body, headers = seal.seal(messages(1)[0], 1, 7, SIGNER)
    wrapped = {**headers, "Wazuh-Encryption": "aes-256-gcm;x", "ce-datacontenttype": "application/octet-stream", "Wazuh-Signature": "x"}
    assert chain.content(chain.sha256(body), wrapped) == chain.content(chain.sha256(body), headers)
    for name in ("Wazuh-Kind", "Wazuh-Reason", "ce-id", "Wazuh-Raw-Position", "wazuh-anything-new"):
        assert chain.content(chain.sha256(body), {**headers, name: "x"}) != chain.content(chain.sha256(body), headers)


def test_messages_from_before_the_chain_are_proved_by_signature_and_order() -> None:
    made = messages(6)
    old, new = stream(made[:4], chained=False), stream(made[4:], head=Head("", 4, ""), first=5)
    verdict, faults = verified([*old, *new])
    assert (faults, verdict.unchained, verdict.from_beginning) == ([], 4, True)
    assert kinds(verified(restored([*old[:1], *old[2:], *new]))[1]) == ["missing"]
    assert kinds(verified(restored([*old, *new, old[1]]))[1]) == ["unchained"]


def test_a_message_that_the_server_refused_is_a_declared_gap() -> None:
    made = messages(4)
    found = stream(made)
    for place, one in enumerate(made, start=1):
        link = chain.link_of(found[place - 1].headers)
        assert link is not None
        stands = instead(Outgoing(place, 7, one, link), "too_large", "wazuh.security.manager_events")
        sealed = seal.seal(stands, place, 7, SIGNER, chain.headers(link))
        there = [*found[: place - 1], streams.told(place, sealed), *found[place:]]
        verdict, faults = verified(there, checkpoint(heads(made)[place - 1]))
        assert (faults, verdict.left_out) == ([], (f"outbox sequence {place} ({one.message_id})",))
        assert seal.message_id(sealed[2]) == one.message_id


def test_what_stood_in_the_outbox_before_the_chain_and_is_refused_has_no_digest() -> None:
    stands = instead(Outgoing(3, 7, messages(1)[0], chain.NO_LINK), "too_large", "wazuh.security.manager_events")
    assert events.H_DIGEST not in stands.headers


# Any single change --------------------------------------------------------------------------------------------------


@given(COUNTS, st.data())
def test_a_flipped_bit_is_found_where_it_is(count: int, data: st.DataObject) -> None:
    made = messages(count)
    found = stream(made)
    place = data.draw(st.integers(0, len(found) - 1))
    found[place] = flipped(found[place], data.draw(st.integers(0, 10_000)), data.draw(st.integers(0, 7)))
    (fault,) = verified(found, checkpoint(heads(made)[-1]))[1]
    assert (fault.kind, fault.stream_sequence, fault.outbox_sequence) == ("forged", place + 1, place + 1)
    assert fault.event_id == found[place].headers["ce-id"]
    assert fault.event_id in fault.sentence


@given(COUNTS, st.data())
def test_no_header_that_means_something_can_be_changed(count: int, data: st.DataObject) -> None:
    found = stream(messages(count))
    place = data.draw(st.integers(0, len(found) - 1))
    name = data.draw(st.sampled_from(sorted(events.covered(found[place].headers))))
    real = next(key for key in found[place].headers if key.lower() == name)
    found[place] = replace(found[place], headers={**found[place].headers, real: data.draw(st.sampled_from(["", "99999", "²"]))})
    faults = verified(found)[1]
    assert (kinds(faults), faults[0].stream_sequence) == (["forged"], place + 1)


@given(COUNTS, st.data())
def test_removed_messages_are_missed_before_what_stands_behind_them(count: int, data: st.DataObject) -> None:
    found = stream(messages(count))
    first = data.draw(st.integers(1, len(found) - 2))
    last = data.draw(st.integers(first, len(found) - 2))
    (fault,) = verified(restored([*found[:first], *found[last + 1 :]]))[1]
    assert (fault.kind, fault.outbox_sequence, fault.stream_sequence) == ("missing", first + 1, first + 1)
    assert f" {last + 1} " in fault.sentence
    assert fault.event_id == found[last + 1].headers["ce-id"]


@given(COUNTS, st.data())
def test_two_swapped_messages_are_both_out_of_their_place(count: int, data: st.DataObject) -> None:
    found = stream(messages(count))
    one = data.draw(st.integers(0, len(found) - 2))
    other = data.draw(st.integers(one + 1, len(found) - 1))
    found[one], found[other] = found[other], found[one]
    faults = verified(restored(found))[1]
    assert {fault.kind for fault in faults} == {"reordered"}
    places = {fault.stream_sequence for fault in faults}
    assert places & {one + 1, other + 1}
    assert places <= set(range(one + 1, other + 2))
    if one > 0 and other < len(found) - 1 and other != one + 2:  # of three in reverse order any two may be the ones that moved
        assert places == ({one + 1} if other == one + 1 else {one + 1, other + 1})


@given(COUNTS, st.data())
def test_a_genuine_message_put_in_a_second_time_is_found(count: int, data: st.DataObject) -> None:
    found = stream(messages(count))
    copied, at = data.draw(st.integers(0, len(found) - 1)), data.draw(st.integers(0, len(found)))
    faults = verified(restored([*found[:at], found[copied], *found[at:]]))[1]
    assert {fault.kind for fault in faults} <= {"repeated", "reordered"}
    assert {fault.outbox_sequence for fault in faults} & {copied + 1}
    assert all(fault.sentence and fault.kind in MEANING for fault in faults)


@given(COUNTS, st.data())
def test_a_message_of_somebody_else_is_found_where_it_is(count: int, data: st.DataObject) -> None:
    made = messages(count)
    found, foreign = stream(made), stream(made, OTHER)
    at, which = data.draw(st.integers(0, len(found))), data.draw(st.integers(0, len(found) - 1))
    (fault,) = verified(restored([*found[:at], foreign[which], *found[at:]]), checkpoint(heads(made)[-1]))[1]
    assert (fault.kind, fault.stream_sequence) == ("forged", at + 1)
    assert "another key" in fault.sentence


@given(COUNTS, st.data())
def test_an_end_that_was_cut_off_is_found_by_a_signed_head(count: int, data: st.DataObject) -> None:
    made = messages(count)
    left = data.draw(st.integers(0, len(made) - 1))
    end = data.draw(st.integers(left + 1, len(made)))
    told = data.draw(st.sampled_from([checkpoint, beat]))(heads(made)[end - 1])
    (fault,) = verified(stream(made)[:left], told)[1]
    assert (fault.kind, fault.stream_sequence, fault.outbox_sequence) == ("truncated", left or None, end)
    assert "WAZUH_CHECKPOINTS" in fault.sentence


@given(COUNTS)
def test_under_a_wrong_key_nothing_is_proved(count: int) -> None:
    made = messages(count)
    verdict, faults = verified(stream(made, OTHER), checkpoint(heads(made)[-1], signer=OTHER))
    assert (verdict.ok, verdict.first, verdict.faults) == (False, None, {"forged": len(made) + 1})
    assert [fault.stream_sequence for fault in faults[1:]] == list(range(1, len(made) + 1))


# Of the holder of a key ---------------------------------------------------------------------------------------------


@given(COUNTS, st.data())
def test_another_message_that_is_signed_too_breaks_the_chain_behind_it(count: int, data: st.DataObject) -> None:
    """Whoever has the key still cannot change one event alone."""
    made = messages(count)
    found, place = stream(made), data.draw(st.integers(0, len(made) - 2))
    link = chain.link_of(found[place].headers)
    assert link is not None
    foisted = made[place]._replace(headers={**made[place].headers, events.H_REASON: "silent"})
    found[place] = streams.told(place + 1, seal.seal(foisted, place + 1, 7, SIGNER, chain.headers(link)))
    (fault,) = verified(found)[1]
    assert (fault.kind, fault.stream_sequence) == ("broken_link", place + 2)
    late = verified(restored([*found[:place], *found[place + 1 : place + 2], found[place], *found[place + 2 :]]))[1]
    assert "broken_link" in kinds(late)


def test_a_chain_that_begins_anew_in_the_middle_is_told_once_and_proved_from_there() -> None:
    made = messages(6)
    other = stream(made[5:], first=9)
    verdict, faults = verified([*stream(made)[:8], *other])
    assert (kinds(faults), faults[0].stream_sequence) == (["other_chain"], 9)
    assert (verdict.chain, verdict.from_beginning) == (other[0].headers["Wazuh-Chain"], True)
    verdict, faults = verified(restored([*stream(made)[:8], *other[2:]]))
    assert (kinds(faults), verdict.chain) == (["other_chain"], other[0].headers["Wazuh-Chain"])


def test_a_message_of_another_chain_does_not_end_the_proof() -> None:
    made = messages(6)
    found = stream(made)
    stray = stream(made[5:])[4]
    verdict, faults = verified(restored([*found[:8], stray, *found[8:]]))
    assert (kinds(faults), verdict.chain) == (["other_chain"], found[0].headers["Wazuh-Chain"])
    assert verdict.last is not None
    assert verdict.last.outbox_sequence == len(made)


def test_what_is_signed_and_has_no_sequence_is_no_event() -> None:
    alone = streams.told(1, seal.seal_apart(messages(1)[0], SIGNER))
    assert "no outbox sequence" in verified([alone])[1][0].sentence


# Heads --------------------------------------------------------------------------------------------------------------


def test_a_head_that_tells_another_digest_is_found_wherever_it_is() -> None:
    made = messages(4)
    found, right = stream(made), heads(made)
    false = right[4]._replace(digest="0" * 64)
    assert kinds(verified(found, checkpoint(false))[1]) == ["false_head"]
    assert kinds(verified(found, checkpoint(right[-1]), checkpoint(right[-1]._replace(digest="0" * 64)))[1]) == ["false_head"]
    assert kinds(verified(found[5:], checkpoint(false))[1]) == ["false_head"]  # where the stream begins
    late = Verifier(SIGNER)
    for one in found:
        assert late.take(one) == []
    assert kinds(late.hear(beat(false), "WAZUH_HEARTBEATS")) == ["false_head"]
    for number in (4, 2):  # the newest counts, whichever comes last
        assert late.hear(beat(right[number]), "WAZUH_HEARTBEATS") == []
    complete = late.verdict().complete
    assert complete is not None
    assert complete.head == right[4]


def test_a_head_that_is_not_signed_proves_nothing_and_is_told() -> None:
    made = messages(2)
    verdict, faults = verified(stream(made), checkpoint(heads(made)[-1], signer=OTHER))
    assert (kinds(faults), verdict.complete) == (["forged"], None)
    assert "message 1 of WAZUH_CHECKPOINTS" in faults[0].sentence


def test_only_the_last_digests_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.verify.RECENT", 2)
    made = messages(4)
    verifier = Verifier(SIGNER)
    for one in stream(made):
        verifier.take(one)
    for head in heads(made):
        assert verifier.hear(beat(head), "WAZUH_HEARTBEATS") == []
    complete = verifier.verdict().complete
    assert complete is not None
    assert complete.head.sequence == len(made)


def test_a_beginning_that_is_gone_before_its_time_is_found() -> None:
    made = messages(8)
    found, signed = stream(made)[9:], heads(made)
    old, young = checkpoint(signed[2], at=1_000_000), checkpoint(signed[5], at=2_000_000)
    assert verified(found, old, young)[1] == []
    assert verified(found, old, kept_since=1_500_000)[1] == []
    verdict, faults = verified(found, old, young, kept_since=1_500_000)
    assert (kinds(faults), faults[0].stream_sequence) == (["removed_early"], 10)
    assert faults[0].sentence.startswith("3 messages before message 10 ")
    assert verdict.before == Signed(signed[5], "message 1 of WAZUH_CHECKPOINTS", 2_000_000, 2_000_000)


def test_an_empty_stream_may_be_empty_if_its_last_message_is_old_enough() -> None:
    last = heads(messages(3))[-1]
    told = [checkpoint(last, at=1_000_000), beat(last, at=9_000_000)]
    assert verified([], *told, kept_since=1_500_000)[1] == []
    for kept_since in (None, 900_000):
        (fault,) = verified([], *told, kept_since=kept_since)[1]
        assert (fault.kind, fault.outbox_sequence) == ("truncated", last.sequence)
    assert verified([])[1] == []


# While it goes on ---------------------------------------------------------------------------------------------------


def test_what_was_missing_and_comes_after_all_is_told_as_late() -> None:
    found = stream(messages(4))
    verifier = Verifier(SIGNER)
    told = [fault for one in (*found[:2], *found[4:]) for fault in verifier.take(one)] + verifier.settle()
    told += verifier.take(replace(found[3], stream_sequence=99)) + verifier.settle()
    assert [(fault.kind, fault.outbox_sequence) for fault in told] == [("missing", 3), ("reordered", 4)]


def test_a_whole_stream_is_proved_without_heads() -> None:
    found = stream(messages(4))
    assert proved(SIGNER, found)[0].ok
    verdict, faults = proved(SIGNER, [*found[:3], *found[4:]])
    assert (verdict.ok, kinds(faults)) == (False, ["missing"])


def test_a_chain_is_the_same_however_often_it_is_made() -> None:
    made = messages(5)
    assert heads(made) == heads(made)
    assert heads(made[3:], heads(made)[2]) == heads(made)[3:]
    assert heads(made)[0].chain != heads(made[1:], NONE)[0].chain


def test_a_link_is_what_the_headers_say() -> None:
    assert chain.link_of({}) is None
    assert chain.headers(chain.NO_LINK) == {}
    assert chain.head_of("s", {}, {}, 1) is None
    for made, found, head in zip(messages(4), stream(messages(4)), heads(messages(4)), strict=True):
        assert chain.head_of(found.subject, streams.fields(found), found.headers, head.sequence) == head, made.subject
    stands = {**found.headers, events.H_DIGEST: "d" * 64}
    assert chain.head_of("s", {}, stands, 9) == Head(found.headers["Wazuh-Chain"], 9, "d" * 64)
