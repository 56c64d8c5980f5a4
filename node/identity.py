"""Whose data directory this is, and how often it was opened.

    DATA_DIR/
      LOCK             held while a process owns the directory (flock: gone with the process)
      identity.json    {"format": 1, "node": "n1", "members": ["n1", "n2", "n3"],
                        "incarnation": "5f0c9e12a4b7d386", "epoch": 7}
      journal/ wal/ checkpoint/ snapshot/

The incarnation is made once for each directory, at random; the epoch rises by one at each
opening and is durable before anything else happens. So (origin = id:incarnation, epoch, sequence)
names a batch for ever: what an earlier life of this node still has on its way is told from what
this life proposes (statemachine.store), and a directory that was wiped from the one that the
cluster remembers (node.batches).

A directory of another node, or of another cluster, is refused: a node that answered with
somebody else's log could undo acknowledged writes.

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
from statemachine.fs import TEMPORARY_SUFFIX, FileSystem, Lock, replace_file

__all__ = ["Identity"]

_FORMAT: Final = 1
_NAME: Final = "identity.json"
_EARLY: Final = frozenset(("LOCK", _NAME + TEMPORARY_SUFFIX))
"""What a crash in the first opening of all may leave behind."""


def _random_incarnation() -> str:
    return secrets.token_hex(8)


class Identity:
    """The owner of a data directory. Release it when the node stops.

    Args:
        data_dir: made when it is not there.
        node_id: who we are.
        member_ids: everybody in the cluster.
        new_incarnation: makes the name of a new directory: random, hexadecimal.

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
        new_incarnation: Callable[[], str] = _random_incarnation,
    ) -> None:
        disk.make_dir(data_dir)
        path = data_dir / _NAME
        self._lock: Lock = disk.lock(data_dir / "LOCK")
        try:
            if disk.exists(path):
                epoch, incarnation = _read(path, node_id, member_ids, disk.read_bytes(path))
            elif foreign := [name for name in disk.list_dir(data_dir) if name not in _EARLY]:
                problem = f"{data_dir} holds {foreign[0]!r} but no {_NAME}: not a data directory"
                raise ConfigError([("node.data_dir", problem)])
            else:
                epoch, incarnation = 0, new_incarnation()
            self.epoch: int = epoch + 1
            self.origin: bytes = f"{node_id}:{incarnation}".encode()
            """Names this directory for ever: who made a batch (statemachine.store)."""
            fields = {
                "format": _FORMAT,
                "node": node_id,
                "members": member_ids,
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


def _read(path: Path, node_id: str, member_ids: list[str], data: bytes) -> tuple[int, str]:
    """Epoch and incarnation, when the directory is this node's."""
    try:
        found = json.loads(data)
        format_, node = int(found["format"]), str(found["node"])
        members, epoch = list(found["members"]), int(found["epoch"])
        incarnation = str(found["incarnation"])
        int(incarnation, 16)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Corrupt(path, 0, "not an identity file") from error
    if format_ > _FORMAT:
        raise Unsupported(path, format_, _FORMAT)
    if node != node_id:
        problem = f"{path.parent} is the data of node {node!r}, not of {node_id!r}"
        raise ConfigError([("node.data_dir", problem)])
    if sorted(members) != sorted(member_ids):
        problem = (
            f"{path.parent} belongs to the cluster {', '.join(sorted(members))}, "
            f"not to {', '.join(sorted(member_ids))}"
        )
        raise ConfigError([("node.data_dir", problem)])
    return epoch, incarnation
