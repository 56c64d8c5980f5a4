"""Fixtures of the tests that run real processes: clusters, and figures that are shown.

start_cluster(...)   a Cluster of the test's own, with its settings
cluster              one that the tests of a file share, whole again before each of them
figures("...")       a line for whoever reads the test's output, passed or not
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("shared")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_shared: Cluster) -> Iterator[Cluster]:
    """Three nodes with a leader and no keys. What a test killed or paused is mended after it."""
    _shared.heal()
    with _shared.nodes[0].connect() as client:
        client.flushall()
    yield _shared
    _shared.print_logs()
    _shared.heal()


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
