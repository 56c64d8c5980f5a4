"""A new cluster from a state that is there already: one directory, one founder, the others join.

    restore(FILE, ...)     a backup      -+
                                          +->  DIR/n1.founding  ->  rename  ->  DIR/n1
    recover (node.recover) what is left  -+

    1 the state is installed, checked as any snapshot that a node receives
    2 last applied moves INDEX_GAP entries and TERM_GAP terms ahead     durable: a checkpoint
    3 members.json: the founder is the only member                      as of that index
    4 identity.json: a new incarnation, written last                    before it: no directory
    5 rename, directory synced

Why one directory and not one for each node: three copies would have to agree for ever on what is
behind them. One founder with everything, and others that join empty and get it from its log,
cannot differ, whatever is done in which order.

Why the gaps. Revisions go into fencing tokens, conditional writes and watches: after an older
backup came back, the same numbers would be handed out again for other writes. And a node of the
old cluster that turns up again must find its log in nothing here: entries match by index and
term, so no term that it can have seen is ever used. A gap costs nothing: it is not stored.

Invariants:
  A directory with data in it is never touched: not written into, not replaced, not removed.
  Before the rename there is no DIR/n1; after it, it is whole.
  Whoever knew the old incarnation calls the new directory a stranger (node.introductions), and
  the founder links with nobody whom its roster does not name.

A crash leaves DIR/n1.founding, which no node opens (it has no identity) and the next try removes.

Does not do: start anything; bring leases back to life (their deadlines are absolute).

Proved by: tests/node/test_founding.py, tests/cluster/test_backup.py, tests/cluster/test_recover.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.config_members import Member
from node.errors import ConfigError
from node.identity import new_incarnation, prepare_founding
from node.members_file import MEMBERS_FILE, MembersFile
from node.roster import VOTER, Roster, Seat
from statemachine import CheckpointConfig, FileStateMachine, LogId, SnapshotMetadata, WalConfig
from statemachine.fs import FileSystem, replace_file
from statemachine.image_reader import read_image

__all__ = ["INDEX_GAP", "TERM_GAP", "found", "install", "refuse_what_is_there"]

INDEX_GAP: Final = 1_000_000_000
"""More than are written between two backups that anybody would still restore: 1,000 batches each
second for eleven days."""

TERM_GAP: Final = 1_000_000
"""More elections than the old cluster can have held meanwhile: one every 150 ms for 41 hours."""

_SUFFIX: Final = ".founding"
_COPY_BYTES: Final = 1024 * 1024


def refuse_what_is_there(disk: FileSystem, directory: Path) -> None:
    """Raises: ConfigError: there is something at `directory`."""
    if disk.exists(directory) and (not directory.is_dir() or disk.list_dir(directory)):
        raise ConfigError(
            [(str(directory), "is not empty: nothing is ever restored over what is there")]
        )


def found(
    disk: FileSystem,
    directory: Path,
    member: Member,
    fill: Callable[[FileStateMachine], int],
) -> LogId:
    """Make `directory` the founder's of a new cluster.

    Args:
        fill: puts the state into an empty machine; the highest term that was ever heard of.

    Returns: where the new cluster's log begins.

    Raises: ConfigError (something is there), Rejected (by `fill`), DiskFailed.
    """
    refuse_what_is_there(disk, directory)
    building = directory.with_name(directory.name + _SUFFIX)
    if disk.exists(building):
        disk.remove_tree(building)
    disk.make_dir(building)
    try:
        begin = _build(disk, building, member, fill)
    except BaseException:
        disk.remove_tree(building)
        raise
    if disk.exists(directory):
        disk.remove_tree(directory)  # Empty, as was looked at above.
    disk.rename(building, directory)
    disk.sync_dir(directory.parent)
    return begin


def _build(
    disk: FileSystem, directory: Path, member: Member, fill: Callable[[FileStateMachine], int]
) -> LogId:
    wal, checkpoint = WalConfig(sync="checkpoint"), CheckpointConfig()
    machine = FileStateMachine(directory, wal=wal, checkpoint=checkpoint, disk=disk, lock=False)
    try:
        term = max(fill(machine), machine.last_applied.term)
        index = machine.last_applied.index
        begin = LogId(index=index + INDEX_GAP, term=term + TERM_GAP)
        machine.skip(begin.index, begin.term)
        machine.checkpoint()
    finally:
        machine.close()
    disk.make_dir(directory / "journal")
    incarnation = new_incarnation()
    seat = Seat(member=member, role=VOTER, since=begin.index, incarnation=incarnation)
    roster = Roster(index=begin.index, seats=(seat,))
    replace_file(disk, directory / MEMBERS_FILE, [MembersFile(roster, {}).encode()])
    # Last: without it the directory is nobody's (node.identity refuses it).
    prepare_founding(disk, directory, member.id, incarnation)
    return begin


def install(machine: FileStateMachine, file_path: Path, disk: FileSystem) -> SnapshotMetadata:
    """Put an image file into an empty machine, as a snapshot that was received.

    Raises:
        FileNotFoundError: there is no such file.
        Corrupt, Unsupported: it does not check out.
    """
    file = disk.open_read(file_path)
    try:
        image = read_image(file_path, file)
        metadata = SnapshotMetadata(image.last, image.checksum, image.size_bytes)
        del image
        receiver = machine.snapshot_receiver()
        receiver.begin(metadata)
        offset = 0
        while chunk := file.pread(_COPY_BYTES, offset):
            receiver.write(chunk)
            offset += len(chunk)
    finally:
        file.close()
    machine.apply_snapshot_from_file(metadata, receiver.finish())
    return metadata
