"""Whose data directory this is, and how often it was opened.

    DATA_DIR/
      LOCK             held while a process owns the directory (flock: gone with the process)
      identity.json    {"format": 1, "node": "n1", "members": ["n1", "n2", "n3"],
                        "joined": false, "incarnation": "5f0c9e12a4b7d386", "epoch": 7}
      members.json     who the members are by now (node.membership)
      journal/ wal/ checkpoint/ snapshot/

The incarnation is made once for each directory, at random; the epoch rises by one at each
opening and is durable before anything else happens. So (origin = id:incarnation, epoch, sequence)
names a batch for ever: what an earlier life of this node still has on its way is told from what
this life proposes (statemachine.store), and a directory that was wiped from the one that the
cluster remembers (node.batches).

`joined` says that the node was no founder: it waits until the cluster seats it. It is set by
node.join at the first opening, or by `trimaran repair`, and never changes again.

A directory of another node, or of another cluster, is refused: a node that answered with
somebody else's log could undo acknowledged writes. Once members have changed (members.json says
so), the list in the configuration may be older or newer than the directory.

A crash before the rename leaves the old epoch: nothing was proposed under the new one. In the
very first opening it may leave a temporary file, which the next one replaces.

Proved by: tests/node/test_identity.py
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.errors import ConfigError, Corrupt, Unsupported
from node.members_file import MEMBERS_FILE, read_members_file
from statemachine.fs import TEMPORARY_SUFFIX, FileSystem, Lock, replace_file

__all__ = ["Identity", "new_incarnation", "prepare_founding", "prepare_joining"]

_FORMAT: Final = 1
_NAME: Final = "identity.json"
_EARLY: Final = frozenset(("LOCK", _NAME + TEMPORARY_SUFFIX))
"""What a crash in the first opening of all may leave behind."""


def new_incarnation() -> str:
    """The name of a new directory, at random."""
    return secrets.token_hex(8)


class Identity:
    """The owner of a data directory. Release it when the node stops.

    Args:
        data_dir: made when it is not there.
        node_id: who we are.
        member_ids: everybody in the cluster, as the configuration has it.
        joined: of a new directory: whether it waits to be seated.
        name_anew: makes the name of a new directory: random, hexadecimal.

    Raises:
        ConfigError: the directory belongs to another node or cluster, or holds foreign files.
        DirectoryInUse: another process owns it.
        Corrupt, Unsupported, DiskFailed.
    """

    def __init__(
        self,
        data_dir: Path,
        node_id: str,
        member_ids: list[str],
        disk: FileSystem,
        name_anew: Callable[[], str] = new_incarnation,
        *,
        joined: bool = False,
    ) -> None:
        disk.make_dir(data_dir)
        path = data_dir / _NAME
        self._lock: Lock = disk.lock(data_dir / "LOCK")
        try:
            if disk.exists(path):
                epoch, incarnation, joined, founders = _read(path, node_id, disk.read_bytes(path))
                if not _have_changed(data_dir, disk):
                    _refuse_others(data_dir, founders, member_ids)
                member_ids = founders
            elif foreign := [name for name in disk.list_dir(data_dir) if name not in _EARLY]:
                problem = f"{data_dir} holds {foreign[0]!r} but no {_NAME}: not a data directory"
                raise ConfigError([("node.data_dir", problem)])
            else:
                epoch, incarnation = 0, name_anew()
            self.epoch: int = epoch + 1
            self.incarnation = incarnation
            self.joined = joined
            self.origin: bytes = f"{node_id}:{incarnation}".encode()
            """Names this directory for ever: who made a batch (statemachine.store)."""
            fields = {
                "format": _FORMAT,
                "node": node_id,
                "members": member_ids,
                "joined": joined,
                "incarnation": incarnation,
                "epoch": self.epoch,
            }
            replace_file(disk, path, [json.dumps(fields).encode() + b"\n"])
            for name in ("journal", "wal", "checkpoint", "snapshot"):
                disk.make_dir(data_dir / name)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another process open the directory."""
        self._lock.release()


def prepare_joining(disk: FileSystem, data_dir: Path, node_id: str, member_ids: list[str]) -> None:
    """Make a new directory that waits to be seated. Its first opening is epoch 1."""
    disk.make_dir(data_dir)
    _write_first(disk, data_dir, node_id, member_ids, new_incarnation(), joined=True)


def prepare_founding(disk: FileSystem, data_dir: Path, node_id: str, incarnation: str) -> None:
    """Make a directory the only founder's of a new cluster (node.founding)."""
    _write_first(disk, data_dir, node_id, [node_id], incarnation, joined=False)


def _write_first(
    disk: FileSystem,
    data_dir: Path,
    node_id: str,
    member_ids: list[str],
    incarnation: str,
    *,
    joined: bool,
) -> None:
    fields = {
        "format": _FORMAT,
        "node": node_id,
        "members": member_ids,
        "joined": joined,
        "incarnation": incarnation,
        "epoch": 0,
    }
    replace_file(disk, data_dir / _NAME, [json.dumps(fields).encode() + b"\n"])


def _read(path: Path, node_id: str, data: bytes) -> tuple[int, str, bool, list[str]]:
    """Epoch, incarnation, joined and members, when the directory is this node's."""
    try:
        found = json.loads(data)
        format_, node = int(found["format"]), str(found["node"])
        members, epoch = list(found["members"]), int(found["epoch"])
        incarnation, joined = str(found["incarnation"]), bool(found.get("joined", False))
        int(incarnation, 16)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Corrupt(path, 0, "not an identity file") from error
    if format_ > _FORMAT:
        raise Unsupported(path, format_, _FORMAT)
    if node != node_id:
        problem = f"{path.parent} is the data of node {node!r}, not of {node_id!r}"
        raise ConfigError([("node.data_dir", problem)])
    return epoch, incarnation, joined, members


def _have_changed(data_dir: Path, disk: FileSystem) -> bool:
    """Whether the cluster has other members by now than those it was founded with."""
    path = data_dir / MEMBERS_FILE
    if not disk.exists(path):
        return False
    known = read_members_file(path, disk.read_bytes(path))
    return known.roster.index > 0 or bool(known.pending)


def _refuse_others(data_dir: Path, founders: list[str], member_ids: list[str]) -> None:
    if sorted(founders) != sorted(member_ids):
        problem = (
            f"{data_dir} belongs to the cluster {', '.join(sorted(founders))}, "
            f"not to {', '.join(sorted(member_ids))}"
        )
        raise ConfigError([("node.data_dir", problem)])
