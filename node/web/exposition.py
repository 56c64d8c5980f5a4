r"""Metrics as Prometheus reads them: text, format 0.0.4. Pure.

    # HELP trimaran_applied_index ...            one family
    # TYPE trimaran_applied_index gauge
    trimaran_applied_index 41230
    trimaran_peer_up{peer="n2"} 1                a sample with labels

    family(name, "gauge", help, [({"peer": "n2"}, 1.0), ...])
    histogram(name, help, [({"command": "get"}, Histogram), ...])

Invariants: buckets are cumulative and end with +Inf, which is the count; backslash, quote and line
end are escaped in labels; a family without samples is left out.

Proved by: tests/web/test_exposition.py, tests/web/test_prometheus.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

from node.meters import Histogram

__all__ = ["CONTENT_TYPE", "Sample", "family", "histogram"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]
"""Labels and value."""


def family(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> str:
    """All lines of one family; "" when it has no samples."""
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return _head(name, kind, help_) + "".join(lines) if lines else ""


def histogram(name: str, help_: str, rows: Iterable[tuple[Mapping[str, str], Histogram]]) -> str:
    """All lines of a family of histograms."""
    lines = []
    for labels, row in rows:
        counts = list(accumulate(row.counts))
        bounds = [*(_number(bound) for bound in row.bounds), "+Inf"]
        for bound, count in zip(bounds, counts, strict=True):
            lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {count}\n")
        lines.append(f"{name}_sum{_labels(labels)} {_number(row.sum)}\n")
        lines.append(f"{name}_count{_labels(labels)} {counts[-1]}\n")
    return _head(name, "histogram", help_) + "".join(lines) if lines else ""


def _head(name: str, kind: str, help_: str) -> str:
    return f"# HELP {name} {help_}\n# TYPE {name} {kind}\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    words = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{words}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
