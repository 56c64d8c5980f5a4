"""The peer protocol: what is encoded comes back, junk is refused, cuts make no difference."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import wire
from node.entry import KIND_BATCH, KIND_CONFIG, KIND_NOOP, NOOP_COMMAND, wrap
from node.roster import Roster
from node.wire import FrameReader, WireError
from statemachine.commands import BATCH_VERSION
from tests.support.fake_service import members
from tests.support.fence import batch
from tests.support.fuzz import damaged, junk, valid_frame

NONCE = bytes(16)
SHA256 = bytes(32)
BATCH = batch(9, 1, b"n1:ab")
NEWER_BATCH = bytes((BATCH_VERSION + 1,)) + BATCH[1:]
ROSTER = Roster.founded_by(members(3)).encode()
ROWS: list[list[Any]] = [[2, KIND_BATCH, BATCH], [3, KIND_NOOP, b""], [3, KIND_CONFIG, ROSTER]]
EXAMPLES: list[list[Any]] = [
    [wire.HELLO, 1, "n1", "n2", 7, NONCE, 1, 1, 1],
    [wire.PROOF, SHA256],
    [wire.PING],
    [wire.APPEND, 3, 9, 8, 2, ROWS],
    [wire.ACK, 3, 10, False, True],
    [wire.VOTE_REQUEST, 4, 9, 3, True],
    [wire.VOTE, 4],
    [wire.PRE_VOTE, 4, 9, 3],
    [wire.PRE_GRANT, 4],
    [wire.HIGHER_TERM, 2**63 - 1],
    [wire.TIMEOUT_NOW, 4],
    [wire.FORWARD, BATCH],
    [wire.READ_PROBE, 4, 1],
    [wire.READ_ECHO, 4, 1],
    [wire.READ_ASK, 1],
    [wire.READ_GRANT, 1, 9],
    [wire.SNAPSHOT_BEGIN, 4, 2, 9, 3, 100, SHA256],
    [wire.SNAPSHOT_CHUNK, 2, 0, b"bytes"],
    [wire.SNAPSHOT_ACK, 2, 100, True],
    [wire.INCARNATION, "5f0c9e12a4b7d386"],
    [wire.ROSTER, 7, ROSTER],
    [wire.STRANGER, 7, "5f0c9e12a4b7d386"],
    [wire.OUTCOME_ASK, b"n1:5f0c", 3, 7],
    [wire.OUTCOME, 3, 7, b"\x91\xc3"],
]
WRONG: dict[type, list[Any]] = {
    int: [-1, 1 << 63, 1 << 64, 1.0, True, None, b"1", "1"],
    bytes: ["text", None, 5, [b""]],
    str: ["", "x" * 64, b"n1", None, 5],
    bool: [0, 1, None],
    list: [
        None,
        {},
        [[]],
        [[1, KIND_BATCH]],
        [[1, 99, b""]],
        [[1, KIND_NOOP, b"x"]],
        [[1, KIND_CONFIG, b"x"]],
    ],
}
WRONG[list] += [
    [[-1, KIND_BATCH, b""]],
    [[1, KIND_BATCH, "text"]],
    [[1, KIND_BATCH, b"no batch"]],
    [[1, KIND_BATCH, NEWER_BATCH]],
    [[1, True, b""]],
    [[1, 1.0, b""]],
]


def body(*message: Any) -> bytes:
    packed: bytes = msgpack.packb(list(message))
    return packed


def test_there_is_an_example_of_every_kind() -> None:
    assert sorted(example[0] for example in EXAMPLES) == sorted(wire._SHAPES)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: str(message[0]))
def test_a_message_comes_back(message: list[Any]) -> None:
    frame = wire.encode(*message)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert wire.decode(frame[4:]) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: str(message[0]))
def test_a_message_with_any_wrong_field_is_refused(message: list[Any]) -> None:
    for place, field in enumerate(message[1:], 1):
        for wrong in WRONG[type(field)]:
            try:
                broken = body(*message[:place], wrong, *message[place + 1 :])
            except OverflowError:
                continue  # msgpack itself has no such number
            with pytest.raises(WireError, match=f"field {place} of message kind {message[0]}"):
                wire.decode(broken)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: str(message[0]))
def test_a_message_with_a_field_too_few_or_too_many_is_refused(message: list[Any]) -> None:
    if message[0] == wire.HELLO:
        assert wire.decode(body(*message, {"new": 1}))[:9] == message  # a newer program's
        wire.decode(body(*message[:6]))  # the first hello there was
        message = message[:6]
    else:
        with pytest.raises(WireError):
            wire.decode(body(*message, 0))
    if len(message) > 1:
        with pytest.raises(WireError):
            wire.decode(body(*message[:-1]))


@pytest.mark.parametrize("size_bytes", [0, 15, 17, 31, 33])
def test_a_nonce_or_a_checksum_of_another_length_is_refused(size_bytes: int) -> None:
    with pytest.raises(WireError):
        wire.decode(body(wire.HELLO, 1, "n1", "n2", 7, bytes(size_bytes), 1, 1, 1))
    with pytest.raises(WireError):
        wire.decode(body(wire.SNAPSHOT_BEGIN, 4, 2, 9, 3, 100, bytes(size_bytes)))


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        body(),
        body("text"),
        body(None),
        body(0),
        body(99),
        body(True),
        msgpack.packb({1: 2}),
        msgpack.packb(4),
        body(wire.PING) + b"more",
        b"\xdd\xff\xff\xff\xff",  # an array of 4 G elements
        b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes
        b"\x91" * 5000,  # very deep
        b"\x92\x01\x81\x90\x01",  # a map whose key is a list
        b"\xd7\xff" + bytes(8),  # a timestamp
        b"\xc1",
        b"\x92\x01\xa1\xff",  # text that is no UTF-8
    ],
)
def test_nonsense_is_refused(junk: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(junk)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_wire_error(junk: bytes) -> None:
    try:
        wire.decode(junk)
    except WireError:
        pass  # the only error there may be


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary()
VALUES = st.recursive(
    PLAIN | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(wire._SHAPES)), st.lists(VALUES, max_size=6), st.data())
def test_structured_junk_raises_nothing_but_wire_error(
    kind: int, fields: list[Any], data: st.DataObject
) -> None:
    packed = bytearray(body(kind, *fields))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = wire.decode(bytes(packed))
    except WireError:
        return
    if message[0] == wire.APPEND:
        wire.entries_of(message[3], message[5])  # what was let through is usable


@pytest.mark.parametrize("junk", [b"", b"nonsense", NEWER_BATCH])
def test_a_forwarded_batch_without_a_head_is_refused(junk: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(body(wire.FORWARD, junk))


@pytest.mark.parametrize(
    ("previous_term", "terms", "reason"),
    [
        pytest.param(3, [2], "term 2 behind one of term 3", id="falls from the entry before"),
        pytest.param(1, [3, 2], "term 2 behind one of term 3", id="falls along the entries"),
        pytest.param(1, [3, 5], "term 5 from a leader of term 4", id="of the future"),
        pytest.param(5, [], "term 5 from a leader of term 4", id="behind one of the future"),
    ],
)
def test_terms_along_a_log_neither_fall_nor_pass_their_leader_s(
    previous_term: int, terms: list[int], reason: str
) -> None:
    rows = [[term, KIND_NOOP, b""] for term in terms]
    with pytest.raises(WireError, match=reason):
        wire.decode(body(wire.APPEND, 4, 9, 8, previous_term, rows))


@pytest.mark.parametrize("index_term", [0, 5])
def test_a_snapshot_of_no_term_or_of_a_future_one_is_refused(index_term: int) -> None:
    with pytest.raises(WireError, match="a snapshot of term"):
        wire.decode(body(wire.SNAPSHOT_BEGIN, 4, 2, 9, index_term, 100, SHA256))


def damage(seed: int, count: int) -> tuple[int, int]:
    """Read damaged frames, whole streams of them: how many messages and errors came of it."""
    rng = random.Random(seed)
    messages = errors = 0
    for _ in range(count):
        frame = valid_frame(rng, (1, 5)) if rng.random() < 0.9 else wire.encode(wire.PING)
        data = junk(rng) if rng.random() < 0.1 else damaged(rng, frame)
        try:
            for body_bytes in FrameReader(1 << 20).feed(data):
                message = wire.decode(body_bytes)
                messages += 1
                if message[0] == wire.APPEND:
                    wire.entries_of(message[3], message[5])
        except WireError:
            errors += 1
    return messages, errors


def test_damaged_frames_are_messages_or_one_clean_error() -> None:
    messages, errors = damage(1, 20_000)
    assert messages > 1000
    assert errors > 10_000


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_a_million_damaged_frames_are_messages_or_one_clean_error() -> None:
    messages, errors = damage(2, 1_000_000)
    assert messages > 50_000
    assert errors > 500_000


def test_entries_are_numbered_from_the_previous_index() -> None:
    entries = [(wrap(KIND_BATCH, BATCH), 8, 3), (NOOP_COMMAND, 9, 4)]
    message = wire.decode(wire.encode_append(4, 5, 7, 3, entries)[4:])
    assert message[:5] == [wire.APPEND, 4, 5, 7, 3]
    assert wire.entries_of(message[3], message[5]) == entries


# -- frames --------------------------------------------------------------------------------------

STREAM = b"".join(wire.encode(*message) for message in EXAMPLES)
BODIES = [wire.encode(*message)[4:] for message in EXAMPLES]


def test_a_stream_cut_at_every_byte_gives_the_same_frames() -> None:
    for cut in range(len(STREAM) + 1):
        reader = FrameReader(1000)
        bodies = [*reader.feed(STREAM[:cut]), *reader.feed(STREAM[cut:])]
        assert bodies == BODIES, f"{cut=}"


@pytest.mark.parametrize("cut_bytes", [1, 2, 3, 5, 7, 64])
def test_a_stream_in_small_pieces_gives_the_same_frames(cut_bytes: int) -> None:
    reader = FrameReader(1000)
    bodies: list[bytes] = []
    for start in range(0, len(STREAM), cut_bytes):
        bodies += reader.feed(STREAM[start : start + cut_bytes])
    assert bodies == BODIES


def test_a_frame_that_is_too_long_is_refused_when_its_length_is_read() -> None:
    reader = FrameReader(100)
    frame = wire.LENGTH.pack(100) + bytes(100)
    assert list(reader.feed(frame)) == [bytes(100)]
    with pytest.raises(WireError, match="101 bytes, 100 allowed"):
        list(reader.feed(wire.LENGTH.pack(101)))


def test_frames_before_one_that_is_too_long_are_still_handed_over() -> None:
    bodies = FrameReader(100).feed(wire.encode(wire.PING) + wire.LENGTH.pack(1 << 31))
    assert next(bodies) == wire.encode(wire.PING)[4:]
    with pytest.raises(WireError):
        next(bodies)


def test_the_limit_may_rise_between_two_frames_of_one_read() -> None:
    reader = FrameReader(4)
    seen = []
    for part in reader.feed(wire.encode(wire.PING) + wire.LENGTH.pack(50) + bytes(50)):
        seen.append(len(part))
        reader.frame_bytes_max = 50
    assert seen == [2, 50]


def test_a_frame_that_is_not_complete_keeps_no_more_than_came() -> None:
    reader = FrameReader(1 << 30)
    assert list(reader.feed(wire.LENGTH.pack(1 << 29) + b"abc")) == []
    assert len(reader._buffer) == 7
