"""The current term and who got this node's vote in it, twice on disk.

    journal/term        the same bytes in both, each whole by itself:
    journal/term.copy

    0         8        12     14     16       24             24+v     +4
    +---------+--------+------+------+--------+-------------+--------+
    | TRIMTRM | version| v    | 0    | term   | vote (utf-8)| crc32c |
    | \\0      | u32    | u16  | u16  | u64    | v bytes     | u32    |
    +---------+--------+------+------+--------+-------------+--------+

    save    1 write `term`, 2 sync it, 3 write `term.copy`, 4 sync it. The first time each
            of them appears whole (fs.replace_file); later it is written over in place.
    load    the newer of those that check out: a term never falls, and within one a vote is
            given once and stays.

A vote leaves the node after 4, so whichever copy is damaged later, the other one knows it. A
crash before 4 may leave one copy torn or old: the other is what it was before, or the new one,
and nothing had left. `mend` brings the copies together again; it writes the worse one, so the
better is never at risk. Both damaged is Corrupt: this node may have forgotten a vote.

Does not do: know when a term may change (PySyncObj), threads (node.journal).

Proved by: tests/node/test_term_file.py
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import google_crc32c

from statemachine.errors import Corrupt, Fatal, Unsupported
from statemachine.fs import FileSystem, replace_file

__all__ = ["TERM_MAGIC", "TermFile", "dump_term"]

TERM_MAGIC: Final = b"TRIMTRM\0"
_HEAD: Final = struct.Struct("<8sIHHQ")
_VERSION: Final = 1
_CRC: Final = struct.Struct("<I")
assert _HEAD.size == 24  # the picture above

Vote = tuple[int, str | None]
"""(term, who got the vote in it)."""


class TermFile:
    """Both copies. One thread makes the calls.

    Args:
        path: of the first copy; the second lies beside it.
    """

    def __init__(self, path: Path, disk: FileSystem) -> None:
        self._paths = (path, path.with_name(path.name + ".copy"))
        self._disk = disk
        self.damage: str | None = None
        """What `load` found wrong with one copy, for the log; None when nothing was."""

    def load(self) -> Vote:
        """Term and vote; (0, None) when nothing was ever saved. Nothing is written.

        Raises:
            Corrupt: no copy checks out.
            Unsupported: written by a newer version.
        """
        votes, problems = [], []
        for path in self._paths:
            if not self._disk.exists(path):
                continue
            try:
                votes.append(_decode(path, self._disk.read_bytes(path)))
            except Unsupported:
                raise
            except Corrupt as error:
                problems.append(error)
        if not votes and problems:
            raise Corrupt(
                self._paths[0],
                0,
                f"no copy of term and vote checks out ({'; '.join(map(str, problems))}): "
                f"this node may have forgotten a vote; wipe it and let it rejoin",
            )
        self.damage = str(problems[0]) if problems else None
        return max(votes, key=_age, default=(0, None))

    def mend(self) -> Vote:
        """Load, and make both copies hold that, durably: a killed process may not have synced.

        Raises: what `load` raises, and DiskFailed.
        """
        newest = self.load()
        if newest == (0, None):
            return newest
        for path in self._paths:
            if not self._disk.exists(path) or self._disk.read_bytes(path) != _encode(*newest):
                self._write(path, newest)
            else:
                file = self._disk.open_log(path, create=False)
                file.sync()
                file.close()
        return newest

    def save(self, term: int, vote: str | None) -> None:
        """Replace both copies; durable when it returns."""
        for path in self._paths:
            self._write(path, (term, vote))

    def _write(self, path: Path, vote: Vote) -> None:
        data = _encode(*vote)
        if not self._disk.exists(path):
            replace_file(self._disk, path, [data])
            return
        file = self._disk.open_log(path, create=False)
        try:
            file.truncate(0)
            file.write([data])
            file.sync()
        finally:
            file.close()


def _age(vote: Vote) -> tuple[int, bool]:
    return vote[0], vote[1] is not None


def _encode(term: int, vote: str | None) -> bytes:
    name = (vote or "").encode()
    body = _HEAD.pack(TERM_MAGIC, _VERSION, len(name), 0, term) + name
    return body + _CRC.pack(google_crc32c.value(body))


def _decode(path: Path, data: bytes) -> Vote:
    if len(data) < _HEAD.size + _CRC.size:
        raise Corrupt(path, len(data), "too short for a term file")
    magic, version, vote_bytes, _, term = _HEAD.unpack_from(data)
    if magic != TERM_MAGIC:
        raise Corrupt(path, 0, "not a term file")
    end = len(data) - _CRC.size
    if google_crc32c.value(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise Corrupt(path, 0, "checksum does not match")
    # The version is believed only now: damage to it must not pass for a newer version.
    if version > _VERSION:
        raise Unsupported(path, version, _VERSION)
    if end != _HEAD.size + vote_bytes:
        raise Corrupt(path, end, "length does not fit the vote")
    try:
        return term, data[_HEAD.size : end].decode() or None
    except UnicodeDecodeError as error:
        raise Corrupt(path, _HEAD.size, "the vote is no text") from error


def dump_term(path: Path, disk: FileSystem) -> Iterator[str]:
    """The one line of `trimaran dump`. Damage is a line, not an error."""
    try:
        term, vote = _decode(path, disk.read_bytes(path))
    except Fatal as error:
        yield f"damaged: {error}"
    else:
        yield f"term {term} vote={vote or 'nobody'}"
