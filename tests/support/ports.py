"""Loopback ports for a test, so that tests of several pytest workers do not meet.

    free_base_port(3) -> 21_340     n1 listens on 21_340, 22_340 and 23_340, n2 one above each

Ports below the range from which the kernel takes outgoing ones are tried in an order that
differs from process to process; each was free a moment ago, which is all that can be had.
Workers of one run share the blocks out, so none takes what another was just told is free.
"""

from __future__ import annotations

import itertools
import os

from node.client import can_listen
from node.config import Address

_FIRST, _LAST, _STEP = 12_000, 30_000, 20
_attempts = itertools.count(os.getpid() * 7)
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_base_port(nodes: int = 3) -> int:
    """A base port whose client, peer and HTTP ports are all free for `nodes` nodes."""
    for attempt in itertools.islice(_attempts, 500):
        # Blocks of 1,000, since peer and HTTP ports lie 1,000 and 2,000 above.
        slots = (_LAST - _FIRST) // 3_000 * (1_000 // _STEP)
        slot = attempt % (slots // _WORKERS) * _WORKERS + _WORKER
        base = _FIRST + slot // (1_000 // _STEP) * 3_000 + slot % (1_000 // _STEP) * _STEP
        wanted = (base + kind + node for kind in (0, 1_000, 2_000) for node in range(nodes))
        if all(can_listen(Address("127.0.0.1", port)) for port in wanted):
            return base
    raise RuntimeError("no free block of ports found")
