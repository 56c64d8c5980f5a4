"""The pictures of a run and of many: what is drawn, from which numbers. SVG by node.lab.charts.

    timeline(run)         throughput, latency, a lane for each node, lag; faults shaded
    outage_bar(outage)    one outage in its segments, and when each client was served again
    distribution(...)     ECDF of outages over all runs; published figures beside ours

Proved by: tests/lab/test_report.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from node.lab.charts import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    RED,
    SKY,
    Panel,
    figure,
)
from node.lab.events import roles
from node.lab.history import FAIL, OK, UNKNOWN
from node.lab.outage import Outage
from node.lab.stats import ecdf, over_time, percentile, spread

__all__ = ["ROLE_COLOURS", "bucket_us", "distribution", "outage_bar", "span_ms", "timeline"]

ROLE_COLOURS: Final = {
    "leader": GREEN,
    "follower": SKY,
    "candidate": ORANGE,
    "starting": GREY,
    "paused": PURPLE,
    "down": "#3a3a3a",
}
_SEGMENT_COLOURS: Final = {
    "last ok to fault": GREY,
    "detection": RED,
    "no answer": RED,
    "election": ORANGE,
    "getting ready": PURPLE,
    "first answer": BLUE,
    "stragglers": SKY,
}


def bucket_us(span_us: int) -> int:
    """A round length of time that cuts the run into about 160 pieces."""
    return next(
        (each for each in (10_000, 20_000, 50_000, 100_000, 200_000) if span_us / each < 200),
        500_000,
    )


def span_ms(run: Any) -> tuple[int, int]:
    """What of the run is drawn: from the load's beginning to its end."""
    last = max((each.end_us for each in run.operations), default=1_000_000)
    return run.marks_us.get("load", 0) // 1000, run.marks_us.get("end", last) // 1000


def timeline(run: Any) -> str:
    """The run over time, as one picture of four panels."""
    x = span_ms(run)
    width_us = bucket_us((x[1] - x[0]) * 1000)
    buckets = [
        each
        for each in over_time(run.operations, x[1] * 1000, width_us)
        if each.to_us > x[0] * 1000
    ]
    # Many faults have their names in up to three rows: room for these above the bars.
    room = 1.12 if len(run.records) <= 6 else 1.5
    panels = [_throughput(buckets, x, room), _latency(buckets, x)]
    lanes = _lanes(run, x)
    if lanes is not None:
        panels += [lanes, _lag(run, x)]
    panels[-1].x_unit = "milliseconds since the run began"
    for number, panel in enumerate(panels):
        for record in run.records:
            end_us = record["end_us"] if record["end_us"] is not None else x[1] * 1000
            name = f"{record['kind']} {' '.join(record['nodes'])}" if number == 0 else ""
            if len(run.records) > 6:
                name = record["kind"] if number == 0 else ""
            panel.band(record["start_us"] / 1000, end_us / 1000, name)
    return figure(panels, f"{run.name}, seed {run.seed}: the run over time")


def _throughput(buckets: list[Any], x: tuple[int, int], room: float) -> Panel:
    top = max((sum(bucket.rate(each) for each in bucket.counts) for bucket in buckets), default=1)
    panel = Panel("throughput", "operations / s", x=x, y=(0, max(top, 1) * room), height=130)
    base = [0.0] * len(buckets)
    for outcome, colour in ((OK, BLUE), (FAIL, ORANGE), (UNKNOWN, RED)):
        rows = []
        for place, bucket in enumerate(buckets):
            rate = bucket.rate(outcome)
            rows.append(
                (bucket.from_us / 1000, bucket.to_us / 1000, base[place], base[place] + rate)
            )
            base[place] += rate
        panel.bars(rows, colour, outcome)
    return panel


def _latency(buckets: list[Any], x: tuple[int, int]) -> Panel:
    seen = [value for bucket in buckets for value in bucket.latencies_ms]
    low, high = max(min(seen, default=1.0) * 0.8, 0.05), max(seen, default=10.0) * 1.3
    panel = Panel("latency", "ms, of ok operations", x=x, y=(low, high), height=130, log_y=True)
    for name, percent, colour in (
        ("max", 100, GREY),
        ("p99", 99, ORANGE),
        ("p95", 95, SKY),
        ("p50", 50, BLUE),
    ):
        points = [
            ((bucket.from_us + bucket.to_us) / 2000, percentile(bucket.latencies_ms, percent))
            for bucket in buckets
            if bucket.latencies_ms
        ]
        width = (buckets[0].to_us - buckets[0].from_us) / 1000 if buckets else 1.0
        panel.broken_line(points, colour, name, 2.5 * width)
    return panel


def _lanes(run: Any, x: tuple[int, int]) -> Panel | None:
    lanes = roles(run.events, x[1] * 1000)
    if not lanes:
        return None
    names = sorted(lanes)
    panel = Panel("nodes", "role and term", x=x, height=26 * len(names), lanes=names)
    for row, name in enumerate(names):
        for stretch in lanes[name]:
            start, stop = max(stretch.from_us / 1000, x[0]), stretch.to_us / 1000
            if stop > start:
                text = f"{stretch.role} {stretch.term}" if stretch.role != "down" else "down"
                panel.lane(row, start, stop, ROLE_COLOURS.get(stretch.role, GREY), text)
    for role, colour in ROLE_COLOURS.items():
        panel.legend(role, colour)
    return panel


def _lag(run: Any, x: tuple[int, int]) -> Panel:
    """Entries that the furthest commit index is ahead of what a node has applied."""
    rows: dict[int, dict[str, tuple[int, int]]] = {}
    for sample in run.samples:
        if isinstance(sample["applied"], int) and isinstance(sample["commit"], int):
            seen = (sample["commit"], sample["applied"])
            rows.setdefault(sample["at_us"], {})[sample["node"]] = seen
    lines: dict[str, list[tuple[float, float]]] = {}
    furthest = 0
    for at_us, nodes in sorted(rows.items()):
        furthest = max([furthest, *(commit for commit, _ in nodes.values())])
        for node, (_, applied) in nodes.items():
            lines.setdefault(node, []).append((at_us / 1000, max(furthest - applied, 0)))
    top = max((lag for points in lines.values() for _, lag in points), default=1)
    panel = Panel("lag", "entries committed and not applied", x=x, y=(0, max(top, 4)), height=80)
    for place, (node, points) in enumerate(sorted(lines.items())):
        later = [each for each in points if each[0] >= x[0]]
        panel.broken_line(later, PALETTE[place], node, 500.0)
    return panel


def outage_bar(outage: Outage) -> str:
    """One outage, from the last acknowledged write to the last client that was served again."""
    assert outage.last_ok_us is not None
    start = outage.last_ok_us / 1000
    segments = outage.segments()
    stop = start + max(sum(length for _, length in segments), 1.0)
    pad = (stop - start) * 0.02
    x = (start - pad - outage.fault_us / 1000, stop + pad - outage.fault_us / 1000)
    bar = Panel("the outage", "", x=x, height=36, lanes=["writes"])
    at = start - outage.fault_us / 1000
    for name, length in segments:
        bar.lane(0, at, at + length, _SEGMENT_COLOURS.get(name, BLACK), f"{length:.0f}")
        bar.legend(f"{name} {length:.0f} ms", _SEGMENT_COLOURS.get(name, BLACK))
        at += length
    waits = sorted(outage.clients.items(), key=lambda each: each[1])
    clients = Panel(
        "clients",
        "first acknowledged write after the fault",
        x=x,
        y=(0, max(len(waits), 1)),
        height=max(7 * len(waits), 40),
        lanes=["each client"],
        x_unit="milliseconds since the fault",
    )
    for place, (_, waited_ms) in enumerate(waits):
        clients.bars([(0, waited_ms, place + 0.2, place + 0.8)], SKY, "")
    return figure([bar, clients], f"the outage after {outage.kind}")


def distribution(
    title: str,
    series: Mapping[str, Sequence[float]],
    *,
    paper: Mapping[str, float] | None = None,
    log: bool = False,
) -> str:
    """ECDFs, with median and p95 marked when there is only one."""
    series = {name: values for name, values in series.items() if values}
    everything = [value for values in series.values() for value in values]
    everything += list((paper or {}).values())
    low, high = min(everything), max(everything)
    x = (low * 0.8, high * 1.25) if log else (0.0 if low < high / 2 else low * 0.8, high * 1.08)
    panel = Panel(
        title, "share of all", x=x, y=(0, 1), height=260, log_x=log, x_unit="milliseconds"
    )
    for place, (name, values) in enumerate(series.items()):
        points = ecdf(values)
        points = [(points[0][0], 0.0), *points]
        colour = PALETTE[place % len(PALETTE)]
        told = spread(values)
        if len(series) <= 2 and told is not None:
            name = f"{name}: median {told.median:.0f} ms, p95 {told.p95:.0f}"
        panel.steps(points, colour, name, 2.0)
    for row, (name, value) in enumerate((paper or {}).items()):
        panel.rule(value, f"paper: {name} {value:g} ms", RED, row=row)
    return figure([panel], title)
