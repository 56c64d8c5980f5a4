"""An operator of a simulated cluster: adds and removes members, and asks again as told to.

    await add(sim, "n4")       seated, and a voter when it returns
    await remove(sim, "n1")    also when it leads: it hands over first

What `trimaran member` does with real nodes (node.cli_members), on the leader's own service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.errors import KVError, OutcomeUnknown, Unavailable
from node.roster import Roster
from node.service import Service
from tests.support.simulated import SimulatedNode, Simulation
from tests.support.turns import Waiter

__all__ = ["add", "ask", "remove", "roster"]


def roster(sim: Simulation) -> Roster:
    """The roster in force on the leader of the highest term."""
    return sim.leader.core.membership.current


async def ask(
    sim: Simulation, node: SimulatedNode, order: Callable[[Service, Waiter], None]
) -> KVError | None:
    """Give one order to one node; what it was answered, None when it was done."""
    waiter = Waiter()
    order(node.core.service, waiter)
    await sim.until(lambda: bool(waiter.told), within_s=20)
    return waiter.error if waiter.told[0][0] == "fail" else None


async def _until_done(
    sim: Simulation, order: Callable[[Service, Waiter], None], done: Callable[[], bool]
) -> None:
    """Ask the leader until it is so. An outcome that is unknown is looked up like any other."""
    end_s = sim.loop.time() + 60
    while not (any(node.is_leader for node in sim.nodes.values()) and done()):
        assert sim.loop.time() < end_s, "the operator gives up"
        leaders = [node for node in sim.nodes.values() if node.is_leader]
        if leaders:
            error = await ask(sim, sim.leader, order)
            if error is not None and not isinstance(error, (Unavailable, OutcomeUnknown)):
                assert "not the leader" in str(error) or done() or "too few" in str(error), error
        await asyncio.sleep(0.05)


async def add(sim: Simulation, name: str) -> None:
    """Have a node seated; it votes when this returns."""
    member = sim.nodes[name]._config.member
    await _until_done(
        sim,
        lambda service, waiter: service.add_member(member, waiter),
        lambda: roster(sim).has(name),
    )
    await sim.until(
        lambda: any(node.is_leader for node in sim.nodes.values()) and name in roster(sim).voters,
        within_s=60,
    )


async def remove(sim: Simulation, name: str) -> None:
    """Have a member taken out."""
    await _until_done(
        sim,
        lambda service, waiter: service.remove_member(name, waiter),
        lambda: not roster(sim).has(name) and sim.leader.core.membership.is_settled,
    )
