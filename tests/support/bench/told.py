"""What a benchmark comes to: medians of its rounds, ratios, a table, a chart, a comparison.

Ratios are ours over the peer's, of the same case in the same round or, when there are several
rounds, of the medians. Only they compare over machines and days; figures in seconds do not.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from typing import Any, Final

from node.lab.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, Panel, figure
from tests.support.bench.measure import Case

__all__ = ["chart", "compare", "medians", "ratios", "row_text", "table"]

OURS: Final = "trimaran"
_COLOURS: Final = {OURS: BLUE, "etcd": ORANGE, "redis": GREEN, "nats": PURPLE}
_NUMBERS: Final = ("ops_s", "p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms", "flushes_s")


def row_text(row: dict[str, Any]) -> str:
    """One figure on one line."""
    tail = f"p99.9 {row['p99_9_ms']:8.2f}  " if row["p99_9_ms"] is not None else " " * 16
    cores = "+".join(f"{each:.2f}" for each in row["cpu_per_node"])
    refused = f"  {row['refused']} REFUSED" if row["refused"] else ""
    return (
        f"{row['system']:9} {row['case']:44} {row['ops_s']:>9,.0f}/s  p50 {row['p50_ms']:8.3f}  "
        f"p99 {row['p99_ms']:8.2f}  {tail}max {row['max_ms']:8.2f} ms  cores {cores}  "
        f"{row['flushes_s']:,.0f} flushes/s{refused}"
    )


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each case and system: the median of each number over the rounds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["case"], row["system"]), []).append(row)
    merged = []
    for some in found.values():
        numbers = {
            name: statistics.median(values)
            for name in _NUMBERS
            if (values := [row[name] for row in some if row[name] is not None])
        }
        refused = sum(row["refused"] for row in some)
        merged.append({**some[0], **numbers, "refused": refused, "rounds": len(some)})
    return merged


def ratios(cases: Sequence[Case], merged: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours against each peer, case by case; with the goal where there is one."""
    of = {(row["case"], row["system"]): row for row in merged}
    found = []
    for case in cases:
        ours = of.get((case.name, OURS))
        for peer in case.against:
            theirs = of.get((case.name, peer))
            if ours is None or theirs is None or not theirs[case.measure]:
                continue
            ratio = ours[case.measure] / theirs[case.measure]
            row: dict[str, Any] = {"case": case.name, "measure": case.measure, "against": peer}
            row["ratio"] = round(ratio, 4)
            if case.goal is not None and case.goal[0] == peer:
                row["goal"] = case.goal[1]
                row["met"] = _better(case.measure, ratio, case.goal[1])
            found.append(row)
    return found


def _better(measure: str, ratio: float, goal: float) -> bool:
    """At most so much of their latency, or at least so much of their rate."""
    return ratio <= goal if measure.endswith("_ms") else ratio >= goal


def table(found: Sequence[dict[str, Any]]) -> str:
    """The ratios for people."""
    lines = [f"{'':44} {'of':8} {'against':8} {'ratio':>7}  goal"]
    for row in found:
        goal = ""
        if "goal" in row:
            sign = "<=" if row["measure"].endswith("_ms") else ">="
            goal = f"{sign} {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        lines.append(
            f"{row['case']:44} {row['measure']:8} {row['against']:8} {row['ratio']:>6.2f}x  {goal}"
        )
    return "\n".join(lines)


def compare(
    now: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], slack: float
) -> list[str]:
    """What has become worse than the last release by more than `slack` (0.5: half as good)."""
    worse = []
    of = {(row["case"], row["measure"], row["against"]): row["ratio"] for row in before}
    for row in now:
        last = of.get((row["case"], row["measure"], row["against"]))
        if not last:
            continue
        change = row["ratio"] / last
        if row["measure"].endswith("_ms"):
            change = 1 / change
        if change < slack:
            name = f"{row['case']}, {row['measure']} against {row['against']}"
            worse.append(f"{name}: {row['ratio']:.2f}x, was {last:.2f}x")
    return worse


def chart(merged: Sequence[dict[str, Any]], title: str) -> str:
    """Bars of each case: how much a system did, or how long it took. One SVG document."""
    panels = []
    cases = list(dict.fromkeys(row["case"] for row in merged))
    for name in cases:
        some = [row for row in merged if row["case"] == name]
        latency = some[0]["clients"] == 1 or bool(some[0]["rate"])
        measure = "p99_ms" if some[0]["rate"] else "p50_ms" if latency else "ops_s"
        unit = f"{measure[:3]}, milliseconds" if latency else "operations / s"
        most = max(row[measure] for row in some)
        panel = Panel(
            name,
            unit,
            x=(0, most * 1.12),
            height=26 * len(some),
            lanes=[row["system"] for row in some],
        )
        for place, row in enumerate(some):
            value = row[measure]
            text = f"{value:,.2f}" if latency else f"{value:,.0f}"
            panel.lane(place, 0, value, _COLOURS.get(row["system"], GREY))
            panel.text(panel.px(value) + 5, 26 * place + 17, text)
        panels.append(panel)
    drawn = figure(panels, title, shared_x=False)
    namespace = '<svg xmlns="http://www.w3.org/2000/svg" '
    return drawn.replace("<svg ", f'{namespace}aria-description="{html.escape(title)}" ', 1)
