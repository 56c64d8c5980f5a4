"""Histories of clients, judged when a run is over: linearizable, nothing lost, nothing twice.

Keys r*, c* and l* are judged by node.lab.linear, each with its model; e* by the oracles as they are
read. Above CONFIGURATIONS_MAX the answer is "unknown", counted and never guessed.

Proved by: tests/lab/test_linear.py, tests/simulation/test_planted.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.lab.linear import BROKEN, UNDECIDED, check_key
from node.lab.models import MODELS

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["judge"]

CONFIGURATIONS_MAX = 20_000
_MODELS = {"r": MODELS["register"], "c": MODELS["counter"], "l": MODELS["list"]}


def judge(world: World) -> None:
    """Look at every key's history; say what is wrong to the world."""
    keys: dict[str, list] = {}  # type: ignore[type-arg]
    for operation in world.history:
        if operation.outcome == "ok" and isinstance(operation.result, Exception):
            continue  # refused by a rule: the model has judged it
        keys.setdefault(operation.key, []).append(operation)
    for key, operations in sorted(keys.items()):
        operations.sort(key=lambda each: each.start_us)
        verdict, culprit = check_key(
            operations, _MODELS[key[0]], configurations_max=CONFIGURATIONS_MAX
        )
        if verdict == BROKEN:
            assert culprit is not None
            world.violate(f"not linearizable: {culprit.show()}")
        elif verdict == UNDECIDED:
            world.count("a history too wide to be judged")
