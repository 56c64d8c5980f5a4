"""A TOML table as one of the experiment's dataclasses, with every problem named by its key.

    read_table(Times, {"run_s": 3.0}, "times", problems) -> Times(run_s=3.0)

Where a field is a Span, a number stands for both ends: 3.0 is [3.0, 3.0].

Proved by: tests/lab/test_config.py
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Span", "read_table"]

Span = tuple[float, float]
"""A number that is drawn: lowest and highest."""


def read_table(kind: type[Any], table: Any, name: str, problems: list[str]) -> Any:
    """A table as a `kind`; None when it cannot be one, and then `problems` says why.

    Args:
        name: of the table, "" at the top; begins each problem.
    """
    known = {each.name: each for each in dataclasses.fields(kind)}
    if not isinstance(table, dict):
        problems.append(f"{name}: must be a table")
        return None
    values = {}
    for key, value in table.items():
        label = f"{name}.{key}" if name else key
        if key not in known:
            problems.append(f"{label}: no such key; there are {', '.join(sorted(known))}")
            continue
        wanted = str(known[key].type)
        if wanted == "Span":
            value = _span(value)
        elif wanted.startswith("tuple[str"):
            value = tuple(value) if isinstance(value, list | tuple) else None
        if value is None or not _fits(value, wanted):
            problems.append(f"{label}: is {table[key]!r}, must be {wanted}")
            continue
        values[key] = value
    try:
        return kind(**values)
    except TypeError as error:
        problems.append(f"{name}: {error}")
        return None


def _span(value: Any) -> Span | None:
    low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
    if not all(isinstance(each, int | float) for each in (low, high)) or low > high:
        return None
    return float(low), float(high)


def _fits(value: Any, wanted: str) -> bool:
    kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "dict": dict}
    kind = next((kinds[word] for word in kinds if wanted.startswith(word)), None)
    return kind is None or (isinstance(value, kind) and not isinstance(value, bool))
