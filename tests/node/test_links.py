"""Links: the handshake and whom it refuses, frames over real sockets, redialling, replaced links.

Method: two or three `Links` on loopback ports, and a scripted peer on a plain socket that says
whatever the test wants. Nothing sleeps longer than a redial; the long limits (handshake, silence)
are shortened by the tests that wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

from node import link as link_room
from node import wire
from node.config import Address, Member
from node.handshake import OURS, Agreed, Versions, proof_of
from node.links import HALF_OPEN_MAX, LinkEvents, Links
from node.logs import EventLog
from tests.support.ports import free_base_port

NONCE = bytes(range(16))
FRAME_BYTES_MAX = 100_000


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


class End:
    """One node's links, and what it was told."""

    def __init__(
        self, members: list[Member], place: int, secret: str = "secret", **options: Any
    ) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.reads = 0
        self.id = members[place].id
        self.log = mock.create_autospec(EventLog, instance=True)
        self.links = Links(
            members[place],
            tuple(member for member in members if member is not members[place]),
            epoch=1,
            secret=secret,
            frame_bytes_max=FRAME_BYTES_MAX,
            redial_s=0.02,
            log=self.log,
            events=LinkEvents(
                up=lambda peer: self.told.append(("up", peer)),
                down=lambda peer: self.told.append(("down", peer)),
                message=lambda peer, message: self.told.append((peer, message)),
                received=self._received,
            ),
            **options,
        )

    def _received(self) -> None:
        self.reads += 1

    def refusals(self) -> list[str]:
        return [call.kwargs["reason"] for call in self.log.warning.call_args_list]

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():  # noqa: ASYNC110 - bounded by `run`
            await asyncio.sleep(0.002)


def members(count: int = 2) -> list[Member]:
    base = free_base_port(count)
    return [
        Member(
            id=f"n{number}",
            client=Address(host="127.0.0.1", port=base + number),
            peer=Address(host="127.0.0.1", port=base + 1000 + number),
            http=Address(host="127.0.0.1", port=base + 2000 + number),
        )
        for number in range(1, count + 1)
    ]


@contextlib.asynccontextmanager
async def started(*ends: End) -> AsyncIterator[None]:
    for end in ends:
        await end.links.start()
    try:
        yield
    finally:
        for end in ends:
            await end.links.close()
        await asyncio.sleep(0)


class Stranger:
    """A peer on a plain socket that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.proof: list[Any] = []

    @classmethod
    async def dial(cls, member: Member) -> Stranger:
        return cls(*await asyncio.open_connection(member.peer.host, member.peer.port))

    def say(self, *message: Any) -> None:
        self._writer.write(wire.encode(*message))

    def say_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self) -> wire.Message:
        return wire.decode(await self.hear_body())

    async def hear_body(self) -> bytes:
        (size,) = wire.LENGTH.unpack(await self._reader.readexactly(4))
        return await self._reader.readexactly(size)

    async def heard_end(self) -> bytes:
        """All that still comes until the other side closes."""
        try:
            return await self._reader.read()
        except OSError:
            return b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # TLS may not like how it ends
            await self._writer.wait_closed()

    async def shake_hands(self, me: str, to: str, secret: bytes = b"secret") -> wire.Message:
        """The dialler's side of the handshake; the other side's proof."""
        mine = wire.encode(*hello(me=me, to=to))
        self.say_bytes(mine)
        theirs = await self.hear_body()
        proof = proof_of(secret, b"dialler\0", mine[wire.LENGTH.size :], theirs)
        self.proof = [wire.PROOF, proof]
        self.say(*self.proof)
        return await self.hear()


# -- two nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "secret"])
def test_two_nodes_find_each_other_and_talk_both_ways(secret: str) -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0, secret), End(group, 1, secret)
        async with started(one, two):
            await one.until(lambda: one.links.is_up("n2") and two.links.is_up("n1"))
            assert one.links.send("n2", wire.encode(wire.VOTE, 7))
            assert two.links.send("n1", wire.encode(wire.PRE_GRANT, 8))
            await one.until(lambda: len(one.told) == 2 and len(two.told) == 2)
            assert one.told == [("up", "n2"), ("n2", [wire.PRE_GRANT, 8])]
            assert two.told == [("up", "n1"), ("n1", [wire.VOTE, 7])]
            assert one.reads > 0
            assert one.refusals() == two.refusals() == []

    run(story())


def test_messages_arrive_whole_and_in_order_however_large_they_are() -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0), End(group, 1)
        async with started(one, two):
            await one.until(lambda: one.links.is_up("n2") and two.links.is_up("n1"))
            batches = [bytes([number]) * (number * 900) for number in range(100)]
            for batch in batches:
                one.links.send("n2", wire.encode(wire.SNAPSHOT_CHUNK, 1, 0, batch))
            await two.until(lambda: len(two.told) == 101)
            assert [message[3] for _, message in two.told[1:]] == batches

    run(story())


def test_a_node_that_comes_later_is_dialled_until_it_is_there() -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0), End(group, 1)
        async with started(one):
            await asyncio.sleep(0.05)
            assert not one.links.is_up("n2")
            assert not one.links.send("n2", wire.encode(wire.PING))
            async with started(two):
                await one.until(lambda: one.links.is_up("n2"))
            await one.until(lambda: not one.links.is_up("n2"))
            three = End(group, 1)
            async with started(three):
                await one.until(lambda: one.links.is_up("n2"))
            assert one.told == [("up", "n2"), ("down", "n2"), ("up", "n2")]

    run(story())


def test_nothing_is_told_after_close() -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0), End(group, 1)
        async with started(two):
            async with started(one):
                await one.until(lambda: one.links.is_up("n2"))
            await two.until(lambda: ("down", "n1") in two.told)
            assert one.told == [("up", "n2")]

    run(story())


@pytest.mark.parametrize("secrets", [("secret", "other"), ("secret", ""), ("", "secret")])
def test_different_secrets_open_nothing_and_both_sides_say_so_once(
    secrets: tuple[str, str],
) -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0, secrets[0]), End(group, 1, secrets[1])
        async with started(one, two):
            await two.until(lambda: two.links.refusals_count > 3)  # several redials
            assert one.told == two.told == []
            assert two.refusals() == ["wrong proof from n1: is peer.secret the same?"]
            assert one.refusals() == ["it hung up before the handshake was over: its log says why"]

    run(story())


@pytest.mark.parametrize("place", [0, 1])
def test_versions_without_a_common_one_are_named_on_both_sides_once(place: int) -> None:
    async def story() -> None:
        group = members()
        ends = [End(group, 0), End(group, 1)]
        newer = Versions(wire=9, wire_oldest=8, format=1, format_oldest=1)
        ends[place] = End(group, place, versions=newer)
        async with started(*ends):
            await ends[0].until(lambda: all(end.links.refusals_count > 2 for end in ends))
            assert all(end.told == [] for end in ends)
            new_id, old_id = f"n{place + 1}", f"n{2 - place}"
            assert ends[1 - place].refusals() == [
                f"{new_id} needs wire version 8 or newer, this node knows {OURS.wire} at most: "
                f"upgrade this node"
            ]
            assert ends[place].refusals() == [
                f"{old_id} knows wire version {OURS.wire} at most, this node needs 8 or newer: "
                f"upgrade {old_id}"
            ]

    run(story())


@pytest.mark.parametrize("place", [0, 1])
def test_a_newer_node_that_still_speaks_our_version_is_a_peer(place: int) -> None:
    async def story() -> None:
        group = members()
        ends = [End(group, 0), End(group, 1)]
        newer = Versions(wire=OURS.wire + 1, wire_oldest=OURS.wire, format=5, format_oldest=1)
        ends[place] = End(group, place, versions=newer)
        async with started(*ends):
            await ends[0].until(lambda: all(len(end.told) == 1 for end in ends))
            for end in ends:
                (link,) = end.links._open.values()
                assert link.handshake is not None
                assert link.handshake.agreed == Agreed(OURS.wire, OURS.format)
                assert end.refusals() == []

    run(story())


# -- whom the handshake refuses ------------------------------------------------------------------


NEWER = Versions(wire=9, wire_oldest=9, format=1, format_oldest=1)
OLDER = Versions(wire=1, wire_oldest=1, format=1, format_oldest=1)
NEWER_DATA = Versions(wire=OURS.wire, wire_oldest=OURS.wire_oldest, format=9, format_oldest=9)


def hello(
    versions: Versions = OURS, me: str = "n1", to: str = "n2", nonce: bytes = NONCE
) -> list[Any]:
    first = [wire.HELLO, versions.wire, me, to, 1, nonce]
    return [*first, versions.wire_oldest, versions.format, versions.format_oldest]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([hello(NEWER)], "n1 needs wire version 9", id="a newer wire version"),
        pytest.param([hello(OLDER)], "upgrade n1", id="an older wire version"),
        pytest.param([hello(NEWER_DATA)], "n1 needs data format 9", id="a newer data format"),
        pytest.param([hello(me="nobody")], "hello from 'nobody'", id="stranger"),
        pytest.param([hello(to="n1")], "to 'n1' at node 'n2'", id="meant for another"),
        pytest.param([hello(me="n2")], "hello from 'n2'", id="ourselves"),
        pytest.param([hello(me="n3")], "is to be dialled", id="wrong direction"),
        pytest.param([hello(), [wire.PROOF, bytes(32)]], "wrong proof", id="wrong secret"),
        pytest.param([hello(), [wire.PROOF, b""]], "wrong proof", id="no proof"),
        pytest.param([hello(), hello()], "before the handshake", id="two hellos"),
        pytest.param([[wire.PROOF, bytes(32)]], "before the handshake", id="proof first"),
        pytest.param([[wire.VOTE, 1]], "before the handshake", id="message first"),
        pytest.param([hello(), [wire.VOTE, 1]], "before the handshake", id="message too early"),
    ],
)
def test_a_wrong_handshake_is_refused_and_opens_nothing(
    messages: list[list[Any]], reason: str
) -> None:
    async def story() -> None:
        group = members(3)
        end = End(group, 1)
        async with started(end):
            stranger = await Stranger.dial(group[1])
            for message in messages:
                stranger.say(*message)
            await stranger.heard_end()
            await end.until(lambda: bool(end.refusals()))
            assert reason in end.refusals()[0]
            assert end.told == []
            await stranger.close()

    run(story())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "frame of", id="http"),
        pytest.param(wire.LENGTH.pack(1 << 31), "frame of 2147483648 bytes", id="over-long frame"),
        pytest.param(wire.LENGTH.pack(3000), "frame of 3000 bytes", id="long for a handshake"),
        pytest.param(wire.LENGTH.pack(4) + b"\xc1\xc1\xc1\xc1", "not msgpack", id="garbage"),
        pytest.param(wire.LENGTH.pack(0), "not msgpack", id="empty frame"),
    ],
)
def test_garbage_is_refused_and_opens_nothing(data: bytes, reason: str) -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            stranger = await Stranger.dial(group[1])
            stranger.say_bytes(data)
            assert await stranger.heard_end() == b""
            assert reason in end.refusals()[0]
            assert end.told == []
            await stranger.close()

    run(story())


def test_a_dialled_node_that_is_another_is_refused() -> None:
    async def story() -> None:
        group = members(3)
        end = End(group, 0)
        answered = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stranger = Stranger(reader, writer)
            await stranger.hear()
            stranger.say(*hello(me="n3", to="n1"))
            await stranger.heard_end()
            await stranger.close()
            answered.set()

        server = await asyncio.start_server(answer, group[1].peer.host, group[1].peer.port)
        async with server, started(end):
            await answered.wait()
            assert "dialled n2, got n3" in end.refusals()[0]
            assert end.told == []

    run(story())


def test_a_handshake_cannot_be_played_back() -> None:
    """Every byte that a friend once sent, sent again: the acceptor's nonce is another one."""

    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            friend = await Stranger.dial(group[1])
            await friend.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            stranger = await Stranger.dial(group[1])
            stranger.say(*hello())
            stranger.say(*friend.proof)
            await stranger.heard_end()
            assert end.refusals() == ["wrong proof from n1: is peer.secret the same?"]
            assert end.told == [("up", "n1")]
            await friend.close()
            await stranger.close()

    run(story())


def test_who_does_not_prove_anything_is_shown_no_proof_either() -> None:
    """Else a guessed secret could be tried on it, at home and at leisure."""

    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            stranger = await Stranger.dial(group[1])
            stranger.say(*hello())
            assert (await stranger.hear())[0] == wire.HELLO
            stranger.say(wire.PROOF, bytes(32))
            assert await stranger.heard_end() == b""
            await stranger.close()

    run(story())


@pytest.mark.parametrize("same_nonce", [False, True])
def test_a_node_s_own_proof_sent_back_to_it_is_refused(same_nonce: bool) -> None:
    """Reflection: the acceptor has no secret and answers with what it was sent."""

    async def story() -> None:
        group = members()
        end = End(group, 0)
        answered = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stranger = Stranger(reader, writer)
            theirs = await stranger.hear()
            nonce = theirs[5] if same_nonce else NONCE
            stranger.say(*hello(me="n2", to="n1", nonce=nonce))
            stranger.say(*await stranger.hear())
            await stranger.heard_end()
            await stranger.close()
            answered.set()

        server = await asyncio.start_server(answer, group[1].peer.host, group[1].peer.port)
        async with server, started(end):
            await answered.wait()
            assert end.refusals() == ["wrong proof from n2: is peer.secret the same?"]
            assert end.told == []

    run(story())


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        with mock.patch.object(link_room, "HANDSHAKE_S", 0.05):
            async with started(end):
                stranger = await Stranger.dial(group[1])
                assert await stranger.heard_end() == b""
                assert "no handshake" in end.refusals()[0]
                await stranger.close()

    run(story())


# -- open links ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(wire.LENGTH.pack(FRAME_BYTES_MAX + 1), "frame of", id="over-long frame"),
        pytest.param(wire.LENGTH.pack(1) + b"\xc1", "not msgpack", id="garbage"),
        pytest.param(wire.encode(*hello()), "handshake on an open link", id="hello again"),
        pytest.param(wire.encode(wire.PROOF, b""), "handshake on an open link", id="proof again"),
    ],
)
def test_a_peer_that_breaks_the_protocol_loses_its_link(data: bytes, reason: str) -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            peer = await Stranger.dial(group[1])
            await peer.shake_hands("n1", "n2")
            peer.say(wire.VOTE, 3)
            await end.until(lambda: ("n1", [wire.VOTE, 3]) in end.told)
            peer.say_bytes(data)
            await peer.heard_end()
            await end.until(lambda: not end.links.is_up("n1"))
            assert reason in end.refusals()[0]
            assert end.told == [("up", "n1"), ("n1", [wire.VOTE, 3]), ("down", "n1")]
            await peer.close()

    run(story())


def test_what_comes_behind_a_break_of_the_protocol_is_not_handed_over() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            peer = await Stranger.dial(group[1])
            await peer.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            vote = wire.encode(wire.VOTE, 3)
            peer.say_bytes(vote + wire.encode(*hello()) + vote)
            await peer.heard_end()
            await end.until(lambda: not end.links.is_up("n1"))
            assert end.told.count(("n1", [wire.VOTE, 3])) == 1
            await peer.close()

    run(story())


def test_a_newer_link_replaces_the_older_one_with_a_down_between() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            older = await Stranger.dial(group[1])
            await older.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            newer = await Stranger.dial(group[1])
            await newer.shake_hands("n1", "n2")
            await end.until(lambda: len(end.told) == 3)
            assert end.told == [("up", "n1"), ("down", "n1"), ("up", "n1")]
            await older.heard_end()
            newer.say(wire.VOTE, 4)
            await end.until(lambda: len(end.told) == 4)
            assert end.told[3] == ("n1", [wire.VOTE, 4])
            assert end.links.is_up("n1")
            await older.close()
            await newer.close()

    run(story())


def test_a_link_with_nothing_to_say_is_pinged_and_a_silent_one_closed() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        with (
            mock.patch.object(link_room, "PING_AFTER_S", 0.02),
            mock.patch.object(link_room, "SILENCE_MAX_S", 0.1),
        ):
            async with started(end):
                peer = await Stranger.dial(group[1])
                await peer.shake_hands("n1", "n2")
                assert await peer.hear() == [wire.PING]
                await end.until(lambda: ("down", "n1") in end.told)
                assert "silent" in end.refusals()[0]
                await peer.close()

    run(story())


def test_pings_keep_a_link_open_and_are_handed_to_nobody() -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0), End(group, 1)
        with mock.patch.object(link_room, "PING_AFTER_S", 0.01):
            async with started(one, two):
                await one.until(lambda: one.links.is_up("n2") and two.links.is_up("n1"))
                for end, peer in ((one, "n2"), (two, "n1")):
                    link = end.links._open[peer]
                    heard_at = link._heard_at
                    await end.until(lambda: link._heard_at > heard_at + 0.03)  # noqa: B023
                assert one.told == [("up", "n2")]
                assert two.told == [("up", "n1")]

    run(story())


def test_what_a_peer_does_not_take_is_counted() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            peer = await Stranger.dial(group[1])
            await peer.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            assert end.links.buffered_bytes("n1") == 0
            for _ in range(400):
                end.links.send("n1", wire.encode(wire.SNAPSHOT_CHUNK, 1, 0, bytes(90_000)))
            assert end.links.buffered_bytes("n1") > 1_000_000
            assert end.links.buffered_bytes("nobody") == 0
            await peer.close()

    run(story())


def test_a_peer_that_takes_nothing_loses_its_link_before_memory_is_full() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1, send_buffer_bytes_max=4_000_000)
        async with started(end):
            peer = await Stranger.dial(group[1])
            await peer.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            frame = wire.encode(wire.SNAPSHOT_CHUNK, 1, 0, bytes(90_000))
            most_bytes = 0
            while end.links.send("n1", frame):
                most_bytes = max(most_bytes, end.links.buffered_bytes("n1"))
            assert 3_500_000 < most_bytes <= 4_000_000
            assert not end.links.is_up("n1")
            assert not end.links.send("n1", frame)
            await end.until(lambda: ("down", "n1") in end.told)
            assert end.refusals() == ["more than 4000000 bytes wait for it"]
            assert end.links.buffered_bytes("n1") == 0
            await peer.close()

    run(story())


# -- strangers in numbers ------------------------------------------------------------------------


def test_a_crowd_that_says_nothing_is_kept_small_and_keeps_no_peer_out() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            crowd = [await Stranger.dial(group[1]) for _ in range(HALF_OPEN_MAX * 3)]
            await end.until(lambda: end.links.refusals_count >= HALF_OPEN_MAX * 2)
            assert len(end.links._connections) == HALF_OPEN_MAX
            assert len(end.refusals()) == 1
            friend = await Stranger.dial(group[1])
            await friend.shake_hands("n1", "n2")
            await end.until(lambda: end.links.is_up("n1"))
            for each in [*crowd, friend]:
                await each.close()

    run(story())


def test_a_crowd_pushes_out_its_own_address_only() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            slow_friend = mock.MagicMock(dialled=None, address="10.0.0.1")
            crowd = [mock.MagicMock(dialled=None, address="10.0.0.9") for _ in range(100)]
            for each in (slow_friend, *crowd):
                each.refuse.side_effect = lambda _, each=each: end.links._half_open.pop(each)
                end.links.connected(each)
            assert slow_friend.refuse.call_count == 0
            assert [each.refuse.call_count for each in crowd] == [1] * 37 + [0] * 63

    run(story())


# -- members come and go -------------------------------------------------------------------------


@pytest.mark.parametrize("dialler", [True, False])
def test_a_peer_is_added_and_removed_while_the_node_runs(dialler: bool) -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 0), End(group, 1)
        ends = (one, two) if dialler else (two, one)
        changing, other = ends
        (peer,) = changing.links.members.values()
        changing.links.remove_peer(peer.id)
        async with started(*ends):
            await asyncio.sleep(0.1)
            assert changing.told == []
            if not dialler:
                assert "hello from 'n1'" in changing.refusals()[0]
            changing.links.add_peer(peer)
            await changing.until(lambda: changing.links.is_up(peer.id) and len(other.told) == 1)
            changing.links.add_peer(peer)  # the same once more changes nothing
            changing.links.remove_peer(peer.id)
            assert changing.told == [("up", peer.id), ("down", peer.id)]
            assert not changing.links.send(peer.id, wire.encode(wire.PING))
            await other.until(lambda: len(other.told) == 2)
            await asyncio.sleep(0.1)
            assert len(changing.told) == 2
            changing.links.remove_peer("nobody")
            changing.links.add_peer(peer)
            await changing.until(lambda: changing.links.is_up(peer.id))

    run(story())


def test_a_peer_that_moved_is_dialled_at_its_new_address() -> None:
    async def story() -> None:
        group = members()
        moved = dataclasses.replace(group[1], peer=Address("127.0.0.1", free_base_port(1)))
        one, two = End(group, 0), End([group[0], moved], 1)
        async with started(one, two):
            await asyncio.sleep(0.05)
            assert one.told == []
            one.links.add_peer(moved)
            await one.until(lambda: one.links.is_up("n2"))

    run(story())


# -- the log -------------------------------------------------------------------------------------


def test_a_reason_to_refuse_is_logged_once() -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1)
        async with started(end):
            for _ in range(5):
                stranger = await Stranger.dial(group[1])
                stranger.say(*hello(me="nobody"))
                await stranger.heard_end()
                await stranger.close()
            assert len(end.refusals()) == 1

    run(story())


def test_an_address_in_use_is_an_error_at_the_start() -> None:
    async def story() -> None:
        group = members()
        one, two = End(group, 1), End(group, 1)
        async with started(one):
            with pytest.raises(OSError):
                await two.links.start()
            await two.links.close()

    run(story())
