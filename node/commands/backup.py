"""TRI.BACKUP: the whole state of this node, at one revision, as bytes to be carried away.

    TRI.BACKUP BEGIN               [revision, term, size in bytes, SHA-256 in hex]
    TRI.BACKUP READ offset count   so many bytes of it, fewer at its end
    TRI.BACKUP END                 forget it; so does closing the connection

    BEGIN: a read is granted  ->  a snapshot of what is applied by then  ->  its file is opened
           (the connection's level)   (node.upkeep, in the background; before the first write
                                       there is nothing to make one of: node.image_bytes)

The bytes are those of an image (statemachine/FORMAT.md): every block has its checksum, the whole
its SHA-256, `trimaran dump` shows it and `trimaran verify` judges it.

Invariants:
  What was acknowledged before BEGIN is in it, at level linearizable (the default) and on any node;
  at level eventual it is what this node has, also without a majority.
  The file is open from BEGIN on, so a newer snapshot that pushes it out does no harm; one file for
  each connection at most.
  A read is READ_BYTES_MAX at most, so neither the loop nor the output buffer is held up.

A crash or a lost connection ends it; whoever reads begins anew, at another node if need be.

Does not do: write files anywhere (node.backup does), send lists of members.

Proved by: tests/node/test_backup_command.py, tests/cluster/test_backup.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from node.backend import Backend, Waiter
from node.commands.spec import NOT_AN_INTEGER, Control, parse_integer
from node.connection import Connection
from node.errors import DiskFailed, Unavailable
from node.image_bytes import empty
from node.replies import OK, bulk, encode, error_line
from node.resp import Request
from statemachine import SnapshotMetadata
from statemachine.fs import ReadFile

__all__ = ["READ_BYTES_MAX", "backup"]

READ_BYTES_MAX: Final = 256 * 1024


class _Begin:
    """Between a read that is granted and the snapshot that follows it. Waits for both in turn."""

    __slots__ = ("_backend", "_told")

    def __init__(self, backend: Backend, told: Waiter) -> None:
        self._backend = backend
        self._told = told

    def ready(self) -> None:
        """Everything acknowledged before is applied here."""
        if self._backend.applied_index == 0:
            self._told.resolve([empty()], 0, 1)
        else:
            self._backend.snapshot(self)

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        """It is durable: results hold b"index-term"."""
        wanted = int(bytes(results[start]).partition(b"-")[0])
        found = self._backend.open_snapshot()
        if found is None or found[0].last_included.index < wanted:
            if found is not None:
                found[1].close()
            # One that came from a leader is being given its place at this moment.
            self._told.fail(Unavailable("the snapshot is not in its place yet"))
            return
        self._told.resolve([found], 0, 1)

    def fail(self, error: Exception) -> None:
        """No leader, or no snapshot."""
        self._told.fail(error)


def backup(connection: Connection, request: Request) -> bytes | Control:
    action = request[1].upper()
    if action == b"BEGIN" and len(request) == 2:
        return _begin(connection)
    if action == b"READ" and len(request) == 4:
        return _read(connection, request)
    if action == b"END" and len(request) == 2:
        connection.keep_file(None)
        return OK
    return error_line("ERR it is TRI.BACKUP BEGIN | READ offset count | END")


def _begin(connection: Connection) -> Control:
    backend, level = connection.backend, connection.level
    connection.keep_file(None)

    def reply(result: object, protocol: int) -> bytes:
        assert isinstance(result, tuple)
        metadata: SnapshotMetadata = result[0]
        file: ReadFile = result[1]
        connection.keep_file(file)
        last = metadata.last_included
        fields = [last.index, last.term, metadata.size_bytes, metadata.checksum.hex()]
        return encode(fields, protocol)

    return Control(lambda waiter: backend.read(level, _Begin(backend, waiter)), reply)


def _read(connection: Connection, request: Request) -> bytes:
    offset, count = parse_integer(request[2]), parse_integer(request[3])
    if offset is None or count is None:
        return NOT_AN_INTEGER
    if offset < 0 or not 1 <= count <= READ_BYTES_MAX:
        return error_line(f"ERR offset is from 0 on, count from 1 to {READ_BYTES_MAX}")
    file = connection.kept_file
    if file is None:
        return error_line("ERR no backup was begun on this connection")
    try:
        return bulk(file.pread(count, offset))
    except DiskFailed as error:  # of a file that nothing here depends on
        return error_line(f"ERR the snapshot cannot be read: {error}")
