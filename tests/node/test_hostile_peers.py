"""A peer with the right credentials that says anything at all: no node stops because of its bytes.

Method: whole nodes in virtual time (tests/support/simulated.py); one of them is handed messages in
the names of its peers, well-formed and senseless (tests/support/fuzz.py), between its own ticks.
Whatever comes of its log, it must not fail: a WireError is what the link would be closed for.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from node import wire
from node.errors import KVError
from tests.support.fuzz import entry_row, nonsense
from tests.support.simulated import SimulatedNode, Simulation


def tell(node: SimulatedNode, peer_id: str, frame: bytes) -> bool:
    """Hand a node a frame as a link would; whether the link would stay open."""
    links = node.core.links
    try:
        for body in wire.FrameReader(links.frame_bytes_max).feed(frame):
            message = wire.decode(body)
            if message[0] in (wire.HELLO, wire.PROOF):
                return False
            links.events.message(peer_id, message)
    except wire.WireError:
        return False
    links.events.received()
    return True


def plausible_append(rng: random.Random, node: SimulatedNode) -> list[Any]:
    """What a leader of this log might send: it is appended, committed and applied, or nearly so."""
    raft, journal = node.core.raft, node.core.journal
    ends = (journal.last_index, journal.last_index, raft.settled_index(), journal.first_index)
    previous = max(1, rng.choice(ends) - rng.choice((0, 0, 0, 1, 2)))
    previous_term = journal.term_at(previous) or 0
    term = raft.term() + rng.choice((0, 0, 0, 0, 1))
    rows = [entry_row(rng, (previous_term, term)) for _ in range(rng.choice((0, 1, 1, 2, 300)))]
    if rng.random() < 0.9:
        lowest = previous_term
        for row in rows:
            row[0] = lowest = min(max(lowest, row[0]), term)
    commit = previous + len(rows) + rng.choice((-1, 0, 0, 5))
    return [wire.APPEND, term, max(0, commit), previous, previous_term, rows]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_nothing_that_a_peer_says_stops_a_node(tmp_path: Path, seed: int, role: str) -> None:
    rng = random.Random(f"{seed} {role}")

    async def story(sim: Simulation) -> None:
        leader = await sim.ready()
        for number in range(20):
            await leader.set(b"k%d" % number, b"v")
        await sim.settle()
        victim = leader if role == "leader" else sim.others(leader)[0]
        peers = [node.id for node in sim.nodes.values() if node is not victim]
        for other in sim.others(victim):  # its links stay up, and it says nothing any more
            other.core._end(KVError("silent"))
        opened = closed = 0
        for _ in range(600):
            raft = victim.core.raft
            near = (raft.term(), raft.journal.last_index, raft.applied_index())
            is_plausible = rng.random() < 0.4
            message = plausible_append(rng, victim) if is_plausible else nonsense(rng, near)
            frame = wire.encode(*message)
            if tell(victim, rng.choice(peers), frame):
                opened += 1
            else:
                closed += 1
            assert not victim.failures, (victim.failures, wire.decode(frame[4:]))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice((0.0, 0.001, 0.02)))
                assert not victim.failures, victim.failures
        assert opened > 50
        assert closed > 50
        assert role == "leader" or victim.core.raft.applied_index() > 30  # it did believe some

    with Simulation(3, tmp_path, seed) as sim:
        sim.run(story(sim))
