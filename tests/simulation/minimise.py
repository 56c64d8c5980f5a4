"""A failing plan made small: fewer faults, a shorter run; and kept as a test.

    shrink(plan, bug) -> Plan        still ends in a violation, of the same kind
    keep(plan, name)                 tests/simulation/regressions/NAME.json, which
                                     test_regressions.py runs: it must be well from now on

Faults have seeds of their own, so that leaving one out changes others as little as may be. First
the run ends soon after the violation, then halves, quarters... of the faults are left out (delta
debugging), then clients.

Proved by: tests/simulation/test_planted.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.simulation.plan import Fault, Plan
from tests.simulation.planted import Bug
from tests.simulation.run import run

__all__ = ["REGRESSIONS", "keep", "kind_of", "perhaps", "shrink"]

REGRESSIONS = Path(__file__).resolve().parent / "regressions"
RUNS_MAX = 150


@contextlib.contextmanager
def perhaps(bug: Bug | None) -> Iterator[None]:
    """With the bug, if there is one."""
    with bug.plant() if bug is not None else contextlib.nullcontext():
        yield


def kind_of(violation: str) -> str:
    """What is wrong, without who, when and how much."""
    return re.sub(r"n\d|\d+(\.\d+)?|'[^']*'", "#", violation.partition(": ")[2])[:30]


def shrink(plan: Plan, bug: Bug | None, say: Callable[[str], None] = lambda line: None) -> Plan:
    """The smallest plan that was found to fail in the same way. Raises: ValueError if none does."""
    runs = 0

    def fails(candidate: Plan) -> str:
        nonlocal runs
        runs += 1
        with perhaps(bug):
            found = run(candidate).violations
        return found[0] if found else ""

    first = fails(plan)
    if not first:
        raise ValueError(f"seed {plan.seed} of {plan.profile} is well")
    wanted = kind_of(first)

    def still(candidate: Plan) -> bool:
        return runs < RUNS_MAX and kind_of(fails(candidate)) == wanted

    for length_s in (0.2, 0.4, 0.8, 1.6, plan.for_s):
        shorter = dataclasses.replace(
            plan,
            for_s=length_s,
            faults=tuple(each for each in plan.faults if each.at_s < length_s),
        )
        if length_s < plan.for_s and still(shorter):
            plan = shorter
            break
    plan = _fewer(plan, still)
    for clients in (1, 2, 3):
        fewer = dataclasses.replace(plan, clients=clients)
        if clients < plan.clients and still(fewer):
            plan = fewer
            break
    say(f"{len(plan.faults)} faults in {plan.for_s} s, after {runs} runs: {first}")
    return plan


def _fewer(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    faults: tuple[Fault, ...] = plan.faults
    size = max(1, len(faults) // 2)
    while faults:
        for start in range(0, len(faults), size):
            left = faults[:start] + faults[start + size :]
            if still(dataclasses.replace(plan, faults=left)):
                faults = left
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
        size = min(size, max(1, len(faults)))
    return dataclasses.replace(plan, faults=faults)


def keep(plan: Plan, name: str, violations: list[str]) -> Path:
    """Write it as a regression test; the path."""
    path = REGRESSIONS / f"{name}.json"
    fields = {"found": violations, "plan": json.loads(plan.dumps())}
    path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    return path
