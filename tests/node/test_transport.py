"""The fence: what leaves when it is durable, what is trimmed, skipped, capped, believed.

Method: the fence alone (tests/support/fence.py), with PySyncObj, journal and links as stand-ins.
The pitfalls that it defends against are shown in tests/node/test_pitfalls_append.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from node import wire
from node.entry import KIND_BATCH, NOOP_COMMAND, wrap
from node.errors import Fatal
from node.following import APPLY_ENTRIES_PER_TURN
from node.leading import ANNOUNCE_S
from node.transport import TERM_STEP_MAX
from node.wire import WireError
from tests.support.fence import HEARTBEAT_S, Fence, batch, entry


@pytest.fixture
def fence() -> Fence:
    return Fence()


def acks(fence: Fence) -> list[tuple[str, int]]:
    """The successes that left since the last time: (to, index acknowledged)."""
    return [(to, sent[2] - 1) for to, sent in fence.take() if sent[0] == wire.ACK and sent[4]]


# -- a follower's gate ---------------------------------------------------------------------------


def test_an_acknowledgement_leaves_when_the_journal_is_durable_and_not_before(
    fence: Fence,
) -> None:
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2), (3, 2))
    assert acks(fence) == [("n2", 1)]  # what there is: we live
    fence.journal.durable_index = 2
    fence.transport.on_durable()
    assert acks(fence) == [("n2", 2)]
    fence.journal.durable_index = 3
    fence.transport.on_durable()
    assert acks(fence) == [("n2", 3)]
    fence.transport.on_durable()
    assert acks(fence) == []


def test_nothing_from_a_held_index_on_is_acknowledged_or_applied(fence: Fence) -> None:
    """A roster at 3 whose file is not durable yet (node.membership)."""
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2), (3, 2), (4, 2))
    fence.take()
    fence.journal.hold = 2
    fence.journal.durable_index = 4
    fence.transport.on_durable()
    assert acks(fence) == [("n2", 2)]
    fence.receive_append("n2", 2, (4, 2), commit=4)
    assert fence.delivered[-1][1]["commit_index"] == 2
    fence.take()
    fence.journal.hold = None
    fence.transport.on_gate()
    assert acks(fence) == [("n2", 4)]
    fence.receive_append("n2", 2, (4, 2), commit=4)
    assert fence.delivered[-1][1]["commit_index"] == 4


def test_an_acknowledgement_carries_the_term(fence: Fence) -> None:
    fence.follows = True
    fence.receive_append("n2", 7, (1, 0), (2, 7))
    ((_, message),) = fence.take()
    assert message == [wire.ACK, 7, 2, False, True]


def test_under_a_slow_disk_heartbeats_are_answered_with_what_is_durable(fence: Fence) -> None:
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2))
    acks(fence)
    heard = []
    for _ in range(20):
        fence.now_s += HEARTBEAT_S
        fence.receive_append("n2", 2, (2, 2))
        heard += acks(fence)
    assert heard == [("n2", 1)] * 20


def test_signs_of_life_are_no_more_than_two_in_a_heartbeat(fence: Fence) -> None:
    fence.follows = True
    heard = []
    for index in range(2, 102):
        fence.now_s += HEARTBEAT_S / 100
        fence.receive_append("n2", 2, (index - 1, 2 if index > 2 else 0), (index, 2))
        heard += acks(fence)
    assert 1 <= len(heard) <= 3


def test_more_is_never_acknowledged_than_is_known_to_equal_the_leader_s_log(fence: Fence) -> None:
    fence.follows = True
    fence.log((2, 1), (3, 1), (4, 1))  # an old term's entries, all durable
    fence.receive_append("n2", 2, (1, 0), (2, 1))
    assert fence.transport.following.verified_index == 2
    assert acks(fence) == [("n2", 2)]


def test_after_a_truncation_only_what_was_synced_since_is_acknowledged(fence: Fence) -> None:
    fence.follows = True
    fence.log((2, 1), (3, 1), (4, 1))
    fence.receive_append("n2", 2, (2, 1), (3, 2), (4, 2))
    assert acks(fence) == [("n2", 2)]
    fence.journal.durable_index = 4
    fence.transport.on_durable()
    assert acks(fence) == [("n2", 4)]


def test_nothing_is_acknowledged_to_a_leader_of_an_older_term(fence: Fence) -> None:
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2))
    fence.take()
    fence.state.follows(None, term=3)
    fence.journal.durable_index = 2
    fence.transport.on_durable()
    assert fence.outgoing == []


def test_what_was_verified_in_one_term_counts_for_nothing_in_the_next(fence: Fence) -> None:
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2), (3, 2), commit=3)
    fence.receive_append("n3", 3, (9, 3))
    assert fence.transport.following.verified_index == 0
    assert fence.delivered[-1][1]["commit_index"] == 0


def test_a_refusal_leaves_at_once_with_its_term(fence: Fence) -> None:
    fence.state.follows("n2", term=2)
    fence.send("n2", type="next_node_idx", next_node_idx=5, reset=True, success=False)
    assert fence.take() == [("n2", [wire.ACK, 2, 5, True, False])]


# -- a leader's gate -----------------------------------------------------------------------------


def test_a_leader_hands_acknowledgements_on_up_to_its_own_durable_index(fence: Fence) -> None:
    fence.log((2, 1))
    fence.log((3, 1), (4, 1), durable=False)
    fence.state.leads(term=1)
    fence.receive("n2", wire.ACK, 1, 5, False, True)
    assert fence.delivered[-1][1]["next_node_idx"] == 3
    assert fence.transport.leading.acked_index("n2") == 2
    fence.delivered.clear()
    fence.journal.durable_index = 4
    fence.transport.on_durable()
    assert [(sender, each["next_node_idx"]) for sender, each in fence.delivered] == [("n2", 5)]
    assert fence.transport.leading.acked_index("n2") == 4
    fence.delivered.clear()
    fence.transport.on_durable()
    assert fence.delivered == []


def test_a_leader_counts_nothing_from_a_held_index_on(fence: Fence) -> None:
    fence.log((2, 1), (3, 1), (4, 1))
    fence.journal.hold = 2
    fence.state.leads(term=1)
    fence.receive("n2", wire.ACK, 1, 5, False, True)
    assert fence.delivered[-1][1]["next_node_idx"] == 3
    fence.journal.hold = None
    fence.transport.on_gate()
    assert fence.delivered[-1][1]["next_node_idx"] == 5


def test_a_reduced_acknowledgement_is_a_sign_of_life_and_takes_nothing_back(fence: Fence) -> None:
    fence.log((2, 1), (3, 1))
    fence.state.leads(term=1)
    fence.receive("n2", wire.ACK, 1, 4, False, True)
    fence.receive("n2", wire.ACK, 1, 2, False, True)
    assert [each["next_node_idx"] for _, each in fence.delivered] == [4, 4]
    assert fence.transport.leading.acked_index("n2") == 3


def test_a_refusal_begins_again_where_the_peer_says(fence: Fence) -> None:
    fence.log((2, 1), (3, 1))
    fence.state.leads(term=1)
    fence.send_append("n2", 1, entry(2, 1), entry(3, 1))
    fence.receive("n2", wire.ACK, 1, 2, True, False)
    assert fence.delivered[-1][1] == {
        "type": "next_node_idx",
        "next_node_idx": 2,
        "reset": True,
        "success": False,
    }
    fence.take()
    fence.send_append("n2", 1, entry(2, 1), entry(3, 1))
    assert fence.take() == [("n2", [wire.APPEND, 1, 1, 1, 0, []])]
    fence.receive("n2", wire.ACK, 1, 2, False, True)
    assert len(fence.take()[0][1][5]) == 2


def test_a_refusal_during_a_snapshot_stream_is_only_a_sign_of_life(fence: Fence) -> None:
    fence.state.leads(term=1)
    fence.snapshots.sending.add("n2")
    fence.receive("n2", wire.ACK, 1, 2, True, False)
    assert fence.delivered[-1][1]["reset"] is False


def test_acknowledgements_to_a_node_that_leads_no_more_are_dropped(fence: Fence) -> None:
    fence.state.follows(None, term=1)
    fence.receive("n2", wire.ACK, 1, 2, False, True)
    assert fence.delivered == []


def test_a_stream_is_told_how_far_its_peer_has_come(fence: Fence) -> None:
    fence.log((2, 1), (3, 1))
    fence.state.leads(term=1)
    fence.receive("n2", wire.ACK, 1, 4, False, True)
    assert fence.snapshots.progress == [("n2", 3)]


# -- appends out ---------------------------------------------------------------------------------


def test_entries_are_encoded_once_for_all_peers(fence: Fence) -> None:
    fence.log((2, 1))
    fence.state.leads(term=1)
    fence.send_append("n2", 1, entry(2, 1))
    fence.send_append("n3", 1, entry(2, 1))
    first, second = fence.links.frames
    assert first is second


def test_a_long_run_of_entries_leaves_in_frames_that_are_no_longer_than_a_frame_may_be(
    fence: Fence,
) -> None:
    fence.state.leads(term=1)
    entries = []
    for index in range(2, 12):
        command = wrap(KIND_BATCH, batch(index, 1) + bytes(400_000))
        entries.append((command, index, 1))
    fence.journal.extend(entries)
    fence.send_append("n2", 1, *entries)
    appended = [message for _, message in fence.take()]
    assert all(len(frame) < 1_300_000 for frame in fence.links.frames)
    assert [message[3] for message in appended] == [1, 3, 5, 7, 9]
    assert sum(len(message[5]) for message in appended) == 10
    fence.send_append("n2", 1, *entries)
    assert all(not message[5] for _, message in fence.take())


def test_an_empty_append_is_left_out_when_one_has_just_gone_and_says_nothing_new(
    fence: Fence,
) -> None:
    fence.log((2, 1))
    fence.state.leads(term=1)
    fence.send_append("n2", 1, entry(2, 1))
    fence.take()
    assert fence.send_append("n2", 2)
    assert fence.take() == []
    fence.now_s += HEARTBEAT_S
    assert fence.send_append("n2", 2)
    assert len(fence.take()) == 1


def committed(fence: Fence, index: int) -> list[tuple[str, int]]:
    """PySyncObj has committed `index` and says so to all: (to, commit index) of what left."""
    fence.state.commit = index
    for peer_id in ("n2", "n3"):
        assert fence.send_append(peer_id, index, commit=index)
    return announced(fence)


def announced(fence: Fence) -> list[tuple[str, int]]:
    return [(to, message[2]) for to, message in fence.take()]


def leading_with_an_entry_under_way(fence: Fence) -> None:
    fence.log((2, 1))
    fence.state.leads(term=1)
    for peer_id in ("n2", "n3"):
        fence.send_append(peer_id, 1, entry(2, 1))
    fence.take()


def test_a_commit_is_said_by_the_next_append(fence: Fence) -> None:
    leading_with_an_entry_under_way(fence)
    assert committed(fence, 2) == []
    fence.log((3, 1))
    fence.send_append("n2", 2, entry(3, 1), commit=2)
    assert announced(fence) == [("n2", 2)]


def test_a_commit_that_no_append_has_said_is_said_a_moment_later(fence: Fence) -> None:
    leading_with_an_entry_under_way(fence)
    committed(fence, 2)
    ((seconds, announce),) = fence.later
    assert seconds == ANNOUNCE_S
    announce()
    assert announced(fence) == [("n2", 2), ("n3", 2)]
    assert committed(fence, 2) == []  # it has been said
    assert len(fence.later) == 1


def test_nothing_is_said_a_moment_later_when_the_next_entry_is_under_way_or_another_leads(
    fence: Fence,
) -> None:
    leading_with_an_entry_under_way(fence)
    committed(fence, 2)
    fence.log((3, 1))
    fence.later.pop()[1]()
    assert announced(fence) == []
    fence.journal.pop()
    committed(fence, 2)
    fence.state.follows("n2", term=2)
    fence.later.pop()[1]()
    assert announced(fence) == []


def test_whose_clients_wait_for_a_commit_hears_of_it_at_once(fence: Fence) -> None:
    leading_with_an_entry_under_way(fence)
    fence.transport.leading.await_commit("n3", 2)
    assert announced(fence) == []  # it is not committed yet
    assert committed(fence, 2) == [("n3", 2)]


def test_who_comes_to_wait_for_what_is_committed_hears_of_it_at_once_and_once(
    fence: Fence,
) -> None:
    leading_with_an_entry_under_way(fence)
    committed(fence, 2)
    for _ in range(2):
        fence.transport.leading.await_commit("n3", 2)
    assert announced(fence) == [("n3", 2)]
    fence.transport.leading.await_commit("n9", 2)  # removed meanwhile
    assert announced(fence) == []


def test_a_peer_whose_batch_was_appended_waits_for_its_commit(fence: Fence) -> None:
    leading_with_an_entry_under_way(fence)
    fence.receive("n2", wire.FORWARD, batch(2, 1, origin=b"n2:0"))
    assert committed(fence, 2) == [("n2", 2)]


# -- ticks -----------------------------------------------------------------------------------


def test_an_acknowledgement_costs_a_tick_when_it_may_commit_something(fence: Fence) -> None:
    leading_with_an_entry_under_way(fence)
    fence.receive("n2", wire.ACK, 1, 3, False, True)
    assert fence.state.kicks == 1
    fence.state.commit = 2
    fence.receive("n3", wire.ACK, 1, 3, False, True)
    assert fence.state.kicks == 1


def test_entries_behind_what_may_be_applied_in_a_turn_cost_a_tick(fence: Fence) -> None:
    fence.follows = True
    fence.receive_append("n2", 2, (1, 0), (2, 2), commit=1)
    assert fence.state.kicks == 0
    fence.journal.hold = 1
    fence.receive_append("n2", 2, (2, 2), commit=2)
    assert fence.state.kicks == 1


def test_during_a_snapshot_stream_a_peer_gets_heartbeats_without_entries(fence: Fence) -> None:
    fence.log((2, 1))
    fence.state.leads(term=1)
    fence.snapshots.sending.add("n2")
    fence.send_append("n2", 1, entry(2, 1))
    ((_, message),) = fence.take()
    assert message[5] == []


def test_a_placeholder_is_never_sent_but_the_snapshot_that_holds_it(fence: Fence) -> None:
    """After an alignment or an installed snapshot the log begins with two placeholders."""
    fence.journal[:] = [(NOOP_COMMAND, 8, 3), (NOOP_COMMAND, 9, 3), entry(10, 3)]
    fence.state.leads(term=3)
    assert fence.send_append("n2", 8, (NOOP_COMMAND, 9, 3), entry(10, 3))
    assert fence.snapshots.started == ["n2"]
    assert fence.take() == []
    assert fence.send_append("n3", 9, entry(10, 3))
    assert len(fence.take()) == 1
    assert fence.snapshots.started == ["n2"]


def test_a_first_entry_that_is_no_placeholder_is_sent(fence: Fence) -> None:
    fence.journal[:] = [entry(8, 3), entry(9, 3)]
    fence.state.leads(term=3)
    assert fence.send_append("n2", 8, entry(9, 3))
    assert fence.snapshots.started == []
    assert len(fence.take()) == 1


def test_what_was_cut_meanwhile_is_not_sent(fence: Fence) -> None:
    fence.journal[:] = [entry(8, 3), entry(9, 3)]
    fence.state.leads(term=3)
    assert fence.send_append("n2", 5) is False
    assert fence.outgoing == []


def test_a_message_that_this_node_never_asks_for_is_fatal(fence: Fence) -> None:
    with pytest.raises(Fatal, match="apply_command_response"):
        fence.send("n2", type="apply_command_response", request_id=1)


# -- appends in ----------------------------------------------------------------------------------


def test_the_commit_index_is_capped_at_what_is_verified(fence: Fence) -> None:
    fence.follows = True
    fence.log((2, 1), (3, 1), (4, 1))  # 3 and 4 may be another term's, never committed
    fence.receive_append("n2", 2, (1, 0), (2, 1), commit=9)
    assert fence.delivered[-1][1]["commit_index"] == 2


def test_the_commit_index_of_a_refused_append_is_not_believed(fence: Fence) -> None:
    fence.follows = True
    fence.log((2, 1))
    fence.receive_append("n2", 2, (5, 2), (6, 2), commit=6)
    assert fence.delivered[-1][1]["commit_index"] == 0
    assert fence.delivered[-1][1]["entries"] == []


def test_a_long_backlog_is_applied_a_turn_s_worth_at_a_time(fence: Fence) -> None:
    fence.follows = True
    count = 3 * APPLY_ENTRIES_PER_TURN
    fence.receive_append(
        "n2", 2, (1, 0), *((at, 2) for at in range(2, count + 2)), commit=count + 1
    )
    fence.take()
    turns = []
    while fence.state.applied < count + 1:
        fence.state.applied = fence.state.commit  # PySyncObj's tick
        turns.append(fence.state.applied)
        fence.transport.following.continue_apply()
    assert turns == [1 + APPLY_ENTRIES_PER_TURN * turn for turn in (1, 2, 3)]
    assert fence.outgoing == []  # nothing was acknowledged that nobody asked for


def test_nothing_is_brought_on_without_the_leader_that_verified_it(fence: Fence) -> None:
    fence.follows = True
    entries = [(at, 2) for at in range(2, 1000)]
    fence.receive_append("n2", 2, (1, 0), *entries, commit=999)
    fence.state.applied = fence.state.commit
    fence.delivered.clear()
    fence.state.follows(None, term=2)
    fence.transport.following.continue_apply()
    fence.state.follows("n3", term=3)
    fence.transport.following.continue_apply()
    assert fence.delivered == []


def test_entries_at_or_below_the_first_kept_one_match(fence: Fence) -> None:
    fence.journal[:] = [(NOOP_COMMAND, 8, 3), (NOOP_COMMAND, 9, 3)]
    fence.state.applied = 9
    fence.receive_append("n2", 4, (6, 1), (7, 2), (8, 2), (9, 3), (10, 4), commit=10)
    ((_, message),) = fence.delivered
    assert (message["prevLogIdx"], message["prevLogTerm"]) == (9, 3)
    assert [each[1] for each in message["entries"]] == [10]
    assert fence.transport.following.verified_index == 10


def test_a_higher_term_is_known_to_pysyncobj_before_anything_of_it_is_used(fence: Fence) -> None:
    """A snapshot may be the first that a node hears of a term; its chunks name no term."""
    assert fence.transport.following.follow("n2", 5)
    assert fence.state.observed == [5]
    assert fence.transport.following.follow("n2", 5)
    assert fence.state.observed == [5]
    assert fence.elections.heard == 2


# -- the rest ------------------------------------------------------------------------------------


def test_an_installed_snapshot_is_acknowledged_when_it_is_believed_and_durable(
    fence: Fence,
) -> None:
    fence.state.follows("n2", term=2)
    fence.transport.following.follow("n2", 2)
    fence.transport.following.install("n2", 2)
    fence.journal[:] = [(NOOP_COMMAND, 8, 1), (NOOP_COMMAND, 9, 1)]
    fence.journal.durable_index = 0
    assert acks(fence) == []
    fence.transport.following.believe_installed(9)
    assert acks(fence) == [("n2", 0)]  # what is durable: nothing, but we live
    fence.now_s += HEARTBEAT_S
    fence.journal.durable_index = 9
    fence.transport.on_durable()
    assert acks(fence) == [("n2", 9)]


def test_pysyncobj_sees_connections_only_while_it_leads_or_stands(fence: Fence) -> None:
    fence.transport.link_up("n2")
    assert fence.connected == set()
    fence.transport.show_connected()
    assert fence.connected == {"n2", "n3"}
    fence.transport.hide_connected()
    assert fence.connected == set()
    fence.state.leads(term=2)
    fence.transport.became_leader()
    assert fence.connected == {"n2", "n3"}
    fence.transport.link_down("n2")
    assert fence.connected == {"n3"}
    fence.transport.link_up("n2")
    assert fence.connected == {"n2", "n3"}


def test_votes_and_requests_pass_the_elections_both_ways(fence: Fence) -> None:
    fence.send("n2", type="request_vote", term=2, last_log_index=1, last_log_term=0)
    fence.send("n3", type="response_vote", term=2)
    assert fence.elections.calls == [("ask_vote", "n2", 2, 1, 0), ("give_vote", "n3", 2)]
    assert fence.outgoing == []
    fence.receive("n2", wire.VOTE_REQUEST, 3, 4, 2, False)
    fence.receive("n2", wire.VOTE, 3)
    assert [message for _, message in fence.delivered] == [
        {"type": "request_vote", "term": 3, "last_log_index": 4, "last_log_term": 2},
        {"type": "response_vote", "term": 3},
    ]
    fence.elections.lets_pass = False
    fence.receive("n2", wire.VOTE_REQUEST, 3, 4, 2, False)
    fence.receive("n2", wire.VOTE, 3)
    assert len(fence.delivered) == 2


def test_only_the_leader_of_this_term_can_hand_over(fence: Fence) -> None:
    fence.state.follows("n2", term=2)
    fence.receive("n3", wire.TIMEOUT_NOW, 2)
    fence.receive("n2", wire.TIMEOUT_NOW, 1)
    assert fence.delivered == []
    fence.receive("n2", wire.TIMEOUT_NOW, 2)
    assert fence.delivered == [("n2", {"type": "timeout_now", "term": 2})]
    assert fence.elections.calls == [("begin_transfer",)]


def test_handing_over_ends_the_lease_before_the_peer_is_asked(fence: Fence) -> None:
    fence.state.leads(term=2)
    fence.send("n2", type="timeout_now", term=2)
    assert fence.reads.calls == [("end_lease",)]
    assert fence.take() == [("n2", [wire.TIMEOUT_NOW, 2])]


def test_a_probe_is_echoed_for_the_leader_of_this_term_only(fence: Fence) -> None:
    fence.state.follows("n2", term=3)
    fence.receive("n2", wire.READ_PROBE, 3, 7)
    assert fence.take() == [("n2", [wire.READ_ECHO, 3, 7])]
    assert fence.elections.heard == 1
    fence.receive("n3", wire.READ_PROBE, 3, 7)
    fence.receive("n2", wire.READ_PROBE, 4, 7)
    assert fence.take() == []
    fence.receive("n3", wire.READ_PROBE, 2, 7)
    assert fence.take() == [("n3", [wire.HIGHER_TERM, 3])]


def test_a_forwarded_batch_is_proposed_and_a_bad_one_harms_nobody(fence: Fence) -> None:
    fence.receive("n2", wire.FORWARD, batch(0, 0, b"n2:ab"))
    fence.state.refuses = True
    fence.receive("n2", wire.FORWARD, batch(0, 0, b"n2:ab"))
    assert fence.state.proposed == [batch(0, 0, b"n2:ab")]


@pytest.mark.parametrize("origin", [b"n1:ab", b"n3:ab", b"n2", b"n2ab", b":n2", b"n2:x:ab"])
def test_a_batch_in_another_node_s_name_is_not_proposed(fence: Fence, origin: bytes) -> None:
    fence.state.leads(term=1)
    with pytest.raises(WireError, match="another node's name"):
        fence.receive("n2", wire.FORWARD, batch(0, 0, origin))
    assert fence.state.proposed == []


# -- what cannot be true -------------------------------------------------------------------------

FAR = 1 + TERM_STEP_MAX


@pytest.mark.parametrize(
    "message",
    [
        pytest.param([wire.APPEND, FAR + 1, 1, 1, 0, []], id="append"),
        pytest.param([wire.ACK, FAR + 1, 1, False, True], id="ack"),
        pytest.param([wire.VOTE_REQUEST, FAR + 1, 1, 0, True], id="vote request"),
        pytest.param([wire.VOTE, FAR + 1], id="vote"),
        pytest.param([wire.PRE_VOTE, FAR + 1, 1, 0], id="pre-vote"),
        pytest.param([wire.PRE_GRANT, FAR + 1], id="pre-grant"),
        pytest.param([wire.HIGHER_TERM, FAR + 1], id="higher term"),
        pytest.param([wire.TIMEOUT_NOW, FAR + 1], id="timeout now"),
        pytest.param([wire.READ_PROBE, FAR + 1, 1], id="read probe"),
        pytest.param([wire.READ_ECHO, FAR + 1, 1], id="read echo"),
        pytest.param([wire.SNAPSHOT_BEGIN, FAR + 1, 1, 9, 1, 1, bytes(32)], id="snapshot"),
    ],
)
def test_a_term_far_above_ours_is_not_believed(fence: Fence, message: list[Any]) -> None:
    with pytest.raises(WireError, match="claims a term"):
        fence.receive("n2", *message)
    assert fence.delivered == fence.outgoing == fence.state.observed == []
    assert fence.elections.calls == []
    message[1] -= 1
    fence.receive("n2", *message)  # this one may be


@pytest.mark.parametrize("next_index", [0, 4, 2**63 - 1])
@pytest.mark.parametrize("success", [True, False])
def test_an_acknowledgement_of_what_there_is_not_is_refused(
    fence: Fence, next_index: int, success: bool
) -> None:
    fence.state.leads(term=1)
    fence.log((2, 1))
    with pytest.raises(WireError, match="there are not"):
        fence.receive("n2", wire.ACK, 1, next_index, True, success)
    assert fence.delivered == []


def test_a_second_leader_of_the_term_that_we_lead_is_refused(fence: Fence) -> None:
    fence.state.leads(term=2)
    with pytest.raises(WireError, match="which this node leads"):
        fence.receive_append("n2", 2, (1, 0), (2, 2))
    assert fence.delivered == []
    assert fence.state.is_leader()


def test_snapshot_and_read_messages_go_to_their_rooms(fence: Fence) -> None:
    fence.receive("n2", wire.SNAPSHOT_ACK, 1, 5, False)
    fence.receive("n2", wire.READ_ECHO, 1, 2)
    fence.receive("n2", wire.READ_ASK, 3)
    fence.receive("n2", wire.READ_GRANT, 3, 4)
    assert fence.snapshots.received == [("n2", [wire.SNAPSHOT_ACK, 1, 5, False])]
    assert fence.reads.calls == [
        ("on_echo", "n2", 1, 2),
        ("on_ask", "n2", 3),
        ("on_grant", "n2", 3, 4),
    ]
