"""members.json: what a node knows of the members, replaced as a whole by a thread.

    members.json   {"format": 2, "index": 57, "roster": [...], "seen": {"n2": [0, "5f0c..."]},
                    "pending": [[2, 61, [...]]], "sha256": "..."}

    save(file, 61) ---> thread: temporary file, fsync, rename, fsync of the directory ---> on_saved
         |                                                                                   |
         +---- hold_index is 60: nothing from 61 on is acknowledged or applied --------------+

Files replace each other in the order in which they were asked for. `wait` is for whoever has to
have one at once: it waits in the loop, and the gates see to it that it does not come to that
(node.journal.gated_index, node.following).

A crash leaves the file before or the file after.

Does not do: know what the rosters mean (node.membership).

Proved by: tests/node/test_membership.py, tests/node/test_simulation_members.py,
tests/cluster/test_slow_disk.py
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.errors import Corrupt, Fatal, Unsupported
from node.roster import Roster
from statemachine.fs import FileSystem, replace_file

__all__ = ["MEMBERS_FILE", "MembersFile", "MembersWriter", "Pending", "read_members_file"]

MEMBERS_FILE: Final = "members.json"
_FORMAT: Final = 2
_SAVE_WITHIN_S: Final = 60.0
Pending = tuple[int, Roster]
"""(term of the entry, roster)."""


@dataclass(frozen=True, slots=True)
class MembersFile:
    """What members.json holds."""

    roster: Roster
    """Committed."""
    seen: dict[str, tuple[int, str]]
    """(since, incarnation) by id."""
    pending: tuple[Pending, ...] = ()
    """Logged behind it, perhaps taken back since."""

    def encode(self) -> bytes:
        """Its bytes."""
        fields: dict[str, Any] = {
            "format": _FORMAT,
            "index": self.roster.index,
            "roster": json.loads(self.roster.encode()),
            "seen": {name: list(seen) for name, seen in sorted(self.seen.items())},
            "pending": [
                [term, each.index, json.loads(each.encode())] for term, each in self.pending
            ],
        }
        fields["sha256"] = _digest(fields)
        return json.dumps(fields, indent=1).encode() + b"\n"


class _Save:
    """One replacement of the file."""

    __slots__ = ("done", "failed", "index", "peer_id")

    def __init__(self, index: int | None, peer_id: str | None) -> None:
        self.index = index
        """The lowest index whose roster it changes; None: none."""
        self.peer_id = peer_id
        """Whose incarnation it binds."""
        self.done = threading.Event()
        self.failed = False


def _at_once(work: Callable[[], None], done: Callable[[None], None]) -> None:
    work()
    done(None)


class MembersWriter:
    """Who replaces the file.

    Args:
        do: has file work done elsewhere, in order, and tells when it is (node.worker).
        on_saved: told when something that waited for the file may go on.
    """

    def __init__(
        self,
        path: Path,
        disk: FileSystem,
        *,
        do: Callable[[Callable[[], None], Callable[[None], None]], None] | None,
        on_saved: Callable[[], None],
    ) -> None:
        self._path = path
        self._disk = disk
        self._do = do or _at_once
        self._on_saved = on_saved
        self._saves: list[_Save] = []
        """Not durable yet, oldest first."""

    def read(self) -> MembersFile | None:
        """What is there; None: nothing yet."""
        if not self._disk.exists(self._path):
            return None
        return read_members_file(self._path, self._disk.read_bytes(self._path))

    @property
    def hold_index(self) -> int | None:
        """Nothing behind this index may be acknowledged or applied yet; None: all may."""
        waiting = [save.index for save in self._saves if save.index is not None]
        return min(waiting) - 1 if waiting else None

    @property
    def is_saved(self) -> bool:
        """Whether the file says all that is known."""
        return not self._saves

    def is_binding(self, peer_id: str) -> bool:
        """Whether the incarnation of this peer is not durable yet."""
        return any(save.peer_id == peer_id for save in self._saves)

    def save_now(self, file: MembersFile) -> None:
        """At boot, when nobody waits for anything."""
        replace_file(self._disk, self._path, [file.encode()])

    def save(self, file: MembersFile, index: int | None, peer_id: str | None = None) -> None:
        """Replace it, soon.

        Args:
            index: the lowest at which it names another roster than before; None: none.
            peer_id: whose incarnation it binds.
        """
        save, content = _Save(index, peer_id), file.encode()
        self._saves.append(save)

        def work() -> None:
            try:
                replace_file(self._disk, self._path, [content])
            except BaseException:
                save.failed = True
                raise
            finally:
                save.done.set()

        self._do(work, lambda _: self._saved(save))

    def _saved(self, save: _Save) -> None:
        if save in self._saves:  # nobody has waited for it
            self._saves.remove(save)
        self._on_saved()

    def wait(self, index: int) -> None:
        """Until no change up to this index waits for the file.

        Raises:
            Fatal: it cannot be replaced.
        """
        while due := [s for s in self._saves if s.index is not None and s.index <= index]:
            if not due[-1].done.wait(_SAVE_WITHIN_S) or due[-1].failed:
                raise Fatal(f"{self._path} could not be replaced")
            self._saves = [each for each in self._saves if each not in due]


def _digest(fields: dict[str, Any]) -> str:
    kept = {name: each for name, each in fields.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_members_file(path: Path, data: bytes) -> MembersFile:
    """What the file says. Format 1 had no pending rosters.

    Raises:
        Corrupt, Unsupported: it is not what was written.
    """
    try:
        fields = json.loads(data)
        if int(fields["format"]) > _FORMAT:
            raise Unsupported(path, int(fields["format"]), _FORMAT)
        if fields["sha256"] != _digest(fields):
            raise ValueError("checksum does not match")
        roster = _roster(fields["roster"], fields["index"])
        seen = {str(name): (int(row[0]), str(row[1])) for name, row in fields["seen"].items()}
        pending = tuple(
            (int(term), _roster(rows, index)) for term, index, rows in fields.get("pending", ())
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, 0, f"not a members file: {error}") from error
    return MembersFile(roster, seen, pending)


def _roster(rows: object, index: object) -> Roster:
    return Roster.decode(json.dumps(rows, separators=(",", ":")).encode(), int(str(index)))
