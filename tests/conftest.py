"""What holds for every test: which may run here, and that none hangs in silence.

    cluster    starts real node processes on loopback ports
    stress     runs for minutes: `make test` leaves it out, `make test-all` runs it
    root       needs to be root: skipped, with that reason, for anybody else

The markers, the timeout of each test, warnings as errors and xfail_strict are configured in
pyproject.toml; tests/architecture/test_project.py looks that they stay.
"""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(tryfirst=True)  # Before xdist reads the groups.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only root can run; keep those that start nodes one after the other (`--dist
    loadgroup`): clusters beside each other would measure each other.
    """
    for item in items:
        if item.get_closest_marker("cluster") is not None:
            item.add_marker(pytest.mark.xdist_group("cluster"))
        if item.get_closest_marker("root") is not None and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs to be root"))
