"""What nodes say of themselves, on the run's time base.

    {"time": "2026-11-24T22:15:01.482Z", "node": "n1", "event": "role", "role": "leader", "term": 7}
        -> {"at_us": 1482000, "node": "n1", "event": "role", "role": "leader", "term": 7}

Nodes print one JSON object a line ([log] format = "json") with the wall time in milliseconds;
node and laboratory share one machine, so one offset turns it into the run's time. A line that
is none (a traceback, `ready`) becomes an event of its arrival. To these the laboratory
adds what it sees itself: started, ready, ended.

    roles(events, until_us)     a lane for each node: (from, to, role, term), down included

Proved by: tests/lab/test_events.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from node.lab.clock import RunClock

__all__ = ["Event", "Stretch", "parse", "roles"]

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A node was this, from then till then."""

    from_us: int
    to_us: int
    role: str
    """leader, follower, candidate, starting, down, paused"""
    term: int


def parse(line: str, node: str, clock: RunClock) -> Event:
    """An event of one line that a node printed."""
    now_us = clock.now_us()
    try:
        fields = json.loads(line)
        at = datetime.fromisoformat(fields.pop("time").replace("Z", "+00:00"))
        # Milliseconds are cut off by the node, not rounded: half of one is the best guess.
        at_us = clock.from_wall_us(round(at.timestamp() * 1_000_000)) + 500
    except (ValueError, KeyError, AttributeError, TypeError):
        return {"at_us": now_us, "node": node, "event": "said", "text": line}
    fields.pop("node", None)
    return {"at_us": min(at_us, now_us), "node": node, **fields}


def roles(events: Iterable[Event], until_us: int) -> dict[str, list[Stretch]]:
    """A lane for each node."""
    lanes: dict[str, list[Stretch]] = {}
    now: dict[str, tuple[int, str, int]] = {}
    before: dict[str, tuple[str, int]] = {}

    def turn(node: str, at_us: int, role: str, term: int) -> None:
        lane = lanes.setdefault(node, [])
        if node in now:
            from_us, was, its_term = now[node]
            if (was, its_term) == (role, term):
                return
            if at_us > from_us:
                lane.append(Stretch(from_us, at_us, was, its_term))
        now[node] = (at_us, role, term)

    for event in sorted(events, key=lambda each: int(each["at_us"])):
        node, at_us, what = event["node"], event["at_us"], event["event"]
        term = now[node][2] if node in now else 0
        if what == "role":
            turn(node, at_us, event["role"], event["term"])
        elif what == "started":
            turn(node, at_us, "starting", term)
        elif what == "ended":
            turn(node, at_us, "down", term)
        elif what == "paused":
            before[node] = (now[node][1], term) if node in now else ("follower", term)
            turn(node, at_us, "paused", term)
        elif what == "continued" and node in before:
            turn(node, at_us, *before.pop(node))
    for node, (from_us, role, term) in now.items():
        if until_us > from_us:
            lanes.setdefault(node, []).append(Stretch(from_us, until_us, role, term))
    return lanes
