"""What clients asked, and what they were told: the history of one run, as JSON lines.

    {"format": "trimaran-lab-history/1", "operations": 4051, "workload": "register", ...}
    {"op": "write", "process": 3, "node": "n1", "key": "r0", "value": "17", "result": null,
     "start_us": 10250, "end_us": 11873, "outcome": "ok"}

    ok        it happened between start and end, and this is the answer
    fail      it certainly did not happen
    unknown   it happened at some moment after start, or will, or never does

Times are microseconds since the run began. `end_us` of an unknown operation is when its client
gave up: for pictures; the checkers take it as open. `planned_us` is when an open loop wanted
to send it. `level` is the consistency of a read. `revision`, where the server tells one
with the answer: of a change that was done, its own; of anything else, that of the last change
of the key as it was seen (node.lab.workload says how it is asked for). What is empty is left
out of the file. `operations` of the first line is how many lines follow: a file that was cut at
the end of a line is found out, too.

Proved by: tests/lab/test_history.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.lab import files

__all__ = ["FAIL", "OK", "UNKNOWN", "History", "Operation"]

OK: Final = "ok"
FAIL: Final = "fail"
UNKNOWN: Final = "unknown"
_FORMAT: Final = "trimaran-lab-history/1"
_OUTCOMES: Final = (OK, FAIL, UNKNOWN)


@dataclass(slots=True)
class Operation:
    """One request of one client, and what became of it."""

    op: str
    process: int
    node: str
    key: str
    value: Any
    start_us: int
    end_us: int = -1
    outcome: str = UNKNOWN
    result: Any = None
    planned_us: int = -1
    level: str = ""
    revision: int | None = None
    error: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it was answered."""
        return self.outcome == OK

    @property
    def latency_us(self) -> int:
        """From the planned start (open loop) or the real one to the end."""
        return self.end_us - (self.planned_us if self.planned_us >= 0 else self.start_us)

    def show(self) -> str:
        """One line for people."""
        end = "?" if self.outcome == UNKNOWN else f"{self.end_us / 1000:.3f}"
        said = f" -> {self.result!r}" if self.is_ok else f" ({self.outcome} {self.error})"
        said += "" if self.revision is None else f" @{self.revision}"
        return (
            f"[{self.start_us / 1000:.3f} .. {end} ms] client {self.process} at {self.node}: "
            f"{self.op} {self.key} {'' if self.value is None else repr(self.value)}{said}"
        )


_DEFAULTS: Final = {
    each.name: each.default
    for each in dataclasses.fields(Operation)
    if each.default is not dataclasses.MISSING
}
_KINDS: Final[dict[str, type]] = {
    **dict.fromkeys(("op", "node", "key", "outcome", "level", "error"), str),
    **dict.fromkeys(("process", "start_us", "end_us", "planned_us"), int),
}
_NAMES: Final = tuple(each.name for each in dataclasses.fields(Operation))


@dataclass
class History:
    """Operations in the order of their start, and what is to be known of the run."""

    operations: list[Operation]
    about: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """To a file of JSON lines."""
        head = {"format": _FORMAT, "operations": len(self.operations), **self.about}
        files.write_lines(path, [head, *map(_plain, self.operations)])

    @classmethod
    def read(cls, path: Path) -> History:
        """From a file of JSON lines. ValueError says what is wrong with it."""
        lines = files.read_lines(path)
        about = next(lines, None)
        if not isinstance(about, dict) or about.pop("format", None) != _FORMAT:
            raise ValueError(f"{path}: is no history: its first line must say {_FORMAT}")
        count, operations = about.pop("operations", None), []
        for number, line in enumerate(lines, start=2):
            try:
                operations.append(_operation(line))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: not an operation: {error}") from error
        if count not in (None, len(operations)):
            raise ValueError(f"{path}: {len(operations)} operations of {count}: it was cut off")
        return cls(sort(operations), about)


def sort(operations: Iterable[Operation]) -> list[Operation]:
    """In the order of their start."""
    return sorted(operations, key=lambda each: each.start_us)


def _plain(operation: Operation) -> dict[str, Any]:
    return {
        name: value
        for name in _NAMES
        if (value := getattr(operation, name)) != _DEFAULTS.get(name, dataclasses.MISSING)
        or name == "outcome"
    }


def _operation(line: Any) -> Operation:
    operation = Operation(**line)
    for name, kind in _KINDS.items():
        if type(value := getattr(operation, name)) is not kind:
            raise TypeError(f"{name} is {value!r}, must be {kind.__name__}")
    if type(operation.revision) not in (int, type(None)):
        raise TypeError(f"revision is {operation.revision!r}, must be int")
    if operation.outcome not in _OUTCOMES:
        raise ValueError(f"outcome is {operation.outcome!r}, must be one of {_OUTCOMES}")
    if operation.is_ok and operation.end_us < operation.start_us:
        raise ValueError(f"it ends at {operation.end_us}, before it starts")
    return operation
