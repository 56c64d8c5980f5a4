"""The journal's files: segments of frames.

    journal/
      00000001.seg   64-byte header | frame | frame | ...      statemachine.segment
      00000002.seg   sequence numbers rise by one, indexes rise by one across segments
      term, term.copy                                          node.term_file

Synchronous and single-threaded: whoever owns this object (the journal's sync thread, an
offline tool) makes all the calls; only `read` may come from another thread. What a step
promises it keeps by the order of its writes:

    rotate    sync the full segment, create the next with its header, sync it, sync the
              directory. So every segment but the newest is sealed: all of it must check out.
    truncate  remove newer segments, newest first; cut the file; SYNC; only then may new
              frames follow. Without that sync a crash could leave new frames half over old
              ones, whose durable marks would make the damage look like corruption.
    clear     remove all segments, newest first (a crash leaves a prefix: shorter, not torn).
    cut       remove whole segments below an index, oldest first (a crash leaves a suffix).
    load      sync the directory, then read: a killed process leaves names that are not durable
              yet, and what is appended behind them has to be.
    Each removal is made durable before the next: removals in any other order would leave a
    gap, which is refused as corruption.

On a crash: the newest segment may end in a torn tail, which `load` cuts and reports; damage
below the durable mark, or anywhere in a sealed segment, is Corrupt and nothing is opened.

Where an entry starts is known for each of them (8 bytes of memory), so reading any is one
lookup and one pread, whatever the length of the log. Offsets have 64 bits.

Does not do: decide what may be truncated or cut (node.raft), hold entries (node.journal).

Proved by: tests/node/test_journal_files.py
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node.entry import Entry, unwrap, wrap
from node.milestones import Milestones, entry_bytes
from node.term_file import TermFile
from statemachine.errors import Corrupt
from statemachine.frame import (
    FRAME_HEADER_BYTES,
    KIND_MARK,
    Frame,
    decode_frame,
    encode_frame,
)
from statemachine.fs import FileSystem, LogFile
from statemachine.segment import (
    JOURNAL_MAGIC,
    SEGMENT_HEADER_BYTES,
    read_segment,
    segment_header,
    segment_salt,
)

__all__ = ["JournalFiles", "TermFile"]

_POLICY_ALWAYS: Final = 0


@dataclass(slots=True)
class _Segment:
    sequence: int
    path: Path
    first_index: int
    salt: int
    size_bytes: int = SEGMENT_HEADER_BYTES
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    """Where the frame of entry `first_index + i` starts."""


class JournalFiles:
    """The segments of one journal directory.

    Args:
        directory: the journal/ folder; must exist.
        disk: the door to the disk.
        segment_bytes_max: a new segment is begun after this many bytes. Soft.
    """

    def __init__(self, directory: Path, disk: FileSystem, segment_bytes_max: int) -> None:
        self._directory = directory
        self._disk = disk
        self._segment_bytes_max = segment_bytes_max
        self._segments: list[_Segment] = []
        self._file: LogFile | None = None
        self._sequence = 0
        self._durable_bytes = 0
        self._marked_bytes = 0
        self.torn: str | None = None
        """What `load` cut off, for the log; None when the end was clean."""
        self.marks = Milestones()
        """How the bytes of the log lay when it was loaded. The owner takes it over."""

    @property
    def size_bytes(self) -> int:
        """Bytes in all segments."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def first_index(self) -> int:
        """Index of the oldest entry; 0 when there is none."""
        return self._segments[0].first_index if self._segments else 0

    def load(self, settled_index: int = 0, memory_bytes: int = 1 << 62) -> list[Entry]:
        """Read the log, and open the newest segment for appending.

        Returns: the entries, oldest first; of those before `settled_index` - 1 only as many as
        fit in `memory_bytes`, together with all that follow.

        Raises:
            Corrupt: damage below the durable mark, or indexes or segments with a gap.
            Unsupported: written by a newer version.
        """
        entries: list[Entry] = []
        held_bytes = 0
        self.marks = Milestones()
        # What a killed process created, renamed or removed is here without being durable.
        self._disk.sync_dir(self._directory)
        names = [name for name in self._disk.list_dir(self._directory) if name.endswith(".seg")]
        for position, name in enumerate(names):
            held = len(entries)
            self._load_segment(self._directory / name, position == len(names) - 1, entries)
            held_bytes += sum(map(entry_bytes, entries[held:]))
            held_bytes -= _drop_oldest(entries, held_bytes - memory_bytes, settled_index - 1)
        if self._segments and not self._segments[-1].offsets:
            self._drop_newest()  # begun and not written: the next entry may have another index
        if self._segments:
            newest = self._segments[-1]
            self._file = self._disk.open_log(newest.path, create=False)
            if self._file.size_bytes > newest.size_bytes:
                self._file.truncate(newest.size_bytes)
            self._file.sync()
            self._durable_bytes = newest.size_bytes
        return entries

    def _load_segment(self, path: Path, newest: bool, entries: list[Entry]) -> None:
        contents = read_segment(path, self._disk.read_bytes(path), JOURNAL_MAGIC, newest=newest)
        if contents.torn is not None:
            lost_bytes = contents.file_bytes - contents.good_bytes
            self.torn = f"{path.name}: {lost_bytes} bytes at {contents.good_bytes}"
            if contents.good_bytes < SEGMENT_HEADER_BYTES:
                self._remove(path)  # never held a frame: its header was not synced
                return
        if self._segments and contents.sequence != self._sequence + 1:
            raise Corrupt(path, 0, f"segment {self._sequence + 1} is missing before it")
        self._sequence = contents.sequence
        facts = (contents.first_index, contents.salt, contents.good_bytes)
        segment = _Segment(contents.sequence, path, *facts)
        for offset, frame in contents.frames:
            if frame.kind == KIND_MARK:
                continue
            if entries and frame.index != entries[-1][1] + 1:
                raise Corrupt(path, offset, f"entry {frame.index} follows {entries[-1][1]}")
            if not segment.offsets and frame.index != contents.first_index:
                raise Corrupt(path, offset, f"entry {frame.index} in the first place")
            segment.offsets.append(offset)
            entries.append((wrap(frame.kind, frame.payload), frame.index, frame.term))
            self.marks.add(frame.index, entry_bytes(entries[-1]))
        self._segments.append(segment)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries behind the last one. Not durable before `sync`."""
        buffers: list[bytes] = []
        for command, index, term in entries:
            if not self._segments or self._segments[-1].size_bytes >= self._segment_bytes_max:
                self._write(buffers)
                buffers = []
                self._begin_segment(index)
            segment = self._segments[-1]
            kind, payload = unwrap(command)
            segment.offsets.append(segment.size_bytes)
            segment.size_bytes += self._encode(buffers, kind, index, term, payload)
        self._write(buffers)

    def _encode(
        self, buffers: list[bytes], kind: int, index: int, term: int, payload: bytes
    ) -> int:
        salt = self._segments[-1].salt
        header, body = encode_frame(kind, index, term, self._durable_bytes, payload, salt)
        buffers.append(header)
        if body:
            buffers.append(body)
        self._marked_bytes = self._durable_bytes
        return len(header) + len(body)

    def _write(self, buffers: list[bytes]) -> None:
        if buffers:
            assert self._file is not None
            self._file.write(buffers)

    def _begin_segment(self, first_index: int) -> None:
        # 1 sync the full segment, 2 create the next with its header, 3 sync it, 4 sync the
        # directory. Crash before 4: the next one is gone or torn at 0, nothing acknowledged is.
        if self._file is not None:
            self._file.sync()
            self._file.close()
        self._sequence += 1
        path = self._directory / f"{self._sequence:08d}.seg"
        self._file = self._disk.open_log(path, create=True)
        header = segment_header(JOURNAL_MAGIC, _POLICY_ALWAYS, self._sequence, first_index)
        self._file.write([header])
        self._file.sync()
        self._disk.sync_dir(self._directory)
        self._segments.append(_Segment(self._sequence, path, first_index, segment_salt(header)))
        self._durable_bytes = self._marked_bytes = SEGMENT_HEADER_BYTES

    def sync(self) -> None:
        """Make all that was appended durable (fdatasync)."""
        if self._file is not None:
            self._file.sync()
            self._durable_bytes = self._segments[-1].size_bytes

    def mark(self) -> None:
        """Record, after a sync and before an idle time, how far the log is durable.

        Without it the last frames of an idle log would carry no promise, and damage to
        them would pass for a torn tail.
        """
        if self._segments and self._durable_bytes > self._marked_bytes:
            buffers: list[bytes] = []
            segment = self._segments[-1]
            segment.size_bytes += self._encode(buffers, KIND_MARK, 0, 0, b"")
            self._write(buffers)

    def truncate_from(self, index: int) -> None:
        """Drop the entry at `index` and all after it; durable when it returns."""
        while self._segments and self._segments[-1].first_index >= index:
            self._drop_newest()
        if self._segments:
            segment = self._segments[-1]
            if self._file is None:
                self._file = self._disk.open_log(segment.path, create=False)
            keep = index - segment.first_index
            if keep < len(segment.offsets):
                segment.size_bytes = segment.offsets[keep]
                del segment.offsets[keep:]
                self._file.truncate(segment.size_bytes)
            self._file.sync()
            self._durable_bytes = segment.size_bytes
            self._marked_bytes = SEGMENT_HEADER_BYTES  # marks that said more may be cut off

    def clear(self) -> None:
        """Drop every entry; durable when it returns. The next append may be at any index."""
        while self._segments:
            self._drop_newest()

    def _drop_newest(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        segment = self._segments.pop()
        self._remove(segment.path)
        self._sequence = segment.sequence - 1  # the next one takes its place: no gap

    def cut_below(self, index: int) -> None:
        """Remove the segments that hold nothing at or above `index`. Keeps the newest."""
        while len(self._segments) > 1 and self._segments[1].first_index <= index:
            self._remove(self._segments.pop(0).path)

    def _remove(self, path: Path) -> None:
        self._disk.unlink(path)
        self._disk.sync_dir(self._directory)

    def read(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry] | None:
        """Entries from `first_index` on, at least one, about `bytes_max` in all.

        From any thread, for entries that are durable and stay: what is appended or cut
        meanwhile does no harm.

        Returns: None when the log does not reach back so far.

        Raises:
            Corrupt: an entry is not what was written.
        """
        # NB: a copy, made in one step: the owner's thread may add and remove segments.
        segments = list(self._segments)
        at = bisect_right(segments, first_index, key=lambda segment: segment.first_index) - 1
        if at < 0:
            return None
        segment = segments[at]
        place = first_index - segment.first_index
        if place >= len(segment.offsets):
            return None  # cleared since
        offset = segment.offsets[place]
        try:
            file = self._disk.open_read(segment.path)
        except FileNotFoundError:
            return None  # cut since
        try:
            data = file.pread(bytes_max, offset)
            needed = _frame_bytes(data)
            if needed > len(data):
                data = file.pread(needed, offset)
        finally:
            file.close()
        place_in_file = (segment.path, segment.salt, offset)
        return _decode_entries(*place_in_file, data, first_index, last_index)

    def close(self) -> None:
        """Close the newest segment. Durability does not depend on it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _drop_oldest(entries: list[Entry], surplus_bytes: int, below_index: int) -> int:
    """Drop so much from the front, of entries below an index; how many bytes that was."""
    count = dropped_bytes = 0
    while (
        dropped_bytes < surplus_bytes
        and count + 2 < len(entries)
        and entries[count][1] < below_index
    ):
        dropped_bytes += entry_bytes(entries[count])
        count += 1
    del entries[:count]
    return dropped_bytes


def _frame_bytes(data: bytes) -> int:
    """How long the frame is that begins here; its header, when not even that is there."""
    return FRAME_HEADER_BYTES + int.from_bytes(data[4:8], "little")


def _decode_entries(
    path: Path, salt: int, offset: int, data: bytes, first_index: int, last_index: int
) -> list[Entry]:
    entries: list[Entry] = []
    at, index = 0, first_index
    while index <= last_index and at + _frame_bytes(data[at : at + 8]) <= len(data):
        decoded = decode_frame(data, at, salt)
        if isinstance(decoded, str):
            raise Corrupt(path, offset + at, decoded)
        frame: Frame
        frame, at = decoded
        if frame.kind == KIND_MARK:
            continue
        if frame.index != index:
            raise Corrupt(path, offset + at, f"entry {frame.index} where {index} should be")
        entries.append((wrap(frame.kind, frame.payload), frame.index, frame.term))
        index += 1
    if not entries:
        raise Corrupt(path, offset, f"entry {first_index} is cut off")
    return entries
