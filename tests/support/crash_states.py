"""Every legal state of a disk after a crash: pure, from a Volume to DiskStates.

What is legal is what the weakest POSIX file system may do, as in ALICE (OSDI 2014):

    writes       any subset of the un-synced ones, in any order: lost ones under kept ones are holes
    torn         one arrives in part: its front or its back, cut at every byte when it is small,
                 at sectors of 512 bytes when it is large (and at every byte of its first 64)
    grown        the size of the file arrived, the data did not: zeros, or garbage, in its place
                 (behind a tear by turns)
    truncation   lost, and then everything after it in that file as well; or kept
    names        any subset of the un-synced changes, each whole, none before one that it depends on
                 (it touches a name that the other one touched)

A file that is synced keeps its bytes whatever becomes of its name, and a name stays whatever
becomes of the bytes behind it: nothing is durable but what was synced.

All of them would be too many, as choices for names and files multiply. `crash_states` makes each
choice of names with each choice for one file (the other files: all lost, all kept), and a sample
of the rest. With many un-synced writes or names in one place, subsets are prefixes, those that
miss one, those that hold only one, and a sample. A tear is made when its write is the newest: the
step before has shown the older ones.

Not legal, so not made: bytes that change without being written; sectors that are cut in their
middle when a large write is torn; stale bytes of another file (see test_stale_blocks.py).

Proved by: tests/statemachine/test_crash_model.py
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support.volume import DiskState, Volume, Write

__all__ = ["EVERYTHING", "crash_states"]

EVERYTHING = "everything"
"""The word for the state that is left when a process is killed and the machine goes on."""

SECTOR_BYTES = 512
SMALL_BYTES = 700
"""A write of at most this many bytes is cut at every byte."""
HEAD_BYTES = 64
"""A larger one is cut at every byte of its front too: formats keep their headers there."""
SOME_CUTS = 10
"""Where a tear has companions that are lost too, or only its back arrived: a sample of the cuts."""
ALL_SUBSETS_MAX = 5
"""Of so many un-synced changes every subset is tried."""

_GARBAGE = random.Random(7).randbytes(1 << 16)
Layout = tuple[tuple[Path, ...], tuple[tuple[Path, int], ...]]


def crash_states(
    volume: Volume, written: int | None, chance: random.Random, sampled: int = 6
) -> Iterator[tuple[str, DiskState]]:
    """Legal states, each with a word for what was lost in it; first EVERYTHING. Some come twice.

    Args:
        written: the node that the last step wrote to, if it was a write.
        sampled: how many of the remaining combinations to add.
    """
    whole = _layout(volume, set(range(len(volume.changes))))
    arrived = {
        node: _arrived(volume.synced[node], writes) for node, writes in volume.writes.items()
    }
    yield EVERYTHING, DiskState(*whole, dict(volume.synced) | arrived)
    variants = {
        node: _file_variants(volume.synced[node], writes, node == written, chance)
        for node, writes in volume.writes.items()
    }
    layouts = list(dict.fromkeys(_layouts(volume, chance)))
    for number, layout in enumerate(layouts):
        present = {node for _, node in layout[1]}
        open_nodes = [node for node in variants if node in present]
        lost = {node: volume.synced[node] for node in present}
        kept = lost | {node: variants[node][-1][1] for node in open_nodes}
        yield "names", DiskState(*layout, lost)
        yield "names", DiskState(*layout, kept)
        # With every choice of names: tears are only made for the two ends, else they multiply.
        full = number in (0, len(layouts) - 1)
        for node in open_nodes:
            for word, content in variants[node]:
                if not full and word in ("torn", "grown"):
                    continue
                yield word, DiskState(*layout, lost | {node: content})
                if len(open_nodes) > 1:
                    yield word, DiskState(*layout, kept | {node: content})
    for _ in range(sampled if variants else 0):
        layout = chance.choice(layouts)
        contents = {node: volume.synced[node] for _, node in layout[1]}
        for node in contents:
            if node in variants:
                contents[node] = chance.choice(variants[node])[1]
        yield "sampled", DiskState(*layout, contents)


# Names.


def _layouts(volume: Volume, chance: random.Random) -> Iterator[Layout]:
    """The trees that any legal subset of the changes of names leaves; first without any."""
    changes = volume.changes
    needs: list[set[int]] = []
    for place, change in enumerate(changes):
        slots = {(directory, name) for directory, name, _ in change}
        needs.append(
            {
                earlier
                for earlier in range(place)
                if any((directory, name) in slots for directory, name, _ in changes[earlier])
            }
        )
    for chosen in _subsets(len(changes), chance):
        for place in range(len(changes) - 1, -1, -1):
            if place in chosen:
                chosen |= needs[place]
        yield _layout(volume, chosen)


def _layout(volume: Volume, chosen: set[int]) -> Layout:
    names = {node: dict(below) for node, below in volume.names.items()}
    for place in sorted(chosen):
        for directory, name, node in volume.changes[place]:
            if node is None:
                names[directory].pop(name, None)
            else:
                names[directory][name] = node
    directories: list[Path] = []
    files: list[tuple[Path, int]] = []

    def walk(path: Path, node: int) -> None:
        if node not in names:
            files.append((path, node))
            return
        directories.append(path)
        for name, below in sorted(names[node].items()):
            walk(path / name, below)

    for path, root in volume.roots:
        walk(path, root)
    return tuple(directories), tuple(files)


def _subsets(count: int, chance: random.Random) -> Iterator[set[int]]:
    """Sets of 0 .. count - 1: none first, all last; every one when there are few."""
    everything = set(range(count))
    if count <= ALL_SUBSETS_MAX:
        for mask in range(1 << count):
            yield {place for place in range(count) if mask >> place & 1}
        return
    for size in range(count):
        yield set(range(size))
        yield everything - {size}
        yield {size}
    for _ in range(2 * count):
        yield {place for place in range(count) if chance.random() < 0.5}
    yield everything


# Bytes.


def _file_variants(
    synced: bytes, writes: Sequence[Write], fresh: bool, chance: random.Random
) -> list[tuple[str, bytes]]:
    """What may be in a file, each with a word for it; last: everything arrived."""
    found: dict[bytes, str] = {}
    ends = [place for place, (_, data) in enumerate(writes) if data is None]
    # Up to which truncation it got; between two of them any of the writes may be lost.
    for kept, begin in enumerate([0, *(end + 1 for end in ends)]):
        end = ends[kept] if kept < len(ends) else len(writes)
        whole = _arrived(synced, writes[:begin])
        cut = _arrived(synced, [write for write in writes[:begin] if write[1] is None])
        for base in dict.fromkeys((cut, whole)):
            run = [(offset, data) for offset, data in writes[begin:end] if data is not None]
            for word, content in _run_variants(base, run, fresh and end == len(writes), chance):
                found.setdefault(content, word)
    everything = _arrived(synced, writes)
    found.pop(everything, None)
    return [(word, content) for content, word in found.items()] + [("kept", everything)]


def _run_variants(
    base: bytes, run: list[tuple[int, bytes]], fresh: bool, chance: random.Random
) -> Iterator[tuple[str, bytes]]:
    end_bytes = max([len(base), *(offset + len(data) for offset, data in run)])
    for chosen in _subsets(len(run), chance):
        kept = [run[place] for place in sorted(chosen)]
        yield "subset", _arrived(base, kept)
        for filler in (bytes, _garbage):
            yield "grown", _arrived(base, kept, end_bytes, filler)
    if not fresh or not run:
        return
    offset, data = run[-1]
    cuts = _cuts(offset, len(data))
    for before in _tear_companions(len(run) - 1, chance):
        kept = [run[place] for place in sorted(before)]
        some = cuts if len(kept) == len(run) - 1 else chance.sample(cuts, min(SOME_CUTS, len(cuts)))
        for cut in some:
            front = [*kept, (offset, data[:cut])]
            yield "torn", _arrived(base, front)
            yield "torn", _arrived(base, front, end_bytes, _garbage if cut % 2 else bytes)
        for cut in chance.sample(cuts, min(SOME_CUTS, len(cuts))):
            yield "torn", _arrived(base, [*kept, (offset + cut, data[cut:])])
    if len(data) > SMALL_BYTES:
        yield from _lost_sectors(base, run, end_bytes)


def _lost_sectors(
    base: bytes, run: list[tuple[int, bytes]], end_bytes: int
) -> Iterator[tuple[str, bytes]]:
    """Of a large write one sector did not arrive, and the others did."""
    offset, data = run[-1]
    for start in range(offset // SECTOR_BYTES * SECTOR_BYTES, offset + len(data), SECTOR_BYTES):
        first, last = max(start - offset, 0), start + SECTOR_BYTES - offset
        kept = [*run[:-1], (offset, data[:first]), (offset + last, data[last:])]
        for filler in (bytes, _garbage):
            yield "torn", _arrived(base, [each for each in kept if each[1]], end_bytes, filler)


def _tear_companions(count: int, chance: random.Random) -> list[set[int]]:
    """Which of the writes before a torn one arrived: all, none, and some."""
    chosen: list[set[int]] = [set(range(count))]
    if count:
        chosen.append(set())
    if count > 1:
        chosen.append({place for place in range(count) if chance.random() < 0.5})
    return chosen


def _cuts(offset_bytes: int, size_bytes: int) -> list[int]:
    if size_bytes <= SMALL_BYTES:
        return list(range(1, size_bytes))
    first_sector = -offset_bytes % SECTOR_BYTES
    sectors = range(first_sector, size_bytes, SECTOR_BYTES)
    return sorted({*range(1, HEAD_BYTES), *sectors} - {0})


def _arrived(
    base: bytes,
    writes: Sequence[Write],
    size_bytes: int = 0,
    filler: Callable[..., bytes] = bytes,
) -> bytes:
    """The file once these writes arrived. What no write covers, up to its size, is filler."""
    content = bytearray(base)
    covered = len(base)
    holes: list[tuple[int, int]] = []
    for offset, data in writes:
        if data is None:
            del content[offset:]
            covered = min(covered, offset)
            continue
        if offset > len(content):
            holes.append((len(content), offset))
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
    if size_bytes > len(content):
        holes.append((len(content), size_bytes))
        content.extend(bytes(size_bytes - len(content)))
    if filler is _garbage:
        for start, end in holes:
            content[start:end] = _garbage(end - start, start)
    return bytes(content)


def _garbage(size_bytes: int, offset_bytes: int = 0) -> bytes:
    start = offset_bytes * 7919 % (len(_GARBAGE) // 2)
    repeated = _GARBAGE[start:] + _GARBAGE * (size_bytes // len(_GARBAGE) + 1)
    return repeated[:size_bytes]
