"""`trimaran import`: the keys of a transcript into a running cluster.

    rows -> groups of at most 256 keys or 1 MiB -> SETs, sent at once -> replies
                                                    lost? the same group again, at the next node
    leases -> granted for their whole time to live, under the id they had; under a new one where
              that id is somebody else's -> kept alive in front of each group with keys of theirs

Invariants:
  Each SET carries the value and the absolute deadline, so a group that is sent again leaves what
  one would have left: nothing is done twice. (Where somebody else writes the same keys meanwhile,
  the later write wins, whichever that is.)
  With `keep` a key that is there stays as it is.
  No key is ever hung on a lease that was there before: it would go with a stranger's. So importing
  twice makes the leases twice; the first ones are left without keys, and end.
  What hung on a lease whose time is over, by this machine's clock, is left out. Any other lease
  begins its time anew: whoever keeps it alive has a whole time to live to find the new cluster.

A crash, or a cluster that is gone, leaves the groups before; import again.

Does not do: delete what is not in the transcript; be atomic as a whole.

Proved by: tests/node/test_importing.py, tests/cluster/test_backup.py
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from node.client import Client
from node.clock import Clock
from node.config_members import Address
from node.errors import NotLeader, OutcomeUnknown, Rejected, Unavailable
from node.transcript import LeaseRow, Row

__all__ = ["Imported", "import_rows"]

_GROUP_KEYS: Final = 256
_GROUP_BYTES: Final = 1024 * 1024
_ROUNDS: Final = 3
"""How often each address is tried for one group. A node parks a write for seconds by itself."""
_KEEP_PARTS: Final = 3
"""A lease is kept alive each time that this part of its time has passed."""

_Command = list[bytes | str | int]


@dataclass(slots=True)
class Imported:
    """What became of the keys, and of leases that could not have their ids."""

    written: int = 0
    kept: int = 0
    left_out: int = 0
    """Their lease's time was over."""
    renamed: dict[int, int] = field(default_factory=dict)
    """Leases whose id was taken -> the id that each has here."""


def import_rows(
    rows: Iterable[LeaseRow | Row],
    addresses: Sequence[Address],
    password: str,
    *,
    keep: bool,
    clock: Clock | None = None,
) -> Imported:
    """Write all rows.

    Raises:
        OutcomeUnknown: no node took a group. What came before is written.
        Rejected: a key or value is refused.
    """
    done = Imported()
    writer = _Writer(addresses, password)
    leases = _Leases(writer, clock or Clock(), done.renamed)
    try:
        for group in _groups(rows, leases):
            commands = [leases.command(row, keep=keep) for row in group]
            replies = _write(writer, leases, [each for each in commands if each is not None])
            done.kept += replies.count(None)
            done.written += len(replies) - replies.count(None)
            done.left_out += len(group) - len(replies)
    finally:
        writer.close()
    return done


def _write(writer: _Writer, leases: _Leases, commands: list[_Command]) -> list[object]:
    """The replies; fewer than commands where a lease ended all the same."""
    while True:
        try:
            leases.keep_alive()
            return writer.write(commands)
        except Rejected as error:
            ended = leases.look_for_ended() if str(error).startswith("NOLEASE") else set()
            if not ended:
                raise
            commands = [each for each in commands if each[3] != "LEASE" or each[4] not in ended]


def _groups(rows: Iterable[LeaseRow | Row], leases: _Leases) -> Iterator[list[Row]]:
    group: list[Row] = []
    size_bytes = 0
    for row in rows:
        if isinstance(row, LeaseRow):
            leases.grant(row)
            continue
        group.append(row)
        size_bytes += len(row.key) + len(row.value)
        if len(group) >= _GROUP_KEYS or size_bytes >= _GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


class _Leases:
    """The leases of the transcript, and what they are called here."""

    def __init__(self, writer: _Writer, clock: Clock, renamed: dict[int, int]) -> None:
        self._writer = writer
        self._clock = clock
        self._renamed = renamed
        self._here: dict[int, int] = {}
        self._due: list[tuple[float, int, int]] = []
        """A heap of (when, id here, time to live)."""

    def grant(self, row: LeaseRow) -> None:
        """Make it, unless its time is over."""
        if row.deadline_ms <= self._clock.wall_ms():
            return
        self.keep_alive()
        grant: _Command = ["TRI.LEASE", "GRANT", row.ttl_ms]
        try:
            (found,) = self._writer.write([[*grant, "ID", row.id]])
        except Rejected as error:
            if not str(error).startswith("LEASEEXISTS"):
                raise
            (found,) = self._writer.write([grant])
            self._renamed[row.id] = int(str(found))
        self._here[row.id] = int(str(found))
        self._plan(self._here[row.id], row.ttl_ms)

    def _plan(self, here: int, ttl_ms: int) -> None:
        due_s = self._clock.monotonic() + ttl_ms / 1000 / _KEEP_PARTS
        heapq.heappush(self._due, (due_s, here, ttl_ms))

    def command(self, row: Row, *, keep: bool) -> _Command | None:
        """What writes this row; None: its lease is over."""
        words: _Command = ["SET", row.key, row.value]
        if row.lease is not None:
            here = self._here.get(row.lease)
            if here is None:
                return None
            words += ["LEASE", here]
        elif row.deadline_ms is not None:
            words += ["PXAT", row.deadline_ms]
        return [*words, "NX"] if keep else words

    def keep_alive(self) -> None:
        """Those whose turn it is.

        Raises: Rejected: NOLEASE: one has ended.
        """
        now_s = self._clock.monotonic()
        turn: list[tuple[int, int]] = []
        while self._due and self._due[0][0] <= now_s:
            _, here, ttl_ms = heapq.heappop(self._due)
            self._plan(here, ttl_ms)
            turn.append((here, ttl_ms))
        if turn:
            self._writer.write([["TRI.LEASE", "KEEPALIVE", here] for here, _ in turn])

    def look_for_ended(self) -> set[int]:
        """Forget the leases that are no more; their ids here."""
        ids = list(self._here.values())
        found = self._writer.write([["TRI.LEASE", "TTL", here] for here in ids])
        ended = {here for here, answer in zip(ids, found, strict=True) if answer is None}
        self._here = {old: here for old, here in self._here.items() if here not in ended}
        self._due = [each for each in self._due if each[1] not in ended]
        heapq.heapify(self._due)
        return ended


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
