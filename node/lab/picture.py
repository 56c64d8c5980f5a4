"""The PNG beside the report: the run over time, its nodes, and the distribution of outages.

Drawn by matplotlib, which is an optional part of the installation (`pip install trimaran[lab]`):
without it there is no PNG, and everything else is as it is with it.

Proved by: tests/lab/test_report.py
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from node.lab.charts import BLUE, GREY, ORANGE, PALETTE, RED, SKY
from node.lab.events import roles
from node.lab.figures import ROLE_COLOURS, bucket_us, span_ms
from node.lab.history import OK
from node.lab.stats import ecdf, over_time, percentile, spread

__all__ = ["Distribution", "has_matplotlib", "write_distributions", "write_picture"]

_DPI: Final = 110
_HEADROOM: Final = 1.2


def has_matplotlib() -> bool:
    """Whether a PNG can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def write_picture(path: Path, run: Any, series: Mapping[str, Sequence[float]]) -> bool:
    """Draw it; False when there is no matplotlib."""
    if not has_matplotlib():
        return False
    from matplotlib.figure import Figure

    series = {name: values for name, values in series.items() if len(values) > 2}
    lanes = roles(run.events, span_ms(run)[1] * 1000)
    rows = 2 + bool(lanes) + bool(series)
    heights = [2.0, 2.0, *([0.35 * len(lanes) + 0.2] if lanes else []), *([3.0] if series else [])]
    figure = Figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
    axes = figure.subplots(rows, 1, height_ratios=heights, squeeze=False)[:, 0]
    shown = list(axes[: 2 + bool(lanes)])
    _over_time(shown[0], shown[1], run)
    if lanes:
        _lanes(shown[2], lanes)
    for number, axis in enumerate(shown):
        axis.set_xlim(*(each / 1000 for each in span_ms(run)))
        for record in run.records:
            end_us = record["end_us"] or record["start_us"] + 20_000
            axis.axvspan(
                record["start_us"] / 1e6, end_us / 1e6, color=RED, alpha=0.14, lw=0, zorder=0
            )
            if number == 0 and len(run.records) <= 6:
                name = f"{record['kind']} {' '.join(record['nodes'])}"
                axis.annotate(
                    name,
                    (record["start_us"] / 1e6, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, -10),
                    textcoords="offset points",
                    fontsize=8,
                    color=RED,
                )
    shown[-1].set_xlabel("seconds since the run began")
    if series:
        _ecdf(axes[-1], series)
    figure.suptitle(f"{run.name} (seed {run.seed})", fontsize=11)
    figure.savefig(path, dpi=_DPI)
    return True


Distribution = tuple[Mapping[str, Sequence[float]], Mapping[str, float], bool]
"""Values by name, what somebody published beside them, and whether the axis is logarithmic."""


def write_distributions(path: Path, title: str, panels: Sequence[Distribution]) -> bool:
    """ECDFs alone, panel below panel; False when there is no matplotlib."""
    if not has_matplotlib():
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(11, 0.6 + 4.0 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (series, paper, log) in zip(axes, panels, strict=True):
        _ecdf(axis, series)
        if log:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        else:
            axis.set_xlim(left=0)
        left, right = axis.get_xlim()
        for row, (name, value) in enumerate(paper.items()):
            axis.axvline(value, color=GREY, ls="--", lw=1)
            low, here, high = (
                math.log(max(each, 1.0)) if log else each for each in (left, value, right)
            )
            share = (here - low) / (high - low)
            axis.annotate(
                f"paper: {name} {value:,.0f} ms",
                (value, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3 + 11 * row),  # above the curves, each on a line of its own
                textcoords="offset points",
                fontsize=8,
                color=RED,
                ha="left" if share < 0.2 else "right" if share > 0.8 else "center",
            )
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), edgecolor="none")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=_DPI)
    return True


def _over_time(rates: Any, latencies: Any, run: Any) -> None:
    low, high = span_ms(run)
    width_us = bucket_us((high - low) * 1000)
    buckets = [
        each for each in over_time(run.operations, high * 1000, width_us) if each.to_us > low * 1000
    ]
    middles = [(each.from_us + each.to_us) / 2e6 for each in buckets]
    base = [0.0] * len(buckets)
    for outcome, colour in (("ok", BLUE), ("fail", ORANGE), ("unknown", RED)):
        heights = [bucket.rate(outcome) for bucket in buckets]
        rates.bar(middles, heights, width_us / 1e6, bottom=base, color=colour, label=outcome)
        base = [below + height for below, height in zip(base, heights, strict=True)]
    rates.set_ylabel("operations / s")
    rates.set_ylim(0, max(base, default=0.0) * _HEADROOM or 1.0)  # names of faults stand in it
    for name, percent, colour in (("max", 100, GREY), ("p95", 95, SKY), ("p50", 50, BLUE)):
        shown = [
            percentile(bucket.latencies_ms, percent) if bucket.counts[OK] else float("nan")
            for bucket in buckets
        ]
        latencies.plot(middles, shown, color=colour, lw=1.2, label=name)
    latencies.set_yscale("log")
    latencies.set_ylabel("latency, ms")
    for axis in (rates, latencies):
        # Above the axes: inside, whatever is drawn there would run through it.
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), fontsize=7, ncols=3, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)


def _lanes(axis: Any, lanes: Mapping[str, Sequence[Any]]) -> None:
    names = sorted(lanes, reverse=True)
    for row, name in enumerate(names):
        for stretch in lanes[name]:
            start, length = stretch.from_us / 1e6, (stretch.to_us - stretch.from_us) / 1e6
            axis.barh(row, length, 0.75, start, color=ROLE_COLOURS.get(stretch.role, GREY))
    axis.set_yticks(range(len(names)), names)
    marks = [(role, colour) for role, colour in ROLE_COLOURS.items()]
    for place, (role, colour) in enumerate(marks):
        axis.text(
            0.01 + 0.1 * place, 1.02, role, color=colour, fontsize=7, transform=axis.transAxes
        )
    axis.spines[["top", "right"]].set_visible(False)


def _ecdf(axis: Any, series: Mapping[str, Sequence[float]]) -> None:
    for place, (name, values) in enumerate(series.items()):
        points = ecdf(values)
        told = spread(values)
        assert told is not None
        axis.step(
            [points[0][0], *(each for each, _ in points)],
            [0.0, *(share for _, share in points)],
            where="post",
            color=PALETTE[place % len(PALETTE)],
            label=f"{name}, n = {told.count}: median {told.median:.0f} ms, p95 {told.p95:.0f}",
        )
    axis.set_xlabel("milliseconds")
    axis.set_ylabel("share of outages")
    axis.set_ylim(0, 1.02)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
