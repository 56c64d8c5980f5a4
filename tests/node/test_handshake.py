"""The handshake alone: two sides carried by hand, and what a third one cannot do with the bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import wire
from node.handshake import OURS, Agreed, Handshake, Refused, Versions, agree
from node.wire import WireError

MEMBERS = frozenset(("n1", "n2", "n3", "n4"))


def side(me: str, dialled: str | None = None, **changes: Any) -> Handshake:
    options: dict[str, Any] = {
        "epoch": 7,
        "secret": b"secret",
        "nonce": (me.encode() * 16)[:16],
        "is_member": MEMBERS.__contains__,
        "certified": None,
    } | changes
    return Handshake(me, dialled=dialled, **options)


def bodies(frames: bytes) -> list[bytes]:
    return list(wire.FrameReader(2048).feed(frames))


def carry(dialler: Handshake, acceptor: Handshake) -> list[bytes]:
    """Run it to the end; every body that was sent, in order."""
    sent: list[bytes] = []
    ends = (acceptor, dialler)
    frames, turn = dialler.begin(), 0
    while frames:
        (body,) = bodies(frames)
        sent.append(body)
        frames = ends[turn % 2].receive(body)
        turn += 1
    return sent


def test_both_sides_open_after_four_messages_and_know_each_other() -> None:
    one, two = side("n1", "n2", epoch=3), side("n2", epoch=5)
    sent = carry(one, two)
    assert [wire.decode(body)[0] for body in sent] == [wire.HELLO] * 2 + [wire.PROOF] * 2
    assert one.is_open
    assert two.is_open
    assert (one.peer_id, one.peer_epoch) == ("n2", 5)
    assert (two.peer_id, two.peer_epoch) == ("n1", 3)
    assert one.agreed == two.agreed == Agreed(OURS.wire, OURS.format)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"me": "n3"}, id="another id"),
        pytest.param({"epoch": 8}, id="another epoch"),
        pytest.param({"nonce": bytes(16)}, id="another nonce"),
        pytest.param(
            {"versions": dataclasses.replace(OURS, format=OURS.format + 1)},
            id="other versions",
        ),
        pytest.param({"secret": b"guess"}, id="another secret"),
    ],
)
def test_a_proof_is_bound_to_everything_that_was_said(changes: dict[str, Any]) -> None:
    """The proof of one handshake, put into one that differs in one thing."""
    *_, proof_of_dialler, proof_of_acceptor = carry(side("n1", "n4"), side("n4"))
    dialler, acceptor = side("n1", "n4"), side("n4")
    acceptor.receive(bodies(dialler.begin())[0])
    acceptor.receive(proof_of_dialler)  # the control: all the same, so it is right
    assert acceptor.is_open

    me = changes.pop("me", "n1")
    secret = changes.pop("secret", b"secret")
    other, acceptor = side(me, "n4", **changes), side("n4", secret=secret)
    acceptor.receive(bodies(other.begin())[0])
    with pytest.raises(Refused, match="wrong proof"):
        acceptor.receive(proof_of_dialler)
    other = side(me, "n4", **changes, secret=secret)
    other.begin()
    other.receive(bodies(side("n4").receive(hello_of(side(me, "n4", **changes))))[0])
    with pytest.raises(Refused, match="wrong proof"):
        other.receive(proof_of_acceptor)


def hello_of(dialler: Handshake) -> bytes:
    (body,) = bodies(dialler.begin())
    return body


def test_neither_side_s_proof_is_the_other_s() -> None:
    dialler, acceptor = side("n1", "n2"), side("n2")
    hello = acceptor.receive(hello_of(dialler))
    (proof,) = bodies(dialler.receive(bodies(hello)[0]))
    with pytest.raises(Refused, match="wrong proof from n2"):
        dialler.receive(proof)
    assert not dialler.is_open


def test_a_version_that_was_changed_on_the_way_is_noticed() -> None:
    """A go-between that makes both believe the other is old."""
    newer = Versions(wire=OURS.wire + 1, wire_oldest=OURS.wire, format=1, format_oldest=1)
    dialler, acceptor = side("n1", "n2", versions=newer), side("n2", versions=newer)
    fields = wire.decode(hello_of(dialler))
    fields[1] = OURS.wire
    hello = bodies(acceptor.receive(msgpack.packb(fields)))[0]
    assert acceptor.agreed == Agreed(OURS.wire, 1)
    (proof,) = bodies(dialler.receive(hello))
    with pytest.raises(Refused, match="wrong proof"):
        acceptor.receive(proof)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((2, 2, 1, 1), (2, 2, 1, 1), Agreed(2, 1)),
        ((3, 2, 2, 1), (2, 1, 1, 1), Agreed(2, 1)),
        ((3, 1, 2, 1), (9, 2, 4, 2), Agreed(3, 2)),
        ((3, 2, 1, 1), (1, 1, 1, 1), "p knows wire version 1 at most.* upgrade p"),
        ((3, 2, 1, 1), (9, 4, 1, 1), "p needs wire version 4.* upgrade this node"),
        ((2, 2, 3, 2), (2, 2, 1, 1), "p knows data format 1 at most.* upgrade p"),
        ((2, 2, 3, 2), (2, 2, 9, 4), "p needs data format 4.* upgrade this node"),
    ],
)
def test_the_newest_that_both_know_is_used(
    ours: tuple[int, ...], theirs: tuple[int, ...], expected: Agreed | str
) -> None:
    names = ("wire", "wire_oldest", "format", "format_oldest")
    mine, other = (Versions(**dict(zip(names, each, strict=True))) for each in (ours, theirs))
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            agree("p", mine, other)
    else:
        assert agree("p", mine, other) == expected


@pytest.mark.parametrize("wire_version", [1, 9])
def test_who_has_no_version_in_common_still_gets_our_hello(wire_version: int) -> None:
    """So that it can say so itself. The first hello there was named nothing but its version."""
    acceptor = side("n2")
    body = msgpack.packb([wire.HELLO, wire_version, "n1", "n2", 1, bytes(16)])
    with pytest.raises(Refused) as refused:
        acceptor.receive(body)
    (answer,) = bodies(refused.value.answer)
    assert wire.decode(answer)[:4] == [wire.HELLO, OURS.wire, "n2", "n1"]
    assert acceptor.agreed is None
    with pytest.raises(WireError):
        acceptor.receive(msgpack.packb([wire.PROOF, bytes(32)]))


def test_what_a_newer_program_adds_to_a_hello_is_not_looked_at() -> None:
    fields = wire.decode(hello_of(side("n1", "n2")))
    body = msgpack.packb([*fields, {"a": [1, 2]}, b"more", None])
    assert bodies(side("n2").receive(body))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80) | st.integers(0, 2), max_size=5), st.booleans())
def test_nothing_but_the_right_proof_opens_and_nothing_but_wire_error_is_raised(
    junk: list[bytes | int], dialled: bool
) -> None:
    """Integers stand for what the other side once sent in an honest handshake, in any order."""
    honest = carry(side("n1", "n2"), side("n2"))
    sent = [honest[0], honest[2]] if not dialled else [honest[1], honest[3]]
    end = side("n1", "n2", nonce=bytes(16)) if dialled else side("n2", nonce=bytes(16))
    end.begin()
    for each in junk:
        try:
            end.receive(each if isinstance(each, bytes) else [*sent, b"\x91\x03"][each])
        except WireError:
            break
    assert not end.is_open
