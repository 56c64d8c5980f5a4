"""`trimaran recover --new-cluster`: the majority is lost for good, and one node's data is left.

    1 nobody else answers with a leader         else the majority is there: refused
    2 DATA_DIR's newest state, and behind it    DATA_DIR is changed only as any start would: a
      every entry of its journal                torn tail goes, a checkpoint is made
    3 that is founded as a new cluster          node.founding: a new identity, one member
    4 DATA_DIR -> DATA_DIR.before-recovery-<n>  evidence is never deleted
      the new directory -> DATA_DIR

What is kept: every acknowledged write that this node has. Of its journal all is taken, committed
or not: an entry of which it did not learn that it was committed may have been acknowledged to a
client by those that are lost. What is given up: acknowledged writes that only the lost ones had. A
node that was linked and not behind has all of them but those of its last moments; one that was cut
off or slow lacks more, so take the one with the highest last index, which each of them says.

Invariants: never with a node on the directory (its lock is taken), never while any other member
knows a leader, never by guessing: without --new-cluster it only says what is left. The members of
the old cluster and the new directory are strangers for ever, and may not lie side by side, where
one supervisor would start both.

A crash leaves DATA_DIR where it was, or under its new name with nothing in its place and the new
one in DATA_DIR.founded: run it again.

Does not do: start the node, seat others (`trimaran member add`), merge what several nodes have.

Proved by: tests/cluster/test_recover.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node import founding
from node.client import find_leader, statuses
from node.config import Config
from node.config_members import Member
from node.entry import KIND_BATCH, Entry, unwrap
from node.errors import Fatal, Rejected, Unavailable
from node.journal_files import JournalFiles, TermFile
from node.members_file import MEMBERS_FILE, read_members_file
from node.verify import UntouchedDisk
from statemachine import CheckpointConfig, FileStateMachine, LogId, WalConfig
from statemachine.fs import Disk

__all__ = ["Remains", "look", "recover"]

_FOUNDED: Final = ".founded"


@dataclass(frozen=True, slots=True)
class Remains:
    """What a directory still holds."""

    applied: LogId
    keys: int
    entries: tuple[Entry, ...]
    """Of the journal, behind what is applied."""
    term: int
    """The highest that this node has heard of."""
    others: tuple[Member, ...]
    """The members that are given up."""

    @property
    def last_index(self) -> int:
        """Up to which nothing is missing here."""
        return self.entries[-1][1] if self.entries else self.applied.index


def look(data_dir: Path, config: Config) -> Remains:
    """What there is to recover. The caller holds the lock.

    Raises:
        Fatal: the directory is damaged: this node has nothing that can be vouched for.
    """
    disk = UntouchedDisk()
    machine = _open_machine(data_dir)
    try:
        applied, keys = machine.last_applied, len(machine)
    finally:
        machine.close()
    journal = data_dir / "journal"
    entries = JournalFiles(journal, disk, 1).load() if disk.exists(journal) else []
    term, _vote = TermFile(journal / "term", disk).load()
    return Remains(
        applied=applied,
        keys=keys,
        entries=tuple(_behind(entries, applied)),
        term=max(term, applied.term),
        others=_others(data_dir, config),
    )


def _open_machine(data_dir: Path) -> FileStateMachine:
    wal = WalConfig(sync="checkpoint")
    return FileStateMachine(data_dir, wal=wal, checkpoint=CheckpointConfig(), lock=False)


def _behind(entries: Sequence[Entry], applied: LogId) -> Sequence[Entry]:
    """Those that go on from the state; the rules are those of node.raft.align."""
    by_index = {index: place for place, (_, index, _) in enumerate(entries)}
    if not entries or entries[-1][1] <= applied.index:
        return ()
    if applied.index == 0:
        if entries[0][1] > 1:
            raise Fatal(f"the journal begins at {entries[0][1]}, and there is no state")
        return entries
    place = by_index.get(applied.index)
    if place is None:
        raise Fatal(
            f"the journal begins at {entries[0][1]}, the state ends at {applied.index}: what is "
            f"between them is lost"
        )
    if entries[place][2] != applied.term:
        return ()  # An older log than the state: a snapshot came, and then a crash.
    return entries[place + 1 :]


def _others(data_dir: Path, config: Config) -> tuple[Member, ...]:
    """The other members, as this node last knew them."""
    path, disk = data_dir / MEMBERS_FILE, Disk()
    members = config.members
    if disk.exists(path):
        known = read_members_file(path, disk.read_bytes(path))
        roster = known.pending[-1][1] if known.pending else known.roster
        if roster.index > 0:
            members = roster.members
    return tuple(each for each in members if each.id != config.node.id)


def recover(
    data_dir: Path,
    config: Config,
    password: str,
    say: Callable[[str], None],
    *,
    new_cluster: bool,
) -> bool:
    """Say what is left and, if told to, make a new cluster of it. Whether that was done.

    Raises:
        DirectoryInUse: the node runs.
        Rejected: another member has a leader; a majority is there.
        Fatal: what is left is damaged.
    """
    disk = Disk()
    founded = data_dir.with_name(data_dir.name + _FOUNDED)
    if disk.exists(founded) and not disk.exists(data_dir):
        disk.rename(founded, data_dir)  # An earlier try ended between its last two steps.
        disk.sync_dir(data_dir.parent)
        say(f"{data_dir} is the new cluster's only member; an earlier try had come that far")
        return True
    if not data_dir.is_dir():
        raise Rejected(f"{data_dir} is not there")
    lock = disk.lock(data_dir / "LOCK")
    try:
        remains = look(data_dir, config)
        _refuse_while_there_is_a_leader(remains.others, password)
        _tell(data_dir, config, remains, say)
        if not new_cluster:
            return False
        _refuse_beside_the_old(data_dir, remains.others)
        if disk.exists(founded):
            disk.remove_tree(founded)
        begin = founding.found(
            disk, founded, config.member, lambda machine: _fill(machine, data_dir, remains, disk)
        )
    finally:
        lock.release()
    # 1 set the old one aside, 2 put the new one in its place. Crash between: see the top.
    aside = _free_name(data_dir)
    disk.rename(data_dir, aside)
    disk.rename(founded, data_dir)
    disk.sync_dir(data_dir.parent)
    say(f"{data_dir} is kept as {aside}")
    say(f"{data_dir} is the only member of a new cluster, whose log begins at {begin.index}")
    return True


def _refuse_while_there_is_a_leader(others: Sequence[Member], password: str) -> None:
    if not others:
        return
    try:
        found = statuses([each.client for each in others], password)
    except Unavailable:
        return  # Nobody answers: that is what this is for.
    leader = find_leader(found)
    known = {str(each.fields.get("leader")) for each in found if each.fields.get("leader")}
    if leader is not None or known:
        name = leader.id if leader is not None else ", ".join(sorted(known))
        raise Rejected(
            f"{name} leads: the majority is there, and nothing is lost. "
            f"`trimaran repair --from-peers` gives this node a new place in it"
        )


def _refuse_beside_the_old(data_dir: Path, others: Sequence[Member]) -> None:
    """One `trimaran cluster` would start the lost nodes too: the old cluster beside the new."""
    there = [each.id for each in others if (data_dir.parent / each.id / "identity.json").exists()]
    if there:
        raise Rejected(
            f"{data_dir.parent} still has the old cluster's {', '.join(there)}, which would be "
            f"started beside the new one: set them aside first (mv)"
        )


def _tell(data_dir: Path, config: Config, remains: Remains, say: Callable[[str], None]) -> None:
    say(f"{data_dir}: {config.node.id} has {remains.keys} keys as of entry {remains.applied.index}")
    count = len(remains.entries)
    say(f"and {count} entries behind it, up to {remains.last_index}, term {remains.term}")
    gone = ", ".join(each.id for each in remains.others) or "nobody"
    say(f"given up: {gone}, and every write that only they have")


def _fill(machine: FileStateMachine, data_dir: Path, remains: Remains, disk: Disk) -> int:
    """The old state, and the entries behind it, into the new machine."""
    if remains.applied.index > 0:
        handover = data_dir.with_name(data_dir.name + ".handover")
        old = _open_machine(data_dir)
        try:
            old.generate_snapshot(handover)
            founding.install(machine, handover / "snapshot.bin", disk)
        finally:
            old.close()
            disk.remove_tree(handover)
    for command, index, term in remains.entries:
        kind, payload = unwrap(command)
        if kind == KIND_BATCH:
            machine.apply(index, term, payload)
        else:
            machine.skip(index, term)
    return remains.term


def _free_name(data_dir: Path) -> Path:
    number = 1
    while (aside := data_dir.with_name(f"{data_dir.name}.before-recovery-{number}")).exists():
        number += 1
    return aside
