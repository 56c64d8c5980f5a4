"""The table of pitfalls in node/README.md: each has a reproduction and a defence, and they exist.

What a reproduction must be: it shows the pitfall on the library as it comes, so it fails once the
library is mended. Its name begins with test_pysyncobj_.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [f"P{number}" for number in range(1, 28)]
ROW = re.compile(r"^\| (P\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")


def rows() -> dict[str, tuple[str, str, str]]:
    """Number -> (what it is, reproduction, defence)."""
    text = (ROOT / "node" / "README.md").read_text()
    found = [(match[1], (match[2], match[3], match[4])) for match in ROW.finditer(text)]
    assert [number for number, _ in found] == NUMBERS
    return dict(found)


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("number", NUMBERS)
def test_each_pitfall_has_a_reproduction_and_a_defence(number: str) -> None:
    what, reproduction, defence = rows()[number]
    assert what
    for cell, is_bare in ((reproduction, True), (defence, False)):
        named = TEST.findall(cell)
        assert named, f"{number} names no test in {cell!r}"
        for path, name in named:
            assert name in names_in(path), f"{number}: {path} has no {name}"
            assert name.startswith("test_pysyncobj_") == is_bare, name


def test_no_reproduction_is_left_out_of_the_table() -> None:
    listed = {
        name for _, reproduction, _ in rows().values() for _, name in TEST.findall(reproduction)
    }
    there = {
        name
        for path in sorted((ROOT / "tests" / "node").glob("test_pitfalls_*.py"))
        for name in names_in(str(path.relative_to(ROOT)))
        if name.startswith("test_pysyncobj_")
    }
    assert there == listed
