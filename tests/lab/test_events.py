"""Lines of nodes as events on the run's time, and as lanes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from node.lab.clock import RunClock
from node.lab.events import Stretch, parse, roles


def test_a_line_is_an_event_at_the_runs_time() -> None:
    clock = RunClock()
    now = datetime.now(UTC)
    stamp = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
    line = json.dumps({"time": stamp, "level": "info", "node": "n1", "event": "role", "term": 7})
    event = parse(line, "n1", clock)
    assert (event["node"], event["event"], event["term"]) == ("n1", "role", 7)
    assert abs(event["at_us"] - clock.now_us()) < 50_000
    assert abs(clock.drift_us()) < 50_000


def test_what_is_no_event_is_kept_with_its_arrival() -> None:
    clock = RunClock()
    for line in ("Traceback (most recent call last):", "7", "{}", '{"time": 3}'):
        event = parse(line, "n2", clock)
        assert (event["node"], event["event"], event["text"]) == ("n2", "said", line)


def test_lanes_show_role_term_death_and_pause() -> None:
    def event(at_us: int, what: str, **fields: object) -> dict[str, object]:
        return {"at_us": at_us, "node": "n1", "event": what, **fields}

    events = [
        event(0, "started"),
        event(10, "role", role="follower", term=1),
        event(20, "role", role="leader", term=2),
        event(25, "role", role="leader", term=2),
        event(30, "paused"),
        event(40, "continued"),
        event(50, "role", role="follower", term=3),
        event(60, "ended", code=-9),
    ]
    assert roles(events, 70)["n1"] == [
        Stretch(0, 10, "starting", 0),
        Stretch(10, 20, "follower", 1),
        Stretch(20, 30, "leader", 2),
        Stretch(30, 40, "paused", 2),
        Stretch(40, 50, "leader", 2),
        Stretch(50, 60, "follower", 3),
        Stretch(60, 70, "down", 3),
    ]
