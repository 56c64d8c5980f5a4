"""An outage, cut into its segments: who waited for what.

    last ok    fault       detected     elected      ready     first ok      last straggler
      |--------|-----------|------------|------------|---------|-------------|
      a write  it is       somebody     somebody     has an    a write is    every client has
      ended    injected    stands       leads        entry of  acknowledged  had a write
                                                     its term  again         acknowledged
                                                     committed

The unavailability of writes is the longest stretch without an acknowledged write, of all clients
together, that reaches beyond the fault and, if somebody had to be elected, began before that:
`first ok` minus `last ok`. `elected` minus `fault` is the time without a leader (figure 16 of the
Raft paper); a write that was acknowledged later than the fault, and before the election, shows that
there was a leader still (a rolling restart begins at another node): then it counts from there. The
longest stretch of all, whatever it was due to, is kept beside it.

A segment whose event did not happen (nobody was elected, since nobody had to be) is None.

Proved by: tests/lab/test_outage.py
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.lab.events import Event
from node.lab.history import Operation

__all__ = ["WRITES", "Outage", "find"]

WRITES: Final = frozenset(
    ("write", "cas", "add", "append", "move", "lease", "acquire", "fence", "release")
)
"""Operations that change something."""

_UNDER_WAY_US: Final = 10_000
"""Answers that were under way when the leader died are read this much later at most."""


@dataclass
class Outage:
    """One fault and what it did to writes; times in the run's microseconds."""

    kind: str
    nodes: list[str]
    fault_us: int
    last_ok_us: int | None = None
    detected_us: int | None = None
    elected_us: int | None = None
    ready_us: int | None = None
    first_ok_us: int | None = None
    straggler_us: int | None = None
    longest_gap_ms: float | None = None
    """Without an acknowledged write, also after a new leader was there."""
    led_until_us: int | None = None
    """A leader was there still, when that was later than the fault."""
    leader: str | None = None
    term: int | None = None
    clients: dict[int, float] = field(default_factory=dict)
    """Client -> ms from the fault to its first acknowledged write after the outage."""

    @property
    def unavailable_ms(self) -> float | None:
        """Longest stretch without an acknowledged write."""
        if self.last_ok_us is None or self.first_ok_us is None:
            return None
        return (self.first_ok_us - self.last_ok_us) / 1000

    @property
    def leaderless_ms(self) -> float | None:
        """From the fault, or from when the old leader was last seen to lead, to the election."""
        start_us = self.fault_us if self.led_until_us is None else self.led_until_us
        return None if self.elected_us is None else (self.elected_us - start_us) / 1000

    def segments(self) -> list[tuple[str, float]]:
        """(what was waited for, ms), in order; together they are the time to the straggler.

        What happened outside of the gap, before writes stopped or after they went on, was not
        what they waited for.
        """
        if self.last_ok_us is None or self.first_ok_us is None:
            return []
        marks = [
            ("last ok to fault", self.last_ok_us),
            # Answers that were under way may still have come after the fault.
            ("detection", max(self.fault_us, self.last_ok_us)),
            ("election", self.detected_us),
            ("getting ready", self.elected_us),
            ("first answer", self.ready_us),
            ("stragglers", self.first_ok_us),
            ("", self.straggler_us),
        ]
        if self.elected_us is None or not self.last_ok_us <= self.elected_us <= self.first_ok_us:
            # Nobody was elected while writes waited: they waited for something else.
            marks[1:5] = [("no answer", max(self.fault_us, self.last_ok_us))]
        first, last = self.last_ok_us, self.straggler_us or self.first_ok_us
        known = [(name, at) for name, at in marks if at is not None and first <= at <= last]
        return [
            (name, max(later - at, 0) / 1000)
            for (name, at), (_, later) in itertools.pairwise(known)
        ]

    def as_json(self) -> dict[str, Any]:
        """For result.json."""
        return {
            **dataclasses.asdict(self),
            "unavailable_ms": self.unavailable_ms,
            "leaderless_ms": self.leaderless_ms,
            "segments": self.segments(),
        }


def find(
    operations: Sequence[Operation],
    events: Sequence[Event],
    records: Sequence[dict[str, Any]],
    until_us: int,
) -> list[Outage]:
    """One for each fault, in order."""
    writes = sorted(
        (each for each in operations if each.op in WRITES and each.is_ok),
        key=lambda each: each.end_us,
    )
    ends = [each.end_us for each in writes]
    ordered = sorted(events, key=lambda event: int(event["at_us"]))
    outages = []
    for number, record in enumerate(records):
        later = [each["start_us"] for each in records[number + 1 :]]
        window_us = min([each for each in later if each > record["start_us"]], default=until_us)
        outage = Outage(record["kind"], list(record["nodes"]), record["start_us"])
        _find_election(outage, ordered, window_us)
        _find_gap(outage, ends, window_us)
        if outage.elected_us is not None:
            place = bisect.bisect_left(ends, outage.elected_us) - 1
            if place >= 0 and ends[place] > outage.fault_us + _UNDER_WAY_US:
                outage.led_until_us = ends[place]
        _find_clients(outage, writes, window_us)
        outages.append(outage)
    return outages


def _find_gap(outage: Outage, ends: list[int], window_us: int) -> None:
    """The longest gap that ends after the fault, and within the window if there is one."""
    first = max(bisect.bisect_right(ends, outage.fault_us) - 1, 0)
    stop = bisect.bisect_right(ends, window_us)
    gaps = [
        (ends[place + 1] - ends[place], place)
        for place in range(first, min(stop, len(ends) - 1))
        if ends[place + 1] > outage.fault_us
    ]
    # The gap that the next fault makes is the next one's, though it begins in this window.
    gaps = [(gap, place) for gap, place in gaps if ends[place + 1] <= window_us] or gaps
    if gaps:
        outage.longest_gap_ms = max(gaps)[0] / 1000
        if outage.elected_us is not None:  # what came after it was something else
            gaps = [each for each in gaps if ends[each[1]] <= outage.elected_us] or gaps
        _, place = max(gaps)
        outage.last_ok_us, outage.first_ok_us = ends[place], ends[place + 1]


def _find_election(outage: Outage, events: list[Event], window_us: int) -> None:
    for event in events:
        at_us = event["at_us"]
        # What a node printed is known to the millisecond only.
        if not outage.fault_us - 1_000 <= at_us <= window_us:
            continue
        if event["event"] == "role" and event["role"] == "candidate" and outage.elected_us is None:
            if outage.detected_us is None:
                outage.detected_us = at_us
        elif event["event"] == "role" and event["role"] == "leader" and outage.elected_us is None:
            outage.elected_us = at_us
            outage.leader, outage.term = event["node"], event["term"]
        elif (
            event["event"] == "leader ready"
            and outage.ready_us is None
            and outage.elected_us is not None
            and event.get("term") == outage.term
        ):
            outage.ready_us = at_us


def _find_clients(outage: Outage, writes: list[Operation], window_us: int) -> None:
    """When each client had its first write acknowledged, from the end of the gap on."""
    if outage.first_ok_us is None:
        return
    for write in writes:
        if outage.first_ok_us <= write.end_us <= max(window_us, outage.first_ok_us):
            waited_ms = (write.end_us - outage.fault_us) / 1000
            outage.clients.setdefault(write.process, waited_ms)
    if outage.clients:
        outage.straggler_us = outage.fault_us + round(max(outage.clients.values()) * 1000)
