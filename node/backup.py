"""Backups: the whole state of a cluster at one revision, as one file that vouches for itself.

    fetch(addresses, ...)  TRI.BACKUP BEGIN, READ ... -> FILE.tmp -> fsync -> FILE
    check(FILE)            every block, every count, the SHA-256

FILE is an image (statemachine/FORMAT.md), byte for byte the snapshot that the node made: its keys
in order, revisions, deadlines. It names no node and no address.

Invariants:
  Level linearizable: what was acknowledged anywhere before the call is in it.
  FILE is the old one or the new one, whole: written under a temporary name, compared with the
  SHA-256 that the node said, synced, renamed, the directory synced. On any failure the temporary
  file goes, and what FILE was is still there.
  Whichever address answers will do; one that breaks off is followed by the next, from the start.

A crash leaves at worst FILE.tmp, which the next backup to the same name replaces.

Does not do: keep old backups, encrypt (a pipe to what you trust does), restore (node.founding).

Proved by: tests/cluster/test_backup.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.client import Client
from node.config_members import Address
from node.errors import Rejected, Unavailable
from node.image_bytes import BytesFile
from statemachine.fs import TEMPORARY_SUFFIX, Disk, FileSystem, replace_file
from statemachine.image import Image
from statemachine.image_reader import read_image

__all__ = ["Backup", "check", "fetch", "fetch_image"]

_READ_BYTES: Final = 256 * 1024
"""As much as a node gives at once (node.commands.backup)."""
_ANSWER_S: Final = 300.0
"""The first answer comes once a snapshot is written: about 100 MB a second."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written."""

    revision: int
    """The Raft index up to which everything is in it, and nothing behind it."""
    size_bytes: int
    sha256: str
    source: Address
    """The node that it came from."""


def fetch(
    addresses: Sequence[Address],
    password: str,
    consistency: str,
    target: Path,
    disk: FileSystem | None = None,
) -> Backup:
    """Back up to `target`, from the first of `addresses` that gives all of it.

    Raises:
        Unavailable: none does; the text says why, of each. `target` is as it was.
        Rejected: the password is refused, or the node does not know the command.
        DiskFailed: `target` cannot be written.
    """
    found: list[Backup] = []
    disk = disk or Disk()

    def write(wanted: Backup, chunks: Iterator[bytes]) -> None:
        try:
            replace_file(disk, target, chunks)
        except BaseException:
            temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
            if disk.exists(temporary):
                disk.unlink(temporary)
            raise
        found.append(wanted)

    _fetch(addresses, password, consistency, write)
    return found[0]


def fetch_image(addresses: Sequence[Address], password: str, consistency: str) -> Image:
    """The same into memory, read.

    Raises: Unavailable, Rejected.
    """
    found: list[Image] = []

    def read(wanted: Backup, chunks: Iterator[bytes]) -> None:
        name = Path(f"the state of {wanted.source}")
        found.append(read_image(name, BytesFile(b"".join(chunks))))

    _fetch(addresses, password, consistency, read)
    return found[0]


def _fetch(
    addresses: Sequence[Address],
    password: str,
    consistency: str,
    take: Callable[[Backup, Iterator[bytes]], None],
) -> None:
    reasons = []
    for address in addresses:
        try:
            with Client.connect([address], password, _ANSWER_S) as client:
                client.set_consistency(consistency)
                revision, _term, size_bytes, sha256 = client.read("TRI.BACKUP", "BEGIN")
                wanted = Backup(int(revision), int(size_bytes), sha256.decode(), client.address)
                take(wanted, _chunks(client, wanted))
                return
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def _chunks(client: Client, wanted: Backup) -> Iterator[bytes]:
    """The bytes; what is not as it was promised ends it before the file gets its name."""
    sha256 = hashlib.sha256()
    offset = 0
    while offset < wanted.size_bytes:
        chunk = client.read("TRI.BACKUP", "READ", offset, _READ_BYTES)
        if not chunk:
            break
        sha256.update(chunk)
        offset += len(chunk)
        yield chunk
    if offset != wanted.size_bytes or sha256.hexdigest() != wanted.sha256:
        raise Unavailable(
            f"{wanted.source}: {offset} of {wanted.size_bytes} bytes came, SHA-256 "
            f"{sha256.hexdigest()} instead of {wanted.sha256}: its snapshot is damaged"
        )


def check(path: Path, disk: FileSystem | None = None) -> Image:
    """Read a whole backup; it is in memory then.

    Raises:
        Corrupt, Unsupported: it is not what was written, or no backup at all.
        Rejected: there is no such file.
    """
    try:
        file = (disk or Disk()).open_read(path)
    except FileNotFoundError as error:
        raise Rejected(f"{path}: no such file") from error
    try:
        return read_image(path, file)
    finally:
        file.close()
