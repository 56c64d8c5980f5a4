"""`trimaran import`: the keys of a transcript into a running cluster.

    rows -> groups of at most 256 keys or 1 MiB -> SETs, sent at once -> replies
                                                    lost? the same group again, at the next node

Invariants:
  Each SET carries the value and the absolute deadline, so a group that is sent again leaves what
  one would have left: nothing is done twice. (Where somebody else writes the same keys meanwhile,
  the later write wins, whichever that is.)
  With `keep` a key that is there stays as it is.

A crash, or a cluster that is gone, leaves the groups before; import again.

Does not do: delete what is not in the transcript; be atomic as a whole.

Proved by: tests/cluster/test_backup.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Final

from node.client import Client
from node.config_members import Address
from node.errors import NotLeader, OutcomeUnknown, Unavailable
from node.transcript import Row

__all__ = ["import_rows"]

_GROUP_KEYS: Final = 256
_GROUP_BYTES: Final = 1024 * 1024
_ROUNDS: Final = 3
"""How often each address is tried for one group. A node parks a write for seconds by itself."""


def import_rows(
    rows: Iterable[Row], addresses: Sequence[Address], password: str, *, keep: bool
) -> tuple[int, int]:
    """Write all rows; how many were written, and how many kept what was there.

    Raises:
        OutcomeUnknown: no node took a group. What came before is written.
        Rejected: a key or value is refused.
    """
    written = kept = 0
    writer = _Writer(addresses, password)
    try:
        for group in _groups(rows):
            replies = writer.write([_command(row, keep=keep) for row in group])
            kept += replies.count(None)
            written += len(group) - replies.count(None)
    finally:
        writer.close()
    return written, kept


def _command(row: Row, *, keep: bool) -> list[bytes | str | int]:
    words: list[bytes | str | int] = ["SET", row.key, row.value]
    if row.deadline_ms is not None:
        words += ["PXAT", row.deadline_ms]
    return [*words, "NX"] if keep else words


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size_bytes = 0
    for row in rows:
        group.append(row)
        size_bytes += len(row.key) + len(row.value)
        if len(group) >= _GROUP_KEYS or size_bytes >= _GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


class _Writer:
    """One connection at a time, to the next address when it fails."""

    def __init__(self, addresses: Sequence[Address], password: str) -> None:
        self._addresses = cycle(addresses)
        self._tries = _ROUNDS * len(addresses)
        self._password = password
        self._client: Client | None = None
        self._next: Address | None = None

    def write(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[object]:
        failure: Exception = Unavailable("no address to try")
        for _ in range(self._tries):
            try:
                return self._connected().write_all(commands)
            except NotLeader as error:
                failure, self._next = error, Address.parse(error.address)
            except (OutcomeUnknown, Unavailable) as error:
                failure = error
            self.close()
        raise OutcomeUnknown(f"a part of it is written; import it again: {failure}") from failure

    def _connected(self) -> Client:
        if self._client is None:
            address, self._next = self._next or next(self._addresses), None
            self._client = Client.connect([address], self._password)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
