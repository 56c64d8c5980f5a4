"""Entries and the fixed frame: what is wrapped comes back, and nothing else is ever unwrapped."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.entry import (
    COMMAND_OVERHEAD_BYTES,
    KIND_BATCH,
    KIND_NOOP,
    NOOP_COMMAND,
    unwrap,
    wrap,
)
from node.errors import Fatal


@given(st.binary(max_size=2000))
def test_a_batch_comes_back_from_its_frame(batch: bytes) -> None:
    command = wrap(KIND_BATCH, batch)
    assert unwrap(command) == (KIND_BATCH, batch)
    assert len(command) == len(batch) + COMMAND_OVERHEAD_BYTES


def test_the_frame_is_the_one_that_is_drawn() -> None:
    assert wrap(KIND_BATCH, b"abc").hex(" ") == "00 80 03 4b 00 42 03 00 00 00 61 62 63 85 86 2e"
    assert wrap(KIND_NOOP, b"") == NOOP_COMMAND == b"\x01"
    assert unwrap(NOOP_COMMAND) == (KIND_NOOP, b"")


@pytest.mark.parametrize("size_bytes", [0, 255, 256, 65535, 65536, 1 << 20])
def test_sizes_around_the_bytes_of_the_length_come_back(size_bytes: int) -> None:
    batch = b"\x2e" * size_bytes
    assert unwrap(wrap(KIND_BATCH, batch)) == (KIND_BATCH, batch)
    assert pickle.loads(wrap(KIND_BATCH, batch)[1:]) == (0, (batch,))


@given(st.binary(max_size=64))
def test_junk_is_refused_unless_it_is_exactly_a_frame(junk: bytes) -> None:
    try:
        kind, batch = unwrap(junk)
    except Fatal:
        return
    assert wrap(kind, batch) == junk


def test_every_changed_byte_of_a_frame_outside_the_batch_is_refused() -> None:
    command = wrap(KIND_BATCH, b"batch")
    frame = [*range(10), *range(len(command) - 3, len(command))]
    for place in frame:
        broken = bytearray(command)
        broken[place] ^= 0x11
        with pytest.raises(Fatal):
            unwrap(bytes(broken))


def test_every_cut_frame_is_refused() -> None:
    command = wrap(KIND_BATCH, b"batch")
    for end in range(len(command)):
        with pytest.raises(Fatal):
            unwrap(command[:end])


@pytest.mark.parametrize("kind", [0, 4, 99, -1])
def test_a_kind_that_a_log_may_not_hold_is_not_wrapped(kind: int) -> None:
    if kind not in (KIND_BATCH, KIND_NOOP):
        with pytest.raises(Fatal, match=f"kind {kind}"):
            wrap(kind, b"")
