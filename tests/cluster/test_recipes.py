"""docs/recipes.md does what it says: its blocks are run as they stand, through every node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cluster import Cluster

pytestmark = pytest.mark.cluster

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"


def test_every_recipe_works_on_every_node(cluster: Cluster) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 9
    for node in cluster:
        with node.connect() as client:
            client.flushall()
            names = {"client": client}
            for block in blocks:
                exec(compile(block, str(PAGE), "exec"), names)
