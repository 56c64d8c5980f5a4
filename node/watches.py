"""Who watches which keys on this node, and what they are told: every change, in order, once.

    the log --apply--> history (statemachine) --deliver--> frames --push--> connections
                          ^-------------- feed --------------'   for those who are behind

    watch     a key, or a prefix (node.watch); `told`: up to which revision it was told everything
    frame     [tri.watch, id, revision, [[operation, key, value, previous]...]]
    mark      the same without events: nothing up to this revision concerns you
    end       [tri.watch-end, id, revision, reason]

All events of one revision that concern a watch are in one frame, so a frame says: you know all
up to here. Whoever loses its connection goes on with the next revision, on any node: the log is
the same on all.

A watch is up to date or behind. Up to date: `deliver` tells it what was just applied. Behind (it
asked for the past, or its client does not read): nothing is made for it. `feed` reads on for it in
the history, a slice at a time, whenever its client has room. So a slow client costs the history
that is there anyway, and one socket's buffer; when the history no longer reaches back to where it
stands, its watch ends with a frame that says so (COMPACTED).

Invariants: revisions rise from frame to frame of a watch; none is left out between FROM and the
last frame, or the watch ends; a frame is pushed after the tick that applied it and before the
writer is answered; while nobody watches nothing is done here, and the history does not know.

Cost, per changed key: 0.6 us while anybody watches, and 0.6 us for each watch that is told of it.

A crash loses the watches with their connections. A snapshot from another node ends those that were
not told everything up to it: what lies between is in no log of this node.

Does not do: keep anything (statemachine.history does), read values: a watcher that has to begin
anew reads the keys first (TRI.PREFIX says at which revision).

Proved by: tests/node/test_watches.py, tests/cluster/test_watches.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from node.watch import Event, Watch, end_frame, frame, push

if TYPE_CHECKING:
    from node.backend import Backend
    from node.connection import Connection
    from statemachine.history import Run

__all__ = ["Watches"]

SLICE_BYTES: Final = 256 * 1024
SLICE_EVENTS: Final = 2_000
"""What `feed` does at once, about 2 ms; and (bytes) what `deliver` makes for one client at once."""

_REVISION: Final = attrgetter("revision")


class Watches:
    """The watches of one node.

    Args:
        progress_ms: how often those who are told nothing get a mark.
    """

    def __init__(self, backend: Backend, progress_ms: int) -> None:
        self._backend = backend
        self._progress_ms = progress_ms
        self._marked_ms = 0
        self._by_key: dict[bytes, dict[Watch, None]] = {}
        self._by_prefix: dict[bytes, dict[Watch, None]] = {}
        self._lengths: list[int] = []  # Of the prefixes, each once.
        self._watches: dict[Watch, None] = {}
        self._revision = 0  # Up to here those who are up to date know everything.
        self.call_soon: Callable[[Callable[[], object]], object] | None = None
        """The loop's; None: slices follow each other at once."""

    # Who watches.

    def open(
        self, connection: Connection, name: bytes, *, is_prefix: bool, previous: bool, after: int
    ) -> Watch | None:
        """A watch that is told of everything behind revision `after`; -1: of what is still to come.
        None: the history does not reach back so far. The first frames come after this call.
        """
        self._begin()
        if after < 0:
            after = self._revision
        elif after + 1 < self._backend.history.first:
            if not self._watches:
                self._backend.watch(self.deliver, on=False)
            return None
        connection.last_watch_id += 1
        watch = Watch(connection.last_watch_id, connection, name, is_prefix, previous, after)
        registry = self._by_prefix if is_prefix else self._by_key
        registry.setdefault(name, {})[watch] = None
        self._note_lengths()
        self._watches[watch] = None
        connection.watches_open[watch.id] = watch
        connection.note_subscriptions()
        if after < self._revision:
            self._fall_behind(watch)
        return watch

    def _begin(self) -> None:
        """Know what has been applied so far."""
        if self._watches:
            self.deliver()
        else:
            self._revision = self._backend.applied_index
            self._marked_ms = self._backend.now_ms()
            self._backend.watch(self.deliver, on=True)

    def close(self, watch: Watch) -> None:
        """It is told nothing more."""
        registry = self._by_prefix if watch.is_prefix else self._by_key
        watching = registry[watch.name]
        del watching[watch]
        if not watching:
            del registry[watch.name]
            self._note_lengths()
        del self._watches[watch]
        watch.connection.watches_open.pop(watch.id, None)
        watch.connection.watches_behind.pop(watch.id, None)
        watch.connection.note_subscriptions()
        if not self._watches:
            self._backend.watch(self.deliver, on=False)

    def leave(self, connection: Connection) -> None:
        """The client has gone, or was reset."""
        for watch in list(connection.watches_open.values()):
            self.close(watch)

    def _note_lengths(self) -> None:
        self._lengths = sorted(set(map(len, self._by_prefix)))

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def behind_count(self) -> int:
        """Those that are being told what the others know already."""
        return sum(watch.is_behind for watch in self._watches)

    # Those who are up to date.

    def deliver(self) -> None:
        """Something may have been applied: tell them."""
        history, backend = self._backend.history, self._backend
        if history.first > self._revision + 1:
            for watch in list(self._watches):
                if not watch.is_behind and watch.told + 1 < history.first:
                    watch.told = max(watch.told, self._revision)
                    self._end(watch)
            self._revision = history.first - 1
        outbox: dict[Connection, list[bytes]] = {}
        fallen: dict[Connection, None] = {}
        sizes: dict[Connection, int] = {}
        for revision, runs in groupby(history.since(self._revision + 1), _REVISION):
            for watch, events in self._concerned(runs).items():
                if watch.is_behind or revision <= watch.told:
                    continue
                connection = watch.connection
                if connection.is_full or sizes.get(connection, 0) > SLICE_BYTES:
                    watch.told = revision - 1
                    self._fall_behind(watch)
                    fallen[connection] = None
                    continue
                data = frame(watch, revision, events)
                sizes[connection] = sizes.get(connection, 0) + len(data)
                outbox.setdefault(connection, []).append(data)
                watch.was_told = True
        self._revision = max(self._revision, backend.applied_index)
        for connection, frames in outbox.items():
            push(connection, b"".join(frames))
        for connection in fallen:
            self._feed_soon(connection)

    def _concerned(self, runs: Iterator[Run]) -> dict[Watch, list[Event]]:
        """What each watch is to be told of these."""
        found: dict[Watch, list[Event]] = {}
        by_key, by_prefix = self._by_key, self._by_prefix
        for run in runs:
            operation = run.operation
            if not self._lengths and operation != "flush" and by_key.keys().isdisjoint(run.keys):
                continue
            for key, value, previous in run.events():
                event = (operation, key, value, previous)
                if operation == "flush":
                    watching: list[Watch] = list(self._watches)
                else:
                    watching = list(by_key.get(key, ()))
                    for length in self._lengths:
                        if length > len(key):
                            break
                        watching += by_prefix.get(key[:length], ())
                for watch in watching:
                    found.setdefault(watch, []).append(event)
        return found

    def tick(self) -> None:
        """Time has passed: mark how far those have got who were told nothing."""
        now_ms = self._backend.now_ms()
        if not self._watches or now_ms - self._marked_ms < self._progress_ms:
            return
        self._marked_ms = now_ms
        self.deliver()
        marks: dict[Connection, list[bytes]] = {}
        for watch in self._watches:
            if not watch.is_behind and not watch.was_told and not watch.connection.is_full:
                mark = frame(watch, max(watch.told, self._revision), [])
                marks.setdefault(watch.connection, []).append(mark)
            watch.was_told = False
        for connection, frames in marks.items():
            push(connection, b"".join(frames))

    # Those who are behind.

    def _fall_behind(self, watch: Watch) -> None:
        watch.is_behind = True
        watch.connection.watches_behind[watch.id] = watch

    def _feed_soon(self, connection: Connection) -> None:
        if connection.is_feeding:
            return
        connection.is_feeding = True
        if self.call_soon is not None:
            self.call_soon(partial(self._feed_now, connection))
        else:
            self._feed_now(connection)

    def _feed_now(self, connection: Connection) -> None:
        connection.is_feeding = False
        self.feed(connection)

    def feed(self, connection: Connection) -> None:
        """The client has room: read on in the history for those of its watches that are behind."""
        for watch in list(connection.watches_behind.values()):
            if connection.is_full or connection.is_closing:
                return
            if watch.id in connection.watches_open:
                self._feed_watch(watch)
        if connection.watches_behind and not connection.is_full:
            self._feed_soon(connection)

    def _feed_watch(self, watch: Watch) -> None:
        """One slice, which ends at the end of a revision."""
        history = self._backend.history
        if watch.told + 1 < history.first:
            self._end(watch)
            return
        frames: list[bytes] = []
        size_bytes = events_count = 0
        for revision, runs in groupby(history.since(watch.told + 1), _REVISION):
            if revision > self._revision:
                break  # `deliver` tells of these.
            if size_bytes > SLICE_BYTES or events_count > SLICE_EVENTS:
                break
            events: list[Event] = []
            for run in runs:
                events_count += len(run.keys)
                events += [
                    (run.operation, key, value, previous)
                    for key, value, previous in run.events()
                    if watch.concerns(key, run.operation)
                ]
            if events:
                frames.append(frame(watch, revision, events))
                size_bytes += len(frames[-1])
            watch.told = revision
        else:
            watch.told = max(watch.told, self._revision)
        if watch.told >= self._revision:
            watch.is_behind = False
            watch.connection.watches_behind.pop(watch.id, None)
        if frames:
            watch.was_told = True
            push(watch.connection, b"".join(frames))

    def _end(self, watch: Watch) -> None:
        self.close(watch)
        push(watch.connection, end_frame(watch, self._backend.history.first))
