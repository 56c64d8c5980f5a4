"""Outcomes: what came of the last batches of every origin, for a node that skipped over them.

    a node that installs a snapshot           the others, who applied the same entries
      pending batch 7 is in it: applied,
      but with which results?
      ask(origin, epoch, 7)             ->    kept: answer with the results
                                              applied here, and not kept: "gone"
                                              not applied here yet: nothing, it asks again
      resolve 7                        <-     the first that knows
      OutcomeUnknown                   <-     everybody else says "gone"

A follower that a snapshot lets skip entries has skipped what its own clients wait for. Each
node applies every batch and has its results in hand for a moment anyway; here they stay for
KEPT_MIN batches of each origin. An origin has no more than `raft.entries_in_flight_max` of them
without a result at once, those it asks for included (node.batches), so whoever has applied them
still has the results, but for the bounds below.

Bounds: ORIGIN_BYTES_MAX for each origin, ORIGINS_MAX origins, one frame for an answer. Nothing of
it is on disk: a node that was restarted has what it has applied since.

A peer that lies about results is like a leader that lies: see "What a peer can do" in
node/README.md. Its bytes become results of the types that rules answer with, or cost it its link.

Does not do: know who waits (node.batches).

Proved by: tests/node/test_outcomes.py
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from node import wire
from node.results import decode_results, encode_results, size_of
from statemachine.commands import BatchHead
from statemachine.refusals import Result

__all__ = ["Outcomes"]

KEPT_MIN: Final = 64
ORIGIN_BYTES_MAX: Final = 4 * 1024 * 1024
ORIGINS_MAX: Final = 16
_FRAME_ROOM_BYTES: Final = 256


class _Applied(Protocol):
    """The state machine, as far as it is asked here."""

    @property
    def origins(self) -> Mapping[bytes, tuple[int, int]]: ...


class _Sender(Protocol):
    def send(self, peer_id: str, frame: bytes) -> bool: ...


class _Origin:
    """The newest results of one origin, oldest first."""

    __slots__ = ("epoch", "kept", "size_bytes")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.kept: deque[tuple[int, list[Result], int]] = deque()
        """(sequence, results, bytes)."""
        self.size_bytes = 0


class Outcomes:
    """What is kept on this node, and what it asks of others.

    Args:
        origin, epoch: of our own batches.
        others: the other members, linked or not.
        found: told (sequence, results) of a batch of ours; None: nobody knows them any more.
    """

    def __init__(
        self,
        origin: bytes,
        epoch: int,
        *,
        links: _Sender,
        machine: _Applied,
        others: Callable[[], Collection[str]],
        found: Callable[[int, list[Result] | None], None],
        kept_max: int,
        frame_bytes_max: int,
    ) -> None:
        self._origin = origin
        self._epoch = epoch
        self._links = links
        self._machine = machine
        self._others = others
        self._found = found
        self._kept_max = max(kept_max, KEPT_MIN)
        self._answer_bytes_max = frame_bytes_max - _FRAME_ROOM_BYTES
        self._origins: OrderedDict[bytes, _Origin] = OrderedDict()
        self._asked: dict[int, set[str]] = {}
        """Who has said of a sequence of ours that its results are gone."""

    # -- kept -------------------------------------------------------------------------------

    def keep(self, head: BatchHead, results: list[Result]) -> None:
        """A batch was applied here, by its entry."""
        known = self._origins.get(head.origin)
        if known is None or known.epoch != head.epoch:
            known = self._begin(head)
        size_bytes = size_of(results)
        kept = known.kept
        kept.append((head.sequence, results, size_bytes))
        known.size_bytes += size_bytes
        while len(kept) > self._kept_max or (known.size_bytes > ORIGIN_BYTES_MAX and kept):
            known.size_bytes -= kept.popleft()[2]

    def _begin(self, head: BatchHead) -> _Origin:
        self._origins[head.origin] = known = _Origin(head.epoch)
        self._origins.move_to_end(head.origin)
        while len(self._origins) > ORIGINS_MAX:
            self._origins.popitem(last=False)
        return known

    def _results_of(self, origin: bytes, epoch: int, sequence: int) -> list[Result] | None:
        known = self._origins.get(origin)
        if known is None or known.epoch != epoch:
            return None
        return next((results for at, results, _ in known.kept if at == sequence), None)

    def on_ask(self, peer_id: str, origin: bytes, epoch: int, sequence: int) -> None:
        """A peer has skipped a batch of its own.

        Raises:
            WireError: it is not its own.
        """
        if origin.rpartition(b":")[0] != peer_id.encode():
            raise wire.WireError("asks for results of another node's clients")
        if self._machine.origins.get(origin, (0, 0)) < (epoch, sequence):
            return  # not applied here yet: it asks again
        results = self._results_of(origin, epoch, sequence)
        answer = encode_results(results) if results is not None else None
        if answer is None or len(answer) > self._answer_bytes_max:
            answer = b""
        self._links.send(peer_id, wire.encode(wire.OUTCOME, epoch, sequence, answer))

    # -- asked ------------------------------------------------------------------------------

    def ask(self, sequence: int) -> None:
        """Ask everybody for the results of a batch of ours; again, when nobody has answered."""
        others = self._others()
        if not others:
            self._found(sequence, None)
            return
        self._asked.setdefault(sequence, set())
        frame = wire.encode(wire.OUTCOME_ASK, self._origin, self._epoch, sequence)
        for peer_id in others:
            self._links.send(peer_id, frame)

    def forget(self, sequence: int) -> None:
        """Nobody waits for it any more."""
        self._asked.pop(sequence, None)

    def on_answer(self, peer_id: str, epoch: int, sequence: int, answer: bytes) -> None:
        """A peer knows the results of a batch of ours, or that it does not.

        Raises:
            WireError: these are no results.
        """
        if epoch != self._epoch or sequence not in self._asked:
            return  # late: another one knew it
        if answer:
            try:
                results = decode_results(answer)
            except ValueError as error:
                raise wire.WireError(f"results that are none: {error}") from error
            self.forget(sequence)
            self._found(sequence, results)
            return
        gone = self._asked[sequence]
        gone.add(peer_id)
        if gone.issuperset(self._others()):
            self.forget(sequence)
            self._found(sequence, None)
