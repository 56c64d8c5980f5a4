"""Fixtures of the tests that run real processes: clusters, and figures that are shown.

    start_cluster(...)   a Cluster that is ended, and whose log lines are shown on failure
    figures("...")       a line for whoever reads the test's output, passed or not
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes a running cluster; the arguments are Cluster's."""
    with ExitStack() as stack:

        def start(**options: Any) -> Cluster:
            directory = tmp_path / f"cluster{len(list(tmp_path.glob('cluster*')))}"
            directory.mkdir()
            return stack.enter_context(Cluster(directory, **options))

        yield start


@pytest.fixture
def figures(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Prints past pytest's capture."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {request.node.name}: {text}", flush=True)

    return say
