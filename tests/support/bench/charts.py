"""Pictures of a benchmark: bars of cases, lines of a sweep, a long run second by second. SVG.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

from node.lab.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Panel, figure

__all__ = ["cases_chart", "series_chart", "sweep_chart"]

_COLOURS: Final = {"trimaran": BLUE, "etcd": ORANGE, "redis": GREEN, "nats": PURPLE}
_READ_COLOURS: Final = {"trimaran": SKY, "etcd": RED, "redis": GREY, "nats": GREY}
_LOG_FROM: Final = 20
"""An axis whose ends lie so many times apart is logarithmic."""


def _document(panels: Sequence[Panel], title: str, *, shared_x: bool) -> str:
    drawn = figure(panels, title, shared_x=shared_x)
    namespace = '<svg xmlns="http://www.w3.org/2000/svg" '
    return drawn.replace("<svg ", f'{namespace}aria-description="{html.escape(title)}" ', 1)


def cases_chart(merged: Sequence[dict[str, Any]], title: str) -> str:
    """Bars of each case: how much a system did, or how long it took."""
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
    return _document(panels, title, shared_x=False)


def sweep_chart(merged: Sequence[dict[str, Any]], x_unit: str, title: str) -> str:
    """Rate above, p50 and p99 below; a line for each case and system."""
    xs = sorted({row["x"] for row in merged})
    log_x = xs[0] > 0 and xs[-1] / xs[0] >= _LOG_FROM
    span = (xs[0], xs[-1]) if len(xs) > 1 else (xs[0], xs[0] + 1)
    top = max(row["ops_s"] for row in merged)
    times = [row[name] for row in merged for name in ("p50_ms", "p99_ms") if row[name]]
    rate = Panel("rate", "operations / s", x=span, y=(0, top * 1.05), height=200, log_x=log_x)
    late = Panel(
        "latency", "milliseconds; thick: p50, thin: p99", x=span, height=200, log_x=log_x,
        y=(min(times) * 0.8, max(times) * 1.2), log_y=True, x_unit=x_unit,
    )  # fmt: skip
    lines = list(dict.fromkeys((row["system"], row["case"]) for row in merged))
    for system, case in lines:
        some = sorted(
            (row for row in merged if (row["system"], row["case"]) == (system, case)),
            key=lambda row: float(row["x"]),
        )
        colours = _READ_COLOURS if case.startswith("GET") else _COLOURS
        colour = colours.get(system, GREY)
        rate.line([(row["x"], row["ops_s"]) for row in some], colour, f"{system} {case}", 2.5)
        late.line([(row["x"], row["p50_ms"]) for row in some], colour, width=2.5)
        late.line([(row["x"], row["p99_ms"]) for row in some], colour, width=1)
    return _document([rate, late], title, shared_x=True)


def series_chart(series: Sequence[Sequence[float]], title: str) -> str:
    """[second, answers, p50, p99, max] of a long run."""
    span = (series[0][0], series[-1][0] + 1)
    top = max(row[1] for row in series)
    rate = Panel("rate", "answers / s", x=span, y=(0, top * 1.1), height=120)
    rate.line([(row[0], row[1]) for row in series], BLUE)
    times = [max(value, 0.01) for row in series for value in row[2:]]
    late = Panel(
        "latency", "milliseconds", x=span, y=(min(times) * 0.8, max(times) * 1.2), height=220,
        log_y=True, x_unit="seconds",
    )  # fmt: skip
    for place, (name, colour) in enumerate((("p50", BLUE), ("p99", ORANGE), ("max", RED))):
        late.line([(row[0], max(row[2 + place], 0.01)) for row in series], colour, name)
    return _document([rate, late], title, shared_x=True)
