"""The private seams of PySyncObj that node.raft, node.transport and node.journal stand on.

Goal: that a changed library fails here, by name, and not as a lost write. Nothing of the node is
tested but its assumptions; the version is pinned for the same reason.
"""

from __future__ import annotations

import inspect
import pickle
import queue
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pysyncobj
import pysyncobj.syncobj
import pytest
from pysyncobj import _COMMAND_TYPE, FAIL_REASON, SyncObjConf
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.journal import Journal, MemoryJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from node.entry import COMMAND_OVERHEAD_BYTES, KIND_BATCH, NOOP_COMMAND, wrap
from node.journal import FileJournal
from node.raft import Replica
from tests.support.bare import Bare, bare_clock
from tests.support.fence import entry

SETTINGS = """
    autoTick appendEntriesUseBatch commandsWaitLeader commandsQueueSize raftMinTimeout
    raftMaxTimeout appendEntriesPeriod leaderFallbackTimeout connectionTimeout
    appendEntriesBatchSizeBytes journalFile fullDumpFile serializer deserializer
    serializeChecker logCompactionMinEntries logCompactionMinTime onStateChanged
"""


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with bare_clock():
        yield


def test_the_library_is_the_one_whose_source_was_read() -> None:
    assert VERSION == version("pysyncobj") == "0.3.17"


# -- what node.raft uses -------------------------------------------------------------------------


def test_the_constructor_takes_its_journal_from_a_module_global() -> None:
    journal = MemoryJournal()
    assert pysyncobj.syncobj.createJournal(journal) is journal
    assert isinstance(pysyncobj.syncobj.createJournal(None), MemoryJournal)
    assert Bare("n1", [], journal)._SyncObj__raftLog is journal


def test_the_constructor_reads_term_vote_and_commit_index_from_the_journal() -> None:
    journal = MemoryJournal()
    journal.setCurrentTerm(7, "n3")
    bare = Bare("n1", ["n2", "n3"], journal)
    assert bare.raftCurrentTerm == 7
    assert bare._SyncObj__votedForNodeId == "n3"
    assert bare.raftCommitIndex == 1
    bare.receive("n2", type="request_vote", term=7, last_log_index=9, last_log_term=7)
    assert bare.sent("response_vote") == []


def test_an_empty_journal_begins_with_a_no_op_at_1_in_term_0() -> None:
    journal = MemoryJournal()
    Bare("n1", [], journal)
    assert journal[:] == [(NOOP_COMMAND, 1, 0)]


def test_no_pipe_is_made_when_the_module_global_says_so() -> None:
    assert pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED is False
    assert not hasattr(Bare("n1", []), "_SyncObj__pipeNotifier")


def test_the_poller_is_a_plain_attribute_and_is_polled_once_a_tick() -> None:
    bare = Bare("n1", [])
    polled: list[float] = []

    class Poller:
        def poll(self, timeout: float) -> None:
            polled.append(timeout)

    assert hasattr(bare, "_poller")
    bare._poller = Poller()
    bare.tick()
    assert polled == [0]


def test_time_comes_from_one_module_global() -> None:
    assert callable(pysyncobj.syncobj.monotonicTime)
    bare = Bare("n1", ["n2", "n3"])
    bare.connect()
    bare.tick()
    assert bare.raftCurrentTerm == 0
    bare.advance(10)
    bare.tick()
    assert bare.raftCurrentTerm == 1


def test_the_one_replicated_method_has_id_0() -> None:
    bare = Bare("n1", [])
    assert list(bare._idToMethod) == [0]
    replicated = [name for name in dir(Replica) if getattr(getattr(Replica, name), "replicated", 0)]
    assert [name for name in replicated if not name.endswith("_v0")] == ["apply"]


@pytest.mark.parametrize("batch", [b"", b"x", b"\x85\x86.", bytes(range(256)) * 300])
def test_the_fixed_frame_is_a_command_that_calls_the_method_with_the_bytes(batch: bytes) -> None:
    command = wrap(KIND_BATCH, batch)
    assert command[:1] == bytes([_COMMAND_TYPE.REGULAR]) == b"\0"
    assert pickle.loads(command[1:]) == (0, (batch,))
    assert len(command) == len(batch) + COMMAND_OVERHEAD_BYTES
    bare = Bare("n1", ["n2", "n3"])
    bare.append("n2", 1, (1, 0), [], commit=1)
    bare.receive(
        "n2",
        type="append_entries",
        term=1,
        commit_index=2,
        prevLogIdx=1,
        prevLogTerm=0,
        entries=[(command, 2, 1)],
    )
    bare.tick()
    assert bare.applied == [batch]


def test_a_no_op_is_the_one_byte_1_and_calls_nothing() -> None:
    assert bytes([_COMMAND_TYPE.NO_OP]) == NOOP_COMMAND
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    assert bare._SyncObj__raftLog[-1] == (NOOP_COMMAND, 2, 1)
    bare.acknowledged("n2", 2)
    bare.tick()
    assert (bare.raftLastApplied, bare.applied) == (2, [])


def test_last_applied_is_one_less_than_the_index_that_is_being_applied() -> None:
    bare = Bare("n1", ["n2", "n3"])
    seen: list[int] = []
    bare.on_apply = lambda batch: seen.append(bare.raftLastApplied + 1)
    bare.append("n2", 1, (1, 0), [(2, 1), (3, 1), (4, 1)], commit=4)
    bare.tick()
    assert seen == [2, 3, 4]


def test_a_proposed_command_is_appended_and_sent_within_the_call() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.wire.messages.clear()
    bare.propose(b"batch")
    assert bare.log[-1] == (3, 1)
    assert sorted(to for to, _ in bare.sent("append_entries")) == ["n2", "n3"]
    with pytest.raises(queue.Empty):
        bare._SyncObj__commandsQueue.get_nowait()


def test_the_private_names_that_are_read_or_set_are_there() -> None:
    bare = Bare("n1", ["n2", "n3"])
    for name in (
        *("raftLog", "raftState", "raftElectionDeadline", "serializer", "commandsQueue"),
        *("otherNodes", "readonlyNodes", "connectedNodes", "raftNextIndex", "raftMatchIndex"),
        *("lastResponseTime", "sendAppendEntries"),
    ):
        assert hasattr(bare, f"_SyncObj__{name}"), name
    assert hasattr(bare._SyncObj__serializer, "getTransmissionData")
    assert bare._getLeader() is None
    assert bare._isLeader() is False


def test_a_no_op_with_a_tail_is_a_no_op_and_its_tail_is_not_unpickled() -> None:
    bare = Bare("n1", [])
    bare.advance(10)
    bare.tick()
    assert bare.is_leader
    # Two entries put into the log past the queue, as node.raft does it with a roster.
    log = bare._SyncObj__raftLog
    log.add(b"\x01no pickle at all", bare.log[-1][0] + 1, bare.raftCurrentTerm)
    log.add(wrap(KIND_BATCH, b"behind it"), bare.log[-1][0] + 1, bare.raftCurrentTerm)
    bare.tick()
    assert bare.applied == [b"behind it"]
    assert bare.raftLastApplied == bare.log[-1][0]


def test_a_read_only_node_is_sent_everything_and_counts_nowhere() -> None:
    bare = Bare("n1", ["n2"])
    bare.lead()
    learner = Node("n3")
    bare._SyncObj__readonlyNodes.add(learner)
    bare._SyncObj__raftNextIndex[learner] = bare.log[-1][0] + 1
    bare._SyncObj__raftMatchIndex[learner] = 0
    bare.wire.connect("n3")
    bare.wire.messages.clear()
    bare.propose(b"batch")
    assert {to for to, _ in bare.sent("append_entries")} == {"n2", "n3"}
    before = bare.raftCommitIndex
    bare.acknowledged("n3", bare.log[-1][0])
    bare.tick()
    assert bare.raftCommitIndex == before  # of two voters it is not the second
    bare.acknowledged("n2", bare.log[-1][0])
    bare.tick()
    assert bare.raftCommitIndex == bare.log[-1][0]
    # Nor is it asked for its vote, and its answers keep nobody in office.
    bare.advance(100)
    bare.acknowledged("n3", bare.log[-1][0])
    bare.tick()
    assert not bare.is_leader
    bare.wire.messages.clear()
    bare.advance(10)
    bare.tick()
    assert {to for to, _ in bare.sent("request_vote")} == {"n2"}


def test_whom_pysyncobj_counts_is_a_set_that_may_be_replaced() -> None:
    bare = Bare("n1", ["n2"])
    bare.lead()
    bare._SyncObj__otherNodes = set()
    bare.propose(b"alone")
    bare.tick()
    assert bare.applied == [b"alone"]


def test_the_states_are_numbered_follower_candidate_leader() -> None:
    states = pysyncobj.syncobj._RAFT_STATE
    assert (states.FOLLOWER, states.CANDIDATE, states.LEADER) == (0, 1, 2)
    bare = Bare("n1", ["n2", "n3"])
    assert bare._SyncObj__raftState == 0
    bare.connect()
    bare.advance(10)
    bare.tick()
    assert bare._SyncObj__raftState == 1
    bare.lead()
    assert bare._SyncObj__raftState == 2


def test_a_change_of_state_is_told_before_the_first_entry_of_the_term_is_sent() -> None:
    told: list[tuple[int, int, int]] = []
    bare: Bare = Bare(
        "n1",
        ["n2", "n3"],
        onStateChanged=lambda old, new: told.append((old, new, len(bare.sent("append_entries")))),
    )
    bare.lead()
    assert told == [(0, 1, 0), (1, 2, 0)]


def test_an_election_deadline_of_0_and_a_connection_make_it_stand_in_the_next_tick() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.append("n2", 1, (1, 0), [], commit=1)
    bare._SyncObj__raftElectionDeadline = 0.0
    bare.tick()
    assert bare.raftCurrentTerm == 1  # nobody is connected
    bare.connect()
    bare.tick()
    assert bare.raftCurrentTerm == 2
    assert len(bare.sent("request_vote")) == 2


def test_the_dump_s_hook_gives_the_second_entry_first_and_is_asked_once_at_the_first_tick(
    tmp_path: Path,
) -> None:
    entries = [entry(index, 1) for index in range(5, 9)]
    journal = MemoryJournal()
    for each in entries:
        journal.add(*each)
    dump = tmp_path / "dump"
    dump.touch()
    asked: list[str] = []

    def first(path: str) -> tuple[Any, Any, set[Node]]:
        asked.append(path)
        return entries[1], entries[0], set()

    bare = Bare(
        "n1",
        ["n2", "n3"],
        journal,
        fullDumpFile=str(dump),
        serializer=lambda path, data: None,
        deserializer=first,
        serializeChecker=lambda: SERIALIZER_STATE.NOT_SERIALIZING,
    )
    bare.tick()
    bare.tick()
    assert asked == [str(dump)]
    assert bare.raftLastApplied == 6
    assert bare.log == [(5, 1), (6, 1), (7, 1), (8, 1)]


def test_a_last_transmission_runs_the_hook_and_begins_the_log_with_its_pair(
    tmp_path: Path,
) -> None:
    bare = Bare(
        "n2",
        ["n1", "n3"],
        fullDumpFile=str(tmp_path / "dump"),
        serializer=lambda path, data: None,
        deserializer=lambda path: (entry(9, 2), entry(8, 2), set()),
    )
    bare.tick()
    bare.append("n1", 3, (1, 0), [(2, 1)], commit=1)
    bare.receive("n1", type="append_entries", term=3, commit_index=0, serialized=(b"", True, True))
    assert bare.log == [(8, 2), (9, 2)]
    assert bare.raftLastApplied == 9


def test_a_peer_behind_the_log_gets_a_transmission_and_then_the_third_entry(tmp_path: Path) -> None:
    journal = MemoryJournal()
    for index in range(5, 9):
        journal.add(*entry(index, 1))
    dump = tmp_path / "dump"
    dump.touch()
    bare = Bare(
        "n1",
        ["n2", "n3"],
        journal,
        fullDumpFile=str(dump),
        serializer=lambda path, data: None,
        deserializer=lambda path: (journal[1], journal[0], set()),
    )
    bare._SyncObj__serializer.getTransmissionData = lambda peer: (b"", True, True)
    bare.lead()
    bare.wire.messages.clear()
    bare.receive("n2", type="next_node_idx", next_node_idx=3, reset=True, success=False)
    bare.advance(1)
    bare.tick()
    sent = [message for to, message in bare.sent("append_entries") if to == "n2"]
    assert sent[0]["serialized"] == (b"", True, True)
    assert sent[1]["prevLogIdx"] == 6
    assert sent[1]["entries"][0][1] == 7


def test_a_vote_request_with_no_log_raises_the_term_and_gets_no_vote() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.receive("", type="request_vote", term=9, last_log_index=0, last_log_term=-1)
    assert not bare.is_leader
    assert bare.raftCurrentTerm == 9
    assert bare._SyncObj__votedForNodeId is None
    assert bare.sent("response_vote") == []


def test_a_transfer_asks_only_a_peer_that_has_everything() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    bare.transferLeadership(Node("n2"))
    assert bare.sent("timeout_now") == []
    bare.acknowledged("n2", 2)
    bare.transferLeadership(Node("n2"))
    assert bare.sent("timeout_now") == [("n2", {"type": "timeout_now", "term": 1})]


def test_a_queue_size_of_0_is_no_limit_and_errors_have_a_name() -> None:
    bare = Bare("n1", [], commandsQueueSize=0)
    for _ in range(10_000):
        bare._applyCommand(b"\1", None)
    assert FAIL_REASON.QUEUE_FULL == 1


def test_the_settings_that_are_used_exist_and_the_election_timeout_has_its_lower_bound() -> None:
    conf = SyncObjConf(
        autoTick=False,
        raftMinTimeout=0.18,
        raftMaxTimeout=0.2,
        appendEntriesPeriod=0.06,
        connectionTimeout=2**62,
        leaderFallbackTimeout=1.2,
    )
    with pytest.raises(AssertionError):  # hence the deadline that `stand` sets
        conf.validate()
    known = inspect.getsource(SyncObjConf)
    for name in SETTINGS.split():
        assert f"'{name}'" in known, name


# -- what node.transport uses --------------------------------------------------------------------


def test_the_transport_hands_messages_and_connections_through_these_methods() -> None:
    for name in ("send", "ready", "tryGetReady"):
        assert hasattr(Transport, name), name
    heard: list[Any] = []
    transport = Transport(None, None, [])
    transport.setOnMessageReceivedCallback(lambda node, message: heard.append((node, message)))
    transport.setOnNodeConnectedCallback(lambda node: heard.append(node))
    transport.setOnNodeDisconnectedCallback(lambda node: heard.append(node))
    transport._onMessageReceived("a", 1)
    transport._onNodeConnected("b")
    transport._onNodeDisconnected("c")
    assert heard == [("a", 1), "b", "c"]
    assert transport.ready is True


def test_nodes_are_equal_by_id() -> None:
    assert Node("n1") == Node("n1")
    assert len({Node("n1"), Node("n1")}) == 1
    assert Node("n1").id == "n1"


def test_messages_have_the_fields_that_the_fence_reads_and_fills_in() -> None:
    bare = Bare("n1", ["n2", "n3"])
    bare.lead()
    (_, request), *_ = bare.sent("request_vote")
    assert request.keys() == {"type", "term", "last_log_index", "last_log_term"}
    (_, append), *_ = bare.sent("append_entries")
    assert append.keys() == {
        "type",
        "term",
        "commit_index",
        "entries",
        "prevLogIdx",
        "prevLogTerm",
    }
    peer = Bare("n2", ["n1", "n3"])
    peer.receive("n1", **request)
    ((_, vote),) = peer.sent("response_vote")
    assert vote == {"type": "response_vote", "term": 1}
    peer.receive("n1", **append)
    ((_, acknowledgement),) = peer.sent("next_node_idx")
    assert acknowledgement == {
        "type": "next_node_idx",
        "next_node_idx": 3,
        "reset": False,
        "success": True,
    }


def test_a_success_below_what_was_acknowledged_is_a_sign_of_life_and_nothing_else() -> None:
    bare = Bare("n1", ["n2", "n3"], leaderFallbackTimeout=2.0)
    bare.lead()
    bare.acknowledged("n2", 2)
    for _ in range(5):
        bare.advance(1)
        bare.acknowledged("n2", 1)
        bare.tick()
    assert bare.is_leader
    assert bare._SyncObj__raftMatchIndex[Node("n2")] == 2


# -- what node.journal uses ----------------------------------------------------------------------


def test_our_journal_answers_every_method_that_pysyncobj_s_have() -> None:
    asked = {
        name
        for name, member in inspect.getmembers(Journal, inspect.isfunction)
        if not name.startswith("__") or name in ("__getitem__", "__len__")
    }
    assert asked == {
        "_destroy",
        "__getitem__",
        "__len__",
        "add",
        "clear",
        "deleteEntriesFrom",
        "deleteEntriesTo",
        "getCurrentTerm",
        "getRaftCommitIndex",
        "getVotedForNodeId",
        "onOneSecondTimer",
        "setCurrentTerm",
        "setRaftCommitIndex",
    }
    missing = [
        name
        for name in asked
        if getattr(FileJournal, name) is getattr(Journal, name) and name != "onOneSecondTimer"
    ]
    assert missing == []
    assert FileJournal.__getitem__ is list.__getitem__  # C speed: list comes before Journal
