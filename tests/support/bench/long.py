"""Long runs: does it stay as it was, and how late is the latest answer.

    open     an open loop at half of the peak, 64 clients, SET: latency from the planned moment,
             second by second, while checkpoints, snapshots and compaction go on
    steady   SET from 256 clients, closed loop, in pieces; the last third against the first

What went on meanwhile is counted from what the nodes said and from their metrics.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.support.bench.cases import Case, Settings
from tests.support.bench.measure import measure
from tests.support.bench.systems import System

__all__ = ["EVENTS", "drift", "events", "long_open", "long_steady"]

_SAID: Final = ("journal cut", "role role=leader")
EVENTS: Final = ("checkpoint written", "snapshot written", *_SAID)
_IMAGES: Final = re.compile(r'^trimaran_image_seconds_count\{place="(\w+)"\} (\S+)', re.MULTILINE)
_PEAK_S: Final = 5.0
_PIECE_S: Final = 10.0

Told = Callable[[dict[str, Any]], None]


def long_open(system: System, settings: Settings, share: float, told: Told) -> list[dict[str, Any]]:
    """The peak, then the run. `told` hears each row as it comes."""
    peak_case = Case(name="SET, 64 clients: the peak", test="set", clients=64)
    peak = measure(system, peak_case, dataclasses.replace(settings, seconds=_PEAK_S))
    told(peak)
    name = f"SET, 64 clients, open loop at {share:.0%} of the peak for {settings.seconds:g} s"
    before = events(system)
    row = measure(
        system,
        Case(name=name, test="set", clients=64, by="load", measure="p99_ms"),
        settings,
        round(peak["ops_s"] * share),
    )
    row["events"] = {word: count - before[word] for word, count in events(system).items()}
    told(row)
    return [peak, row]


def long_steady(system: System, settings: Settings, told: Told) -> list[dict[str, Any]]:
    """So many pieces as fill the time."""
    rows = []
    piece = dataclasses.replace(settings, seconds=min(_PIECE_S, settings.seconds))
    for number in range(max(round(settings.seconds / piece.seconds), 1)):
        case = Case(name="SET, 256 clients", test="set", clients=256)
        row = {**measure(system, case, piece), "x": number, "events": events(system)}
        rows.append(row)
        told(row)
    return rows


def drift(rows: Sequence[dict[str, Any]]) -> float:
    """Median rate of the last third over that of the first."""
    third = max(len(rows) // 3, 1)
    first = statistics.median(row["ops_s"] for row in rows[:third])
    return float(statistics.median(row["ops_s"] for row in rows[-third:]) / first)


def events(system: System) -> dict[str, int]:
    """How often each has happened so far, in all nodes of ours together."""
    found = dict.fromkeys(EVENTS, 0)
    for node in system.cluster.nodes if system.cluster is not None else ():
        for word in _SAID:
            found[word] += len(node.find(word))
        address = f"http://{node.config.member.http}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            for place, count in _IMAGES.findall(answer.read().decode()):
                found[f"{place} written"] += int(float(count))
    return found
