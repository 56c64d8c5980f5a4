"""Pitfalls P6 to P10, P18, P21 and P25 of PySyncObj: appends, acknowledgements, the commit index.

Each pitfall has a test that shows it on the bare library (`test_pysyncobj_...`): when one of those
fails, the library has been mended or changed, and the defence may be looked at again. The others
show the defence, at the fence itself (tests/support/fence.py); whole nodes are shaken in
tests/node/test_simulation.py.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import wire
from node.config import PeerSection
from node.errors import Fatal
from tests.support.bare import Bare, bare_clock
from tests.support.fence import HEARTBEAT_S, Fence, batch, entry
from tests.support.simulated import Simulation


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


def follower(*log: tuple[int, int], commit: int = 1, term: int = 1) -> Bare:
    """A follower of n1 whose log is 1@0 and `log`."""
    bare = Bare("n2", ["n1", "n3"])
    bare.append("n1", term, (1, 0), list(log), commit=commit)
    bare.tick()
    return bare


# -- P6: an acknowledgement moves nextIndex back -------------------------------------------------


def test_pysyncobj_sends_entries_in_flight_again_after_an_acknowledgement() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    for number in range(3):
        bare.propose(b"%d" % number)
    bare.wire.messages.clear()
    bare.acknowledged("n2", 2)
    bare.advance(1)
    bare.tick()
    again = [entry[1] for to, sent in bare.sent("append_entries") for entry in sent["entries"]]
    assert again == [3, 4, 5]


def test_what_is_in_flight_is_not_sent_again() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    fence.log((2, 1), (3, 1), (4, 1), (5, 1))
    for index in (2, 3, 4):
        fence.send_append("n2", index - 1, entry(index, 1))
    fence.take()
    fence.send_append("n2", 2, entry(3, 1), entry(4, 1), entry(5, 1))
    ((_, message),) = fence.take()
    assert message[:5] == [wire.APPEND, 1, 1, 4, 1]
    assert message[5] == [[1, 1, batch(5, 1)]]


def test_a_new_link_carries_everything_anew() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    fence.log((2, 1), (3, 1))
    fence.send_append("n2", 1, entry(2, 1), entry(3, 1))
    fence.transport.link_down("n2")
    fence.transport.link_up("n2")
    fence.take()
    fence.send_append("n2", 1, entry(2, 1), entry(3, 1))
    assert indexes(fence) == [(1, [])]  # does the log still end there?
    fence.receive("n2", wire.ACK, 1, 2, False, True)
    assert indexes(fence) == [(1, [2, 3])]


# -- P7: an older append truncates what matches --------------------------------------------------


def test_pysyncobj_truncates_applied_entries_when_an_older_append_comes_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bare = follower((2, 1), (3, 1), (4, 1), commit=4)
    assert bare.raftLastApplied == 4
    with caplog.at_level(logging.CRITICAL):
        bare.append("n1", 1, (1, 0), [(2, 1)], commit=4)
    assert bare.log == [(1, 0), (2, 1)]
    assert "truncating already-applied" in caplog.text


@pytest.mark.parametrize(
    ("previous", "entries"),
    [
        pytest.param((1, 0), [(2, 1)], id="one old entry"),
        pytest.param((1, 0), [], id="an old heartbeat"),
        pytest.param((2, 1), [(3, 1), (4, 1)], id="the same again"),
        pytest.param((1, 0), [(2, 1), (3, 1), (4, 1), (5, 1)], id="old and new"),
    ],
)
def test_entries_that_match_are_never_truncated(
    previous: tuple[int, int], entries: list[tuple[int, int]]
) -> None:
    fence = Fence()
    fence.log((2, 1), (3, 1), (4, 1))
    fence.receive_append("n2", 1, previous, *entries)
    ((_, message),) = fence.delivered
    assert message["prevLogIdx"] == 4
    assert message["prevLogTerm"] == 1
    assert [each[1] for each in message["entries"]] == [at for at, _ in entries if at > 4]


def test_entries_that_differ_are_delivered_from_the_first_that_does() -> None:
    fence = Fence()
    fence.log((2, 1), (3, 1), (4, 1))
    fence.receive_append("n2", 2, (1, 0), (2, 1), (3, 2), (4, 2))
    ((_, message),) = fence.delivered
    assert (message["prevLogIdx"], message["prevLogTerm"]) == (2, 1)
    assert [each[1:] for each in message["entries"]] == [(3, 2), (4, 2)]


@pytest.mark.parametrize("settled_by", ["PySyncObj", "the state machine before a restart"])
def test_who_would_change_what_is_applied_is_not_followed(settled_by: str) -> None:
    fence = Fence()
    fence.log((2, 1), (3, 1))
    if settled_by == "PySyncObj":
        fence.state.applied = 3
    else:
        fence.state.settled = 3
    for previous, *entries in (
        ((2, 1), (3, 2)),
        ((1, 0), (2, 1), (3, 2), (4, 2)),
        ((3, 2), (4, 2)),
        ((3, 2),),
    ):
        with pytest.raises(wire.WireError, match="contradicts applied entry 3@1"):
            fence.receive_append("n2", 2, previous, *entries)
    assert fence.delivered == fence.outgoing == fence.state.observed == []
    assert fence.elections.heard == 0
    fence.receive_append("n2", 1, (3, 1), (4, 1))  # this one it may
    assert fence.elections.heard == 1


# -- P8: snapshot messages advance the commit index ----------------------------------------------


def test_pysyncobj_applies_divergent_entries_on_a_snapshot_message() -> None:
    bare = follower((2, 1), (3, 1))
    bare.receive(
        "n3", type="append_entries", term=2, commit_index=9, serialized=(b"half", True, False)
    )
    bare.tick()
    assert bare.applied == [b"2@1", b"3@1"]


def test_a_snapshot_advances_no_commit_index_and_says_nothing_before_it_is_believed() -> None:
    fence = Fence()
    fence.log((2, 1), (3, 1))
    fence.state.follows("n2", term=2)
    fence.transport.following.follow("n2", 2)
    fence.transport.following.install("n2", 2)
    ((_, message),) = fence.delivered
    assert message["commit_index"] == 0
    assert message["serialized"] == (b"", True, True)
    assert fence.outgoing == []


def test_what_pysyncobj_would_send_as_a_snapshot_starts_a_stream_of_ours() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    fence.journal[:] = [entry(8, 1), entry(9, 1)]
    fence.receive("n2", wire.ACK, 1, 3, True, False)  # its log ends at 2
    assert fence.send(
        "n2", type="append_entries", term=1, commit_index=5, serialized=(b"", True, True)
    )
    assert fence.snapshots.started == ["n2"]
    assert fence.outgoing == []


# -- P9: an acknowledgement carries no term ------------------------------------------------------


def test_pysyncobj_believes_an_acknowledgement_of_an_older_term() -> None:
    ((_, acknowledgement),) = follower((2, 1)).sent("next_node_idx")
    assert "term" not in acknowledgement
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.propose(b"never sent to anybody")
    bare.receive("n2", type="next_node_idx", next_node_idx=4, reset=False, success=True)
    bare.tick()
    assert bare.raftCommitIndex == 3


@pytest.mark.parametrize("term", [1, 2, 4])
def test_an_acknowledgement_of_another_term_is_dropped(term: int) -> None:
    fence = Fence()
    fence.log((2, 3), (3, 3))
    fence.state.leads(term=3)
    fence.receive("n2", wire.ACK, term, 4, False, True)
    assert fence.delivered == []
    assert fence.elections.calls == [("on_higher_term", term)]


def test_an_acknowledgement_of_this_term_is_delivered() -> None:
    fence = Fence()
    fence.log((2, 3), (3, 3))
    fence.state.leads(term=3)
    fence.receive("n2", wire.ACK, 3, 4, False, True)
    ((sender, message),) = fence.delivered
    assert (sender, message["next_node_idx"], message["success"]) == ("n2", 4, True)


def test_a_new_term_of_ours_forgets_what_was_acknowledged_and_sent() -> None:
    fence = Fence()
    fence.log((2, 3), (3, 3))
    fence.state.leads(term=3)
    fence.send_append("n2", 1, entry(2, 3), entry(3, 3))
    fence.receive("n2", wire.ACK, 3, 4, False, True)
    fence.state.leads(term=5)
    fence.transport.became_leader()
    assert fence.transport.leading.acked_index("n2") == 0
    fence.take()
    fence.send_append("n2", 1, entry(2, 3), entry(3, 3))
    assert len(fence.take()[0][1][5]) == 2


# -- P10: an entry as large as the batch size ----------------------------------------------------


def test_pysyncobj_cuts_an_entry_as_large_as_its_limit_so_that_it_never_arrives() -> None:
    bare = Bare("n1", ["n2", "n3"], appendEntriesBatchSizeBytes=1000)
    bare.lead()
    bare.wire.messages.clear()
    bare.propose(b"x" * 1970)
    parts = [sent for to, sent in bare.sent("append_entries") if to == "n2"]
    assert [part["transmission"] for part in parts] == ["start", "finish", "finish"]
    peer = Bare("n2", ["n1", "n3"])
    peer.receive("n1", **parts[0])
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        peer.receive("n1", **parts[1])


def test_a_cut_entry_is_fatal() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    with pytest.raises(Fatal, match="in pieces"):
        fence.send(
            "n2",
            type="append_entries",
            transmission="start",
            data=b"",
            term=1,
            commit_index=1,
            prevLogIdx=1,
            prevLogTerm=0,
        )


# -- P18: a leader of a lower term ---------------------------------------------------------------


def test_pysyncobj_tells_a_leader_of_a_lower_term_nothing() -> None:
    bare = follower((2, 5), term=5)
    bare.wire.messages.clear()
    bare.append("n3", 3, (1, 0), [(2, 3)], commit=2)
    bare.tick()
    assert bare.wire.messages == []


def test_a_leader_of_a_lower_term_is_told_ours() -> None:
    fence = Fence()
    fence.state.follows("n2", term=5)
    fence.receive_append("n3", 3, (1, 0), (2, 3))
    assert fence.delivered == []
    assert fence.outgoing == [("n3", [wire.HIGHER_TERM, 5])]


# -- P21: a malformed message is half applied ----------------------------------------------------


def test_pysyncobj_adopts_the_term_of_a_message_that_it_then_cannot_read() -> None:
    bare = Bare("n2", ["n1", "n3"])
    with pytest.raises(KeyError):
        bare.receive("n1", type="append_entries", term=9)
    assert bare.raftCurrentTerm == 9


@pytest.mark.parametrize("missing", range(1, 6))
def test_a_message_with_a_field_missing_or_wrong_is_refused_as_a_whole(missing: int) -> None:
    whole: list[Any] = [wire.APPEND, 9, 1, 1, 0, []]
    before, after = whole[:missing], whole[missing + 1 :]
    for broken in ([*before, *after], [*before, None, *after]):
        with pytest.raises(wire.WireError):
            wire.decode(wire.encode(*broken)[wire.LENGTH.size :])


# -- P25: no flow control ------------------------------------------------------------------------


def test_pysyncobj_sends_to_a_peer_that_takes_nothing_for_ever() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.wire.messages.clear()
    for _ in range(200):
        bare.propose(b"x" * 10_000)
    sent = sum(
        len(each[0]) for _, message in bare.sent("append_entries") for each in message["entries"]
    )
    assert sent > 2 * 200 * 10_000


def indexes(fence: Fence) -> list[tuple[int, list[int]]]:
    """Of each append that left since the last time: what it stands behind, what is in it."""
    return [
        (sent[3], list(range(sent[3] + 1, sent[3] + 1 + len(sent[5]))))
        for _, sent in fence.take()
        if sent[0] == wire.APPEND
    ]


def test_nothing_is_queued_behind_a_full_send_buffer_but_heartbeats() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    fence.log((2, 1), (3, 1))
    fence.links.waiting_bytes["n2"] = 1001
    fence.send_append("n2", 1, entry(2, 1))
    assert indexes(fence) == [(1, [])]
    fence.send_append("n2", 2, entry(3, 1))
    assert indexes(fence) == []
    fence.now_s += HEARTBEAT_S
    fence.send_append("n2", 3)
    assert indexes(fence) == [(3, [])]


def test_what_a_full_buffer_held_back_follows_once_when_there_is_room() -> None:
    """PySyncObj believes it sent; without this the peer would refuse, and be sent all anew."""
    fence = Fence()
    fence.state.leads(term=1)
    fence.log(*((index, 1) for index in range(2, 8)))
    fence.send_append("n2", 1, entry(2, 1))
    fence.links.waiting_bytes["n2"] = 1001
    for index in (3, 4, 5):
        fence.now_s += HEARTBEAT_S
        fence.send_append("n2", index - 1, entry(index, 1))
    assert indexes(fence) == [(1, [2]), (2, []), (2, []), (2, [])]
    fence.links.waiting_bytes["n2"] = 0
    fence.send_append("n2", 5, entry(6, 1))
    fence.send_append("n2", 6, entry(7, 1))
    assert indexes(fence) == [(2, [3, 4, 5, 6, 7])]
    fence.now_s += HEARTBEAT_S
    fence.send_append("n2", 7)
    assert indexes(fence) == [(7, [])]


def test_what_was_held_back_and_then_cut_comes_by_snapshot() -> None:
    fence = Fence()
    fence.state.leads(term=1)
    fence.log(*((index, 1) for index in range(2, 8)))
    fence.send_append("n2", 1, entry(2, 1))
    fence.take()
    del fence.journal[:4]  # from 5 on
    fence.send_append("n2", 6, entry(7, 1))
    assert indexes(fence) == []
    assert fence.snapshots.started == ["n2"]


def test_refusals_of_a_pipeline_have_the_backlog_sent_once() -> None:
    """A new link to a follower that is far behind, with writes going on all the while."""
    fence = Fence()
    fence.state.leads(term=1)
    fence.log(*((index, 1) for index in range(2, 102)))
    fence.transport.link_up("n2")
    for index in range(90, 102):  # before the first answer is back
        fence.now_s += HEARTBEAT_S / 4
        fence.send_append("n2", index - 1, entry(index, 1))
    probes = indexes(fence)
    assert len(probes) > 3
    assert all(not carried for _, carried in probes)
    for _ in probes:  # each is refused: the follower ends at 50
        fence.receive("n2", wire.ACK, 1, 51, True, False)
        fence.send_append("n2", 50, *(entry(index, 1) for index in range(51, 102)))
    assert all(not carried for _, carried in indexes(fence))
    fence.receive("n2", wire.ACK, 1, 51, False, True)
    assert indexes(fence) == [(50, list(range(51, 102)))]
    fence.receive("n2", wire.ACK, 1, 51, False, True)
    fence.send_append("n2", 50, *(entry(index, 1) for index in range(51, 102)))
    assert all(not carried for _, carried in indexes(fence))


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_peer_is_sent_each_entry_about_once(tmp_path: Path, seed: int) -> None:
    """Whole nodes: 0.2 s one way, a link that breaks twice, and 1 MiB that may wait."""

    async def story(sim: Simulation) -> None:
        leader = await sim.ready()
        slow = sim.others(leader)[0]
        sim.network.slow[leader.id, slow.id] = (0.2, 0.25)
        sim.network.frames = []
        for turn in range(90):
            await leader.set(b"k%d" % turn, bytes(60_000))
            if turn in (30, 60):
                sim.network.break_session(frozenset((leader.id, slow.id)))
        await sim.settle(60)
        assert len(sim.digests()) == 1
        carried = [
            index
            for sender, to, message in sim.network.frames
            if message[0] == wire.APPEND and (sender, to) == (leader.id, slow.id)
            for index in range(message[3] + 1, message[3] + 1 + len(message[5]))
        ]
        assert len(set(carried)) >= 90
        assert len(carried) < 1.1 * len(set(carried))

    with Simulation(3, tmp_path, seed, peer=PeerSection(send_buffer_bytes_max=1 << 20)) as sim:
        sim.run(story(sim))
