"""Which metrics a node has: gathered from their rooms when somebody asks, and then only.

    gather(facts) -> text       1-2 ms for some 400 lines

Names follow Prometheus's conventions: `trimaran_`, units in the name (seconds, bytes), `_total` for
counters. Counters begin at 0 with each process. Labels are bounded: members, commands of the table,
levels, places on disk, events of our own.

Does not do: text (node.web.exposition), count (node.meters, node.metered_disk, the rooms).

Proved by: tests/web/test_pages.py, tests/web/test_prometheus.py
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.connection import Frontend
from node.core import Core
from node.metered_disk import MeteredDisk
from node.version import TRIMARAN_VERSION
from node.web.exposition import Sample, family, histogram
from node.web.recorder import Recorder
from statemachine.errors import DiskFailed
from statemachine.fs import FileSystem

__all__ = ["Facts", "gather", "resident_bytes"]

_ROLES: Final = ("leader", "candidate", "follower")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where everything is counted."""

    core: Core
    frontend: Frontend
    meter: MeteredDisk
    recorder: Recorder
    disk: FileSystem
    """To look at: free space, and what the kernel says of this process."""
    started_ms: int


def gather(facts: Facts) -> str:
    """All families, as text."""
    return "".join(
        part
        for gathered in (_raft, _peers, _work, _disk, _clients, _process)
        for part in gathered(facts)
    )


def _one(name: str, kind: str, help_: str, value: float) -> str:
    return family(name, kind, help_, [({}, value)])


def _raft(facts: Facts) -> list[str]:
    core, recorder = facts.core, facts.recorder
    raft, journal = core.raft, core.raft.journal
    role = raft.role()
    info = {"id": core.config.node.id, "version": TRIMARAN_VERSION}
    roles: list[Sample] = [({"role": each}, each == role) for each in _ROLES]
    voters = len(core.membership.current.voters)
    return [
        _one("trimaran_up", "gauge", "1: this node answers.", 1),
        family("trimaran_node_info", "gauge", "Who this is.", [(info, 1)]),
        _one("trimaran_ready", "gauge", "1: has a leader and has caught up.", core.is_ready()),
        family("trimaran_role", "gauge", "1 for the role that it has.", roles),
        _one("trimaran_has_leader", "gauge", "1: a leader is known.", raft.leader_id() is not None),
        _one("trimaran_term", "gauge", "Current term.", raft.term()),
        _one("trimaran_voters", "gauge", "Members that vote.", voters),
        _one("trimaran_commit_index", "gauge", "Highest index known committed.",
             raft.commit_index()),
        _one("trimaran_applied_index", "gauge", "Highest index applied.", raft.applied_index()),
        _one("trimaran_durable_index", "gauge", "Highest index fsynced here.",
             journal.durable_index),
        _one("trimaran_last_index", "gauge", "Highest index in the journal.",
             journal.last_index if journal else 0),
        _one("trimaran_elections_total", "counter", "Elections this node stood for.",
             recorder.elections_total),
        _one("trimaran_leader_changes_total", "counter", "Leaders seen that were not the last one.",
             recorder.leader_changes_total),
    ]  # fmt: skip


def _peers(facts: Facts) -> list[str]:
    core = facts.core
    raft, links, leading = core.raft, core.links, core.transport.leading
    peers = [each.id for each in core.members() if each.id != core.config.node.id]
    up: list[Sample] = [({"peer": each}, links.is_up(each)) for each in peers]
    lag: list[Sample] = []
    if raft.is_leader() and raft.journal:
        last = raft.journal.last_index
        lag = [({"peer": each}, max(last - leading.acked_index(each), 0)) for each in peers]
    trips: list[Sample] = [
        ({"peer": each}, seconds)
        for each in peers
        if (seconds := links.round_trip_s(each)) is not None
    ]
    waiting: list[Sample] = [({"peer": each}, links.buffered_bytes(each)) for each in peers]
    return [
        family("trimaran_peer_up", "gauge", "1: the link to this peer is open.", up),
        family("trimaran_peer_lag_entries", "gauge",
               "Entries of the leader's journal that the peer has not acknowledged.", lag),
        family("trimaran_peer_round_trip_seconds", "gauge",
               "The kernel's smoothed round trip of the link.", trips),
        family("trimaran_peer_send_buffer_bytes", "gauge", "Waits to be sent to the peer.",
               waiting),
        _one("trimaran_peer_refusals_total", "counter",
             "Connections refused and links broken off.", links.refusals_count),
    ]  # fmt: skip


def _work(facts: Facts) -> list[str]:
    core = facts.core
    batches, machine = core.batches, core.machine
    meter = batches.meter
    reads: list[Sample] = [
        ({"level": level.value}, count) for level, count in core.service.reads_total.items()
    ]
    return [
        _one("trimaran_proposals_total", "counter", "Batches proposed by this node.",
             batches.proposed_total),
        _one("trimaran_proposals_in_flight", "gauge", "Batches proposed and not applied yet.",
             batches.in_flight),
        _one("trimaran_proposals_failed_total", "counter",
             "Batches whose clients heard that they failed, or that nobody knows.",
             meter.failed_total),
        histogram("trimaran_batch_commands", "Result slots in a batch of this node.",
                  [({}, meter.commands)]),
        _one("trimaran_batch_bytes_total", "counter", "Bytes of this node's applied batches.",
             meter.bytes),
        histogram("trimaran_batch_seconds",
                  "From the end of the loop turn that made a batch until it was applied here.",
                  [({}, meter.seconds)]),
        family("trimaran_read_runs_total", "counter",
               "Runs of reads (a pipeline's run is one) by consistency level.", reads),
        _one("trimaran_writes_refused", "gauge", "1: writes are refused (disk reserve, leaving).",
             batches.refusal is not None or batches.leaving is not None),
        _one("trimaran_keys", "gauge", "Keys stored.", len(machine)),
        _one("trimaran_leases", "gauge", "Keys with a deadline.", machine.leases_count),
        _one("trimaran_granted_leases", "gauge", "Leases that hold keys (TRI.LEASE).",
             machine.grants_count),
        histogram("trimaran_event_loop_lag_seconds",
                  "By how much the 10 ms timer of the event loop came late.", [({}, core.lag)]),
    ]  # fmt: skip


def _disk(facts: Facts) -> list[str]:
    core, meter = facts.core, facts.meter
    metadata = core.machine.snapshot_metadata
    return [
        histogram("trimaran_fsync_seconds", "fsyncs of the Raft journal and of the WAL.",
                  [({"place": place}, row) for place, row in meter.fsync.items()]),
        histogram("trimaran_image_seconds",
                  "Writing and syncing an image of the state: checkpoint, or snapshot.",
                  [({"place": place}, row) for place, row in meter.image.items()]),
        family("trimaran_written_bytes_total", "counter", "Bytes written, by place.",
               [({"place": place}, count) for place, count in meter.written_bytes.items()]),
        _one("trimaran_journal_bytes", "gauge", "Size of the Raft journal.",
             core.raft.journal.size_bytes),
        _one("trimaran_wal_bytes", "gauge", "Size of the WAL's files.", _wal_bytes(facts)),
        _one("trimaran_snapshot_bytes", "gauge", "Size of the newest snapshot.",
             metadata.size_bytes if metadata is not None else 0),
        _one("trimaran_snapshot_index", "gauge", "Last index in the newest snapshot.",
             metadata.last_included.index if metadata is not None else 0),
        _one("trimaran_disk_free_bytes", "gauge", "Free space where the data is.",
             facts.disk.free_bytes(core.config.node.data_dir)),
    ]  # fmt: skip


def _wal_bytes(facts: Facts) -> int:
    """Of the files that are there: a segment may go while we look."""
    directory = facts.core.config.node.data_dir / "wal"
    total = 0
    for name in facts.disk.list_dir(directory):
        try:
            total += facts.disk.size_bytes(directory / name)
        except (DiskFailed, FileNotFoundError):
            continue
    return total


def _clients(facts: Facts) -> list[str]:
    frontend = facts.frontend
    watches, tracker, history = frontend.watches, frontend.tracker, facts.core.machine.history
    rows = sorted(frontend.meter.rows.items())
    events: list[Sample] = [
        ({"level": level, "event": event}, count)
        for (level, event), count in sorted(facts.recorder.events_total.items())
    ]
    return [
        _one("trimaran_clients", "gauge", "Connected clients.", len(frontend.connections)),
        _one("trimaran_connections_total", "counter", "Client connections accepted.",
             frontend.connections_total),
        _one("trimaran_connections_rejected_total", "counter",
             "Client connections over client.max_clients.", frontend.rejected_total),
        _one("trimaran_requests_total", "counter", "Requests answered.", frontend.commands_total),
        histogram("trimaran_command_seconds",
                  "Commands by name, from the begin of their run to their answer.",
                  [({"command": name}, row) for name, row in rows]),
        _one("trimaran_watches", "gauge", "Watches of clients (TRI.WATCH).", len(watches)),
        _one("trimaran_watches_behind", "gauge", "Watches whose clients read too slowly, or catch "
             "up.", watches.behind_count),
        _one("trimaran_tracking_clients", "gauge", "Clients that keep a cache (CLIENT TRACKING).",
             tracker.clients_count),
        _one("trimaran_tracked_keys", "gauge", "Keys in caches of clients.", tracker.keys_count),
        _one("trimaran_history_keys", "gauge", "Changed keys that watches can go back to.",
             len(history)),
        _one("trimaran_history_bytes", "gauge", "What these take.", history.size_bytes),
        family("trimaran_log_events_total", "counter", "Events logged, from info on.", events),
    ]  # fmt: skip


def _process(facts: Facts) -> list[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [
        _one("process_cpu_seconds_total", "counter", "User and system time spent.",
             usage.ru_utime + usage.ru_stime),
        _one("process_resident_memory_bytes", "gauge", "Resident memory.",
             resident_bytes(facts.disk)),
        _one("process_start_time_seconds", "gauge", "Start of this node, Unix time.",
             facts.started_ms / 1000),
    ]  # fmt: skip


def resident_bytes(disk: FileSystem) -> int:
    """What the kernel says; where it has no /proc, the most there ever was."""
    try:
        pages = int(disk.read_bytes(Path("/proc/self/statm")).split()[1])
    except (OSError, DiskFailed, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
