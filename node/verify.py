"""Whether a data directory would open, and what one of its files holds.

    verify(DATA_DIR)   `trimaran verify`     dump(FILE)   `trimaran dump`

    DATA_DIR/identity.json             read here
    DATA_DIR/members.json              node.membership
    DATA_DIR/journal/                  node.journal_files, node.term_file, on a disk that
                                       stays untouched
    DATA_DIR/wal checkpoint snapshot   statemachine.dump.verify

Invariants:
  Judged by the code that boots: what is found here is what a start would refuse, and one
  damaged copy of the term, which a start would mend.
  A torn tail is no problem: a start cuts it, and nothing acknowledged was in it.
  Nothing is written, and the lock is not taken: on a node that runs, files may move while they
  are read, so run it on one that is stopped.

Does not do: repair.

Proved by: tests/node/test_verify.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from node.errors import Fatal
from node.journal_files import JournalFiles
from node.members_file import MEMBERS_FILE, read_members_file
from node.term_file import TERM_MAGIC, TermFile, dump_term
from statemachine import dump as state_dump
from statemachine.fs import Disk, LogFile

__all__ = ["UntouchedDisk", "dump", "verify"]


def dump(path: Path) -> Iterator[str]:
    """The lines of one file, whoever wrote it. Damage is a line, not an error."""
    disk = Disk()
    file = disk.open_read(path)
    magic = file.read(len(TERM_MAGIC))
    file.close()
    if magic == TERM_MAGIC:
        yield from dump_term(path, disk)
    else:
        yield from state_dump.dump(path)


def verify(directory: Path) -> list[str]:
    """Every problem of a data directory, one line each; empty when it is sound."""
    return [
        *_identity_problems(directory),
        *_members_problems(directory),
        *_journal_problems(directory),
        *state_dump.verify(directory),
    ]


def _identity_problems(directory: Path) -> list[str]:
    path = directory / "identity.json"
    try:
        found = json.loads(Disk().read_bytes(path))
        str(found["node"]), list(found["members"]), int(found["epoch"])
    except FileNotFoundError:
        return [f"{path} is not there"]
    except (ValueError, KeyError, TypeError):
        return [f"{path} at byte 0: not an identity file"]
    return []


def _members_problems(directory: Path) -> list[str]:
    path = directory / MEMBERS_FILE
    if Disk().exists(path):
        try:
            read_members_file(path, Disk().read_bytes(path))
        except Fatal as error:
            return [str(error)]
    return []


def _journal_problems(directory: Path) -> list[str]:
    journal = directory / "journal"
    disk = UntouchedDisk()
    if not disk.exists(journal):
        return [f"{journal} is not there"]
    problems = []
    term_file = TermFile(journal / "term", disk)
    for check in (
        lambda: JournalFiles(journal, disk, 1).load(),
        term_file.load,
    ):
        try:
            check()
        except FileNotFoundError as error:
            problems.append(f"{error.filename} went away")
        except Fatal as error:
            problems.append(str(error))
    if term_file.damage is not None:
        problems.append(f"one copy of the term: {term_file.damage}")
    return problems


class UntouchedDisk(Disk):
    """The real disk to read from; what a start would mend on it (a torn tail) is not done."""

    def open_log(self, path: Path, *, create: bool) -> LogFile:
        return _Unwritten(self.size_bytes(path))

    def unlink(self, path: Path) -> None:
        pass

    def sync_dir(self, path: Path) -> None:
        pass


class _Unwritten:
    """A log file that takes everything and writes nothing."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def write(self, buffers: Sequence[bytes]) -> int:
        return sum(map(len, buffers))

    def sync(self) -> None:
        pass

    def truncate(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def close(self) -> None:
        pass
