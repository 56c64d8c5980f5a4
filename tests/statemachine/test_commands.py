"""Batches as bytes: the picture in commands.py, every cut of it, and the seed's own messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.commands import (
    BATCH_HEADER,
    BATCH_VERSION,
    TIME_MS_MAX,
    BatchBuilder,
    BatchHead,
    CommandList,
    LogId,
    SnapshotMetadata,
    WriteCommand,
    decode_snapshot_metadata,
    encode_snapshot_metadata,
    read_commands,
    read_head,
    slots_of,
    stamp,
    wrap_command,
)
from statemachine.errors import Fatal, Rejected
from tests.statemachine.batches import add, batch_of, delete, insert, put

# The lengths around which a varint grows, and around which the ready-made prefixes end.
LENGTHS = [0, 1, 127, 128, 2047, 2048, 2049, 16_383, 16_384, 1 << 20]


def builder_with(*commands: WriteCommand | tuple[bytes, bytes]) -> BatchBuilder:
    """Pairs are put, messages are added."""
    builder = BatchBuilder()
    for command in commands:
        if isinstance(command, tuple):
            builder.put(*command)
        else:
            builder.add(command)
    return builder


def commands_of(batch: bytes) -> list[WriteCommand]:
    return list(read_commands(batch).commands)


def test_a_batch_is_the_picture_in_the_header() -> None:
    batch = stamp(builder_with((b"k", b"v")).build(b"n1", epoch=2, sequence=3), 4)
    assert batch[0] == BATCH_VERSION == 3
    assert batch[1] == len(b"n1")
    assert batch[2:4] == b"\0\0"
    assert batch[4:12] == (4).to_bytes(8, "little")
    assert batch[12:20] == (2).to_bytes(8, "little")
    assert batch[20:28] == (3).to_bytes(8, "little")
    assert batch[28:30] == b"n1"
    assert CommandList.FromString(batch[30:]) == CommandList(commands=[put((b"k", b"v"))])


def test_what_is_built_is_read_back() -> None:
    batch = builder_with((b"k", b"v"), add(b"n", -5)).build(b"n1", 7, 2**64 - 1)
    assert read_head(batch) == BatchHead(now_ms=0, epoch=7, sequence=2**64 - 1, origin=b"n1")
    assert commands_of(batch) == [put((b"k", b"v")), add(b"n", -5)]


def test_neighbouring_puts_travel_as_one_and_never_pass_another_command() -> None:
    builder = builder_with(
        (b"a", b"1"), (b"b", b"2"), delete(b"a"), (b"a", b"3"), put((b"c", b"4")), (b"d", b"5")
    )
    assert commands_of(builder.build()) == [
        put((b"a", b"1"), (b"b", b"2")),
        delete(b"a"),
        put((b"a", b"3")),
        put((b"c", b"4")),
        put((b"d", b"5")),
    ]


def test_put_many_is_many_puts() -> None:
    builder = builder_with((b"a", b"1"))
    builder.put_many([b"b", b"c"], [b"2", b"3"])
    assert commands_of(builder.build()) == [put((b"a", b"1"), (b"b", b"2"), (b"c", b"3"))]
    with pytest.raises(Rejected, match="1 keys and 2 values"):
        builder.put_many([b"b"], [b"2", b"3"])


@pytest.mark.parametrize("value_bytes", LENGTHS)
@pytest.mark.parametrize("key_bytes", LENGTHS)
def test_puts_are_encoded_as_protobuf_does_it(key_bytes: int, value_bytes: int) -> None:
    pairs = [(b"k" * key_bytes, b"v" * value_bytes), (b"x", b"y")]
    batch = builder_with(*pairs).build()
    assert batch[28:] == CommandList(commands=[put(*pairs)]).SerializeToString()


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), min_size=1))
def test_any_column_of_puts_is_encoded_as_protobuf_does_it(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    batch = builder_with(*pairs).build()
    assert batch[28:] == CommandList(commands=[put(*pairs)]).SerializeToString()


def test_width_counts_result_slots() -> None:
    builder = BatchBuilder()
    assert builder.width == 0
    builder.put(b"a", b"")
    builder.add(add(b"n", 1))
    builder.add(put((b"b", b""), (b"c", b"")))
    builder.put_many([b"d", b"e", b"f"], [b""] * 3)
    assert builder.width == 1 + 1 + 2 + 3
    assert sum(map(slots_of, commands_of(builder.build()))) == builder.width


def test_bytes_count_is_never_too_small_and_not_far_above() -> None:
    for n in [0, 1, 100]:
        for length in [0, 127, 128, 20_000]:
            builder = BatchBuilder()
            for _ in range(n):
                builder.put(b"k", b"v" * length)
                builder.add(insert(b"k", b"v" * length, ttl_ms=5))
                builder.put_many([b"a", b"b"], [b"", b"v" * length])
            built = len(builder.build(b"n1", 1, 1))
            assert built <= builder.bytes_count <= built + 300 + 20 * builder.width


def test_a_builder_may_be_filled_on_after_it_was_built() -> None:
    builder = builder_with((b"a", b"1"))
    first = builder.build()
    assert builder.build() == first
    builder.put(b"b", b"2")
    assert builder.width == 2
    assert commands_of(builder.build()) == [put((b"a", b"1")), put((b"b", b"2"))]


def test_an_added_message_is_taken_as_it_was() -> None:
    command = insert(b"k", b"before")
    builder = builder_with(command)
    command.insert.value = b"after"
    assert commands_of(builder.build()) == [insert(b"k", b"before")]


@pytest.mark.parametrize(
    ("origin", "epoch", "sequence"), [(b"n" * 256, 1, 1), (b"", 1, 0), (b"", 0, 1)]
)
def test_a_batch_with_an_impossible_origin_is_not_built(
    origin: bytes, epoch: int, sequence: int
) -> None:
    with pytest.raises(Rejected):
        BatchBuilder().build(origin, epoch, sequence)


def test_the_longest_origin_fits() -> None:
    assert read_head(BatchBuilder().build(b"n" * 255, 1, 1)).origin == b"n" * 255


def test_stamp_changes_the_time_and_nothing_else() -> None:
    batch = builder_with((b"k", b"v")).build(b"n1", 1, 1)
    stamped = stamp(batch, TIME_MS_MAX)
    assert read_head(stamped).now_ms == TIME_MS_MAX
    assert stamp(stamped, 0) == batch


@pytest.mark.parametrize("now_ms", [-1, TIME_MS_MAX + 1])
def test_stamp_refuses_a_time_that_is_none(now_ms: int) -> None:
    with pytest.raises(Rejected, match="out of range"):
        stamp(batch_of(), now_ms)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage", id="shorter than the header"),
        pytest.param(b"x" * 100, id="garbage"),
        pytest.param(BATCH_HEADER.pack(0, 0, 0, 0, 0, 0), id="version 0"),
        pytest.param(BATCH_HEADER.pack(1, 0, 1, 0, 0, 0), id="the zero field is not zero"),
        pytest.param(BATCH_HEADER.pack(1, 0, 0, 2**63, 0, 0), id="a time after the last"),
        pytest.param(BATCH_HEADER.pack(1, 2, 0, 0, 1, 1) + b"n", id="ends in the origin"),
        pytest.param(BATCH_HEADER.pack(1, 0, 0, 0, 0, 1), id="anonymous with a sequence"),
    ],
)
def test_nonsense_is_rejected(batch: bytes) -> None:
    with pytest.raises(Rejected):
        read_head(batch)
    with pytest.raises(Rejected):
        stamp(batch, 1)


def test_a_batch_of_a_newer_program_is_fatal_because_others_may_apply_it() -> None:
    newer = BATCH_HEADER.pack(BATCH_VERSION + 1, 0, 0, 0, 0, 0)
    with pytest.raises(Fatal, match="newer version on all nodes"):
        read_head(newer)


def test_every_cut_of_a_batch_is_rejected_or_a_prefix_of_its_commands() -> None:
    whole = builder_with((b"key", b"value"), add(b"n", 1), (b"k2", b"v2")).build(b"n1", 1, 1)
    commands = commands_of(whole)
    for cut in range(len(whole)):
        try:
            read_head(whole[:cut])
            read = commands_of(whole[:cut])
        except Rejected:
            continue
        assert read == commands[: len(read)], f"{cut=}"
        assert len(read) < len(commands), f"{cut=}"


# The seed's bytes, made by hand: tag (field << 3 | 2 for bytes, | 0 for numbers), length, bytes.
SEED_INSERT = b"\x0a\x08" + b"\x0a\x01k" + b"\x12\x01v" + b"\x18\x05"
SEED_INSERT_EMPTY_VALUE = b"\x0a\x03" + b"\x0a\x01k"  # proto3 leaves out what is empty.
SEED_DELETE = b"\x12\x03" + b"\x0a\x01k"
SEED_SWAP = b"\x1a\x0b" + b"\x0a\x01k" + b"\x12\x03old" + b"\x1a\x01n"
SEED_SWAP_IF_ABSENT = b"\x1a\x06" + b"\x0a\x01k" + b"\x1a\x01n"
SEED_SWAP_IF_EMPTY = b"\x1a\x08" + b"\x0a\x01k" + b"\x12\x00" + b"\x1a\x01n"
Swap = WriteCommand.CompareAndSwap


@pytest.mark.parametrize(
    ("wire", "want"),
    [
        (SEED_INSERT, insert(b"k", b"v", ttl_secs=5)),
        (SEED_INSERT_EMPTY_VALUE, insert(b"k", b"")),
        (SEED_DELETE, delete(b"k")),
        (
            SEED_SWAP,
            WriteCommand(compare_and_swap=Swap(key=b"k", expected_value=b"old", new_value=b"n")),
        ),
        (
            SEED_SWAP_IF_ABSENT,
            WriteCommand(compare_and_swap=Swap(key=b"k", new_value=b"n")),
        ),
        (
            SEED_SWAP_IF_EMPTY,
            WriteCommand(compare_and_swap=Swap(key=b"k", expected_value=b"", new_value=b"n")),
        ),
    ],
    ids=["insert", "empty value", "delete", "swap", "swap if absent", "swap if empty"],
)
def test_the_seeds_own_bytes_decode(wire: bytes, want: WriteCommand) -> None:
    batch = wrap_command(wire, now_ms=9)
    assert read_head(batch) == BatchHead(now_ms=9, epoch=0, sequence=0, origin=b"")
    assert commands_of(batch) == [want]


def test_absent_and_empty_expected_values_are_told_apart() -> None:
    if_absent, if_empty = WriteCommand(), WriteCommand()
    if_absent.ParseFromString(SEED_SWAP_IF_ABSENT)
    if_empty.ParseFromString(SEED_SWAP_IF_EMPTY)
    assert not if_absent.compare_and_swap.HasField("expected_value")
    assert if_empty.compare_and_swap.HasField("expected_value")


def test_nonsense_in_place_of_a_command_is_rejected_when_it_is_read() -> None:
    with pytest.raises(Rejected, match="do not decode"):
        read_commands(wrap_command(b"\xff\xff"))


def test_snapshot_metadata_survives_its_bytes() -> None:
    metadata = SnapshotMetadata(LogId(index=3, term=1), checksum=bytes(range(32)), size_bytes=77)
    assert decode_snapshot_metadata(encode_snapshot_metadata(metadata)) == metadata


def test_the_seeds_snapshot_metadata_decodes() -> None:
    wire = b"\x0a\x04\x08\x01\x10\x03" + b"\x12\x20" + b"\xaa" * 32
    want = SnapshotMetadata(LogId(index=3, term=1), checksum=b"\xaa" * 32, size_bytes=0)
    assert decode_snapshot_metadata(wire) == want


def test_nonsense_in_place_of_snapshot_metadata_is_rejected() -> None:
    with pytest.raises(Rejected, match="does not decode"):
        decode_snapshot_metadata(b"\xff\xff")
