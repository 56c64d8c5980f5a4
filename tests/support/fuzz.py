"""Frames that no honest peer sends: well-formed nonsense, and well-formed frames that were damaged.

    nonsense(rng, near)   a message whose every field has the right shape and any value: zero, one,
                          the largest, or something near the numbers in `near` (terms, indexes)
    damaged(rng, frame)   the frame with a bit turned, a byte changed, cut, doubled or put in,
                          with or without its length made to fit
    junk(rng)             bytes

All randomness comes from `rng`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from node import wire
from node.entry import KIND_BATCH, KIND_NOOP
from statemachine.commands import BatchBuilder

__all__ = ["KINDS", "damaged", "entry_row", "junk", "nonsense", "valid_frame"]

_COUNTS = (0, 1, 2, 3, 7, 255, 1 << 16, 1 << 24, (1 << 24) + 9, 1 << 32, 1 << 48, (1 << 63) - 1)
_ORIGINS = (b"n1:ab", b"n2:ab", b"n3:ab", b"n1:0123456789abcdef", b"x", b"")
_INTRODUCTIONS = {wire.INCARNATION, wire.ROSTER, wire.STRANGER}
"""Believed of whoever has credentials (tests/node/test_introductions.py): a peer that makes itself
a stranger would be heard no more, and what it says after that would prove nothing."""
KINDS = sorted(set(wire._SHAPES) - {wire.HELLO, wire.PROOF} - _INTRODUCTIONS)


def nonsense(
    rng: random.Random, near: Sequence[int] = (1,), kinds: Sequence[int] = KINDS
) -> list[Any]:
    """A message that decodes, unless terms along its entries do not."""
    kind = rng.choice(kinds)
    fields = [_field(rng, check.__name__, near) for check in wire._SHAPES[kind]]
    if kind == wire.APPEND and rng.random() < 0.8:
        fields[3] = min(fields[3], fields[0])
        term = fields[3]
        for row in fields[4]:
            row[0] = term = min(max(term, row[0]), fields[0])
    return [kind, *fields]


def _field(rng: random.Random, check: str, near: Sequence[int]) -> Any:
    if check == "_is_count":
        return _count(rng, near)
    if check == "_is_bool":
        return rng.random() < 0.5
    if check == "_is_sha256":
        return rng.randbytes(32)
    if check == "_is_batch":
        return _batch(rng)
    if check == "_are_entries":
        return [entry_row(rng, near) for _ in range(rng.choice((0, 0, 1, 1, 2, 5)))]
    if check == "_is_origin":
        return rng.choice(_ORIGINS[:-1])
    assert check == "_is_bytes", check
    return rng.randbytes(rng.choice((0, 1, 100, 5000)))


def _count(rng: random.Random, near: Sequence[int]) -> int:
    if rng.random() < 0.75:
        return max(0, rng.choice(near) + rng.randint(-2, 3))
    return rng.choice(_COUNTS)


def entry_row(rng: random.Random, near: Sequence[int]) -> list[Any]:
    """[term, kind, payload] of an entry."""
    if rng.random() < 0.3:
        return [_count(rng, near), KIND_NOOP, b""]
    # NB: in nobody's name: a log in which this node's own name stands with another incarnation
    # tells it that it was wiped, and it stops (node.batches). Only a leader can say that.
    return [_count(rng, near), KIND_BATCH, _batch(rng, (b"abc:ab", b"x", b""))]


def _batch(rng: random.Random, origins: Sequence[bytes] = _ORIGINS) -> bytes:
    """A batch with a head that reads; what is behind it may be anything."""
    builder = BatchBuilder()
    for _ in range(rng.randint(0, 3)):
        builder.put(rng.randbytes(3), rng.randbytes(10))
    origin = rng.choice(origins)
    epoch, sequence = (rng.choice((0, 1, 2, 99)) for _ in range(2)) if origin else (0, 0)
    batch = bytearray(builder.build(origin, epoch, sequence))
    if rng.random() < 0.5:
        batch += rng.randbytes(rng.randint(1, 40))
    if rng.random() < 0.3:
        batch[rng.randrange(len(batch))] ^= 1 << rng.randrange(8)
    return bytes(batch)


def valid_frame(rng: random.Random, near: Sequence[int] = (1,)) -> bytes:
    """A frame of any kind, the handshake's included."""
    if rng.random() < 0.15:
        names = ("n1", "n2", "n3", "n9", "x" * 63)
        fields = [_count(rng, near), rng.choice(names), rng.choice(names), 1, rng.randbytes(16)]
        return wire.encode(wire.HELLO, *fields, 1, 1, 1)
    if rng.random() < 0.1:
        return wire.encode(wire.PROOF, rng.randbytes(32))
    return wire.encode(*nonsense(rng, near))


def damaged(rng: random.Random, frame: bytes) -> bytes:
    """The frame, changed in one to three places."""
    body = bytearray(frame[wire.LENGTH.size :])
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body)) if body else 0
        how = rng.randrange(5)
        if how == 0 and body:
            body[at] ^= 1 << rng.randrange(8)
        elif how == 1 and body:
            body[at] = rng.randrange(256)
        elif how == 2:
            del body[at : at + rng.randint(1, 8)]
        elif how == 3:
            body[at:at] = body[at : at + 8]
        else:
            body[at:at] = rng.randbytes(rng.randint(1, 8))
    size = len(body) if rng.random() < 0.9 else rng.choice((0, 1, len(body) + 9, 1 << 20, 1 << 31))
    return wire.LENGTH.pack(size) + bytes(body)


def junk(rng: random.Random) -> bytes:
    """Anything at all."""
    return rng.randbytes(rng.choice((1, 3, 4, 5, 50, 3000)))
