"""What stands in a file, as text; and whether a directory checks out. Both only read.

    dump(path)          any file of a data directory: WAL and journal segments, images, metadata
    verify(directory)   every problem that the next boot, or a receiver of a snapshot, would find

Invariants: the text is stable: the same bytes give the same lines, so scripts and golden files
may rely on it; each frame and block stands on its own line, behind its offset. `dump` shows what
is good up to the first bad byte and then says what is wrong with it: it never raises on damage.
`verify` judges as recovery does, with the same code.

What it does not do: repair.

Proved by: tests/statemachine/test_dump.py, tests/golden/recovery/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from statemachine.commands import WriteCommand, read_commands, read_head
from statemachine.errors import Fatal, KVError, Rejected
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_MARK, KIND_NOOP, Frame, decode_frame
from statemachine.fs import Disk, FileSystem
from statemachine.image import IMAGE_MAGIC
from statemachine.image_reader import read_image
from statemachine.paths import METADATA_NAME, SNAPSHOT_NAME, Paths, snapshot_place
from statemachine.recovery import read_directory
from statemachine.segment import (
    JOURNAL_MAGIC,
    POLICIES,
    SEGMENT_HEADER_BYTES,
    WAL_MAGIC,
    read_segment,
    segment_salt,
)
from statemachine.snapshot import METADATA_MAGIC, check_snapshot, read_metadata

__all__ = ["dump", "verify"]

_KIND_NAMES: Final = {
    KIND_NOOP: "noop",
    KIND_BATCH: "batch",
    KIND_CONFIG: "config",
    KIND_MARK: "mark",
}
_SHOWN_BYTES_MAX: Final = 64
_MAGIC_BYTES: Final = 8


def dump(path: Path, *, disk: FileSystem | None = None) -> Iterator[str]:
    """The lines of one file.

    Raises: FileNotFoundError, DiskFailed. Damage is a line, not an error.
    """
    disk = disk or Disk()
    file = disk.open_read(path)
    magic = file.read(_MAGIC_BYTES)
    file.close()
    if magic in (WAL_MAGIC, JOURNAL_MAGIC):
        yield from _segment_lines(path, disk.read_bytes(path), magic)
    elif magic == IMAGE_MAGIC:
        yield from _image_lines(disk, path)
    elif magic == METADATA_MAGIC:
        yield from _metadata_lines(disk, path)
    elif not magic:
        yield "empty: a segment that was made ahead, or a file that a crash left unfinished"
    else:
        yield f"not a file of ours: it begins with {_show(magic)}"


def _segment_lines(path: Path, data: bytes, magic: bytes) -> Iterator[str]:
    verdict = None
    try:
        contents = read_segment(path, data, magic, newest=True)
        if contents.torn is not None:
            dropped_bytes = contents.file_bytes - contents.good_bytes
            verdict = f"{contents.good_bytes} torn: {contents.torn} ({dropped_bytes} bytes)"
    except Fatal as error:
        verdict = f"damaged: {error}"
    if len(data) >= SEGMENT_HEADER_BYTES:
        # Read again by itself: the header may be good although the frames are not.
        try:
            head = read_segment(path, data[:SEGMENT_HEADER_BYTES], magic, newest=True)
            name = "wal" if magic == WAL_MAGIC else "journal"
            yield (
                f"{name} segment version={head.version} policy={POLICIES[head.policy]} "
                f"sequence={head.sequence} first_index={head.first_index} "
                f"before_bytes={head.before_bytes}"
            )
        except Fatal:
            pass  # The verdict says it.
    offset_bytes = SEGMENT_HEADER_BYTES
    while offset_bytes < len(data):
        decoded = decode_frame(data, offset_bytes, segment_salt(data))
        if isinstance(decoded, str):
            break
        frame, end = decoded
        yield f"{offset_bytes} {_frame_line(frame)}"
        offset_bytes = end
    if verdict is not None:
        yield verdict


def _frame_line(frame: Frame) -> str:
    kind = _KIND_NAMES.get(frame.kind, f"kind-{frame.kind}")
    if frame.kind == KIND_MARK:
        return f"mark durable={frame.durable_bytes}"
    line = f"{kind} {frame.index}@{frame.term} durable={frame.durable_bytes}"
    if frame.kind == KIND_BATCH:
        return line + _batch_text(frame.payload)
    return line + (f" {_show(frame.payload)}" if frame.payload else "")


def _batch_text(batch: bytes) -> str:
    try:
        head = read_head(batch)
        commands = read_commands(batch)
    except KVError as error:
        return f" unreadable: {error}"
    text = f" now_ms={head.now_ms}"
    if head.origin:
        text += f" origin={_show(head.origin)} epoch={head.epoch} sequence={head.sequence}"
    return text + "".join(f" | {_command_text(command)}" for command in commands.commands)


def _command_text(command: WriteCommand) -> str:
    name = command.WhichOneof("operation")
    if name is None:
        return "nothing"
    if name == "put":
        pairs = zip(command.put.keys, command.put.values, strict=False)
        return "put " + " ".join(f"{_show(key)}={_show(value)}" for key, value in pairs)
    fields = getattr(command, name).ListFields()
    return " ".join([name, *(f"{field.name}={_show(value)}" for field, value in fields)])


def _image_lines(disk: FileSystem, path: Path) -> Iterator[str]:
    file = disk.open_read(path)
    try:
        image = read_image(path, file)
    except Fatal as error:
        yield f"damaged: {error}"
        return
    finally:
        file.close()
    parts = image.parts
    columns = parts.columns
    yield (
        f"image last={image.last.index}@{image.last.term} clock_ms={parts.clock_ms} "
        f"keys={len(columns.values)} leases={len(columns.deadlines)}"
    )
    yield "terms " + (" ".join(f"{first}@{term}" for first, term in image.runs) or "none")
    for origin, (epoch, sequence) in sorted(parts.origins.items()):
        yield f"origin {_show(origin)} epoch={epoch} sequence={sequence}"
    grants, removals = parts.grants, parts.removals
    for serial, grant in grants.by_serial.items():
        yield (
            f"lease {grant.id} serial={serial} ttl_ms={grant.ttl_ms} "
            f"deadline_ms={grant.deadline_ms}"
        )
    if grants.last_serial or removals.floor or removals.revisions:
        yield (
            f"last_serial={grants.last_serial} removals={len(removals.revisions)} "
            f"floor={removals.floor}"
        )
    for key in columns.order:
        line = f"{_show(key)}={_show(columns.values[key])}"
        line += f" created={columns.made(key)} modified={columns.modified[key]}"
        due = columns.deadlines.get(key)
        if due is not None:
            line += f" deadline_ms={due}" if due >= 0 else f" lease_serial={-due}"
        yield line
    yield f"sha256={image.checksum.hex()} size_bytes={image.size_bytes}"


def _metadata_lines(disk: FileSystem, path: Path) -> Iterator[str]:
    try:
        metadata = read_metadata(disk, path)
    except Fatal as error:
        yield f"damaged: {error}"
        return
    last = metadata.last_included
    yield (
        f"snapshot last={last.index}@{last.term} size_bytes={metadata.size_bytes} "
        f"sha256={metadata.checksum.hex()}"
    )


def _show(value: Any) -> str:
    """Bytes as text where they are text, shortened where they are long; else as it is."""
    if isinstance(value, bytes):
        shown = value[:_SHOWN_BYTES_MAX]
        text = "".join(
            chr(byte) if 0x20 < byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in shown
        )
        return text + (f"...({len(value)} bytes)" if len(value) > len(shown) else "")
    if isinstance(value, (str, int)):
        return str(value)
    return ",".join(_show(each) for each in value)


def verify(directory: Path, *, disk: FileSystem | None = None) -> list[str]:
    """Every problem, one line each; empty: all is well. A torn tail is none: boot cuts it.

    Does not take the lock: run it on a stopped node, or expect lines about files that moved.
    """
    disk = disk or Disk()
    paths = Paths(directory)
    problems = [
        f"{path} is not there"
        for path in (paths.wal, paths.checkpoints, paths.snapshots)
        if not disk.exists(path)
    ]
    if problems:
        return problems
    try:
        read_directory(disk, paths)
    except FileNotFoundError as error:
        problems.append(f"{error.filename} went away")
    except Fatal as error:
        problems.append(str(error))
    problems += _snapshot_problems(disk, paths)
    return problems


def _snapshot_problems(disk: FileSystem, paths: Paths) -> Iterator[str]:
    if disk.exists(paths.snapshot_record):
        try:
            read_metadata(disk, paths.snapshot_record)
        except Fatal as error:
            yield str(error)
    for name in disk.list_dir(paths.snapshots):
        directory = paths.snapshots / name
        place = snapshot_place(name)
        if place is None or not disk.exists(directory / METADATA_NAME):
            continue
        try:
            metadata = read_metadata(disk, directory / METADATA_NAME)
            if metadata.last_included != place:
                yield f"{directory} holds a snapshot of {metadata.last_included}"
            check_snapshot(disk, directory / SNAPSHOT_NAME, metadata)
        except (Fatal, Rejected) as error:
            yield str(error)
