"""A planted bug: what is put into a copy of the sources, and which test must see it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Mutant", "misfit"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, as somebody in a hurry might write it."""

    name: str
    """What is wrong with the program then."""
    file: str
    """Relative to the repository."""
    old: str
    """Occurs exactly once in the file."""
    new: str
    test: str
    """pytest's word for the test that must go red: path::name. Without a bug it is green."""


def misfit(mutant: Mutant, root: Path = ROOT) -> str | None:
    """Why it cannot be planted here any more; None: it can."""
    source = (root / mutant.file).read_text(encoding="utf-8")
    count = source.count(mutant.old)
    if count != 1:
        return f"{mutant.name}: the old text occurs {count} times in {mutant.file}"
    if mutant.old == mutant.new:
        return f"{mutant.name}: nothing is changed"
    path, test = mutant.test.split("::")[:2]
    if not (root / path).exists():
        return f"{mutant.name}: there is no {path}"
    # A function, or what hypothesis makes of a state machine: "TestX = X.TestCase".
    if not re.search(rf"^(def {test}\(|{test} = )", (root / path).read_text("utf-8"), re.M):
        return f"{mutant.name}: there is no test {test} in {path}"
    return None
