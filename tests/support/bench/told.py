"""What a benchmark comes to: medians of its rounds, ratios, a table, a comparison.

Ratios are ours over the peer's, of the same case in the same round or, when there are several
rounds, of the medians. Only they compare over machines and days; figures in seconds do not.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

from tests.support.bench.cases import Case

__all__ = ["compare", "medians", "ratios", "row_text", "table"]

OURS: Final = "trimaran"
_NUMBERS: Final = ("ops_s", "p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms", "flushes_s")


def row_text(row: dict[str, Any]) -> str:
    """One figure on one line."""
    tail = f"p99.9 {row['p99_9_ms']:8.2f}  " if row["p99_9_ms"] is not None else " " * 16
    cores = "+".join(f"{each:.2f}" for each in row["cpu_per_node"])
    cores += f" ({row['cpu_others']:.2f} others)" if row.get("cpu_others") else ""
    refused = f"  {row['refused']} REFUSED" if row["refused"] else ""
    return (
        f"{row['system']:9} {_place(row):44} {row['ops_s']:>9,.0f}/s  p50 {row['p50_ms']:8.3f}  "
        f"p99 {row['p99_ms']:8.2f}  {tail}max {row['max_ms']:8.2f} ms  cores {cores}  "
        f"{row['flushes_s']:,.0f} flushes/s{refused}"
    )


def _place(row: dict[str, Any]) -> str:
    """The case, and where it stands in a sweep."""
    return f"{row['case']} at {row['x']:,}" if "x" in row else str(row["case"])


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each case, system and place of a sweep: each number's median over the rounds."""
    found: dict[tuple[str, str, object], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["case"], row["system"], row.get("x")), []).append(row)
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
