"""Does what a plan says: each fault at its time, and undone after its span.

    Faults.begin()   schedules all of them
    Faults.heal()    everything is well from now on: links, disks, clocks run on, all are started
    Operator         one at a time: members that come and go, machines that lost their disk or what
                     they had promised; asks the leader by its client port as an operator would

"up to what a minority can bear": no more than one machine at a time may be without its data, only
where at least three vote, and no member is changed meanwhile.

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hiredis

from tests.simulation.clients import Lost, Stream
from tests.simulation.plan import Fault
from tests.support.crash import Crash

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

__all__ = ["Faults"]


class Faults:
    """See the top of the file."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_healed = False
        self.operator: asyncio.Task[None] | None = None
        """What the operator is at."""

    def begin(self) -> None:
        loop, now_s = self._world.loop, self._world.loop.now_s
        for fault in self._world.plan.faults:
            loop.call_at(now_s + fault.at_s, self._do, fault, context=self._world.context)

    def _do(self, fault: Fault) -> None:
        world = self._world
        if self.is_healed:
            return
        world.count(f"fault: {fault.kind}")
        world.trace(f"FAULT {fault.show()}")
        getattr(self, f"_{fault.kind}")(random.Random(fault.seed), *fault.args)

    def _later(self, after_s: float, undo: Callable[..., None], *arguments: Any) -> None:
        self._world.loop.call_later(
            after_s, self._undo, undo, arguments, context=self._world.context
        )

    def _undo(self, undo: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.is_healed:
            undo(*arguments)

    def _host(self, name: str, chance: random.Random) -> Host:
        world = self._world
        if name == "leader":
            return world.leader() or chance.choice(list(world.hosts.values()))
        return world.hosts[name]

    @property
    def _is_busy(self) -> bool:
        return self.operator is not None and not self.operator.done()

    # -- network --------------------------------------------------------------------------------

    def _cut(
        self, chance: random.Random, one: str, other: str, span_s: float, notice_s: float
    ) -> None:
        if one != other:
            self._world.network.cut(one, other, notice_s)
            self._later(span_s, self._world.network.heal, one, other)

    def _isolate(self, chance: random.Random, name: str, span_s: float, notice_s: float) -> None:
        name = self._host(name, chance).id
        for other in self._world.hosts:
            self._cut(chance, name, other, span_s, notice_s)

    def _split(self, chance: random.Random, sides: int, span_s: float, notice_s: float) -> None:
        names = list(self._world.hosts)
        for i, one in enumerate(names):
            for j in range(i):
                if (sides >> i ^ sides >> j) & 1:
                    self._cut(chance, one, names[j], span_s, notice_s)

    def _hold(self, chance: random.Random, sender: str, to: str, span_s: float) -> None:
        self._world.network.hold(sender, to)
        self._later(span_s, self._world.network.let_go, sender, to)

    def _deaf(self, chance: random.Random, name: str, way: str, span_s: float) -> None:
        """It says nothing, or hears nothing, and its connections stay."""
        name = self._host(name, chance).id
        for other in self._world.hosts:
            if other != name:
                pair = (other, name) if way == "in" else (name, other)
                self._hold(chance, *pair, span_s)

    def _slow(
        self, chance: random.Random, sender: str, to: str, delay_s: float, span_s: float
    ) -> None:
        slow = self._world.network.slow
        slow[sender, to] = (0.0, delay_s)
        self._later(span_s, slow.pop, (sender, to), None)

    def _reset(self, chance: random.Random, one: str, other: str) -> None:
        pair = (min(one, other), max(one, other))
        self._world.network.break_session(pair, 0.1 * chance.random(), lossy=chance.random() < 0.5)

    def _double(self, chance: random.Random, one: str, other: str) -> None:
        if one != other:
            self._world.network.double(one, other)

    # -- processes ------------------------------------------------------------------------------

    def _pause(self, chance: random.Random, name: str, span_s: float) -> None:
        life = self._host(name, chance).life
        if life is not None and not life.paused:
            life.paused = True
            # NB: not `_later`: it is to be woken in any case.
            self._world.loop.call_later(
                span_s, self._world.loop.resume, life, context=self._world.context
            )

    def _crash(self, chance: random.Random, name: str, how: str, down_s: float) -> None:
        host = self._host(name, chance)
        if host.life is not None:
            host.no_boot_before_s = self._world.loop.now_s + down_s
            host.kill(Crash[how], chance.randrange(1 << 30))

    def _crash_at(
        self, chance: random.Random, name: str, steps: int, how: str, down_s: float
    ) -> None:
        host = self._host(name, chance)
        if host.life is not None:
            host.disk.die_at(steps, Crash[how], chance.randrange(1 << 30))
            host.no_boot_before_s = self._world.loop.now_s + down_s

    def _power(self, chance: random.Random, how: str, spread_s: float, down_s: float) -> None:
        """Every machine loses it, within spread_s."""
        self._world.count("power failed everywhere")
        for host in self._world.hosts.values():
            if chance.random() < 0.5 and host.life is not None:
                # Within a disk operation, if there is one by then.
                host.disk.die_at(chance.randrange(1, 6), Crash[how], chance.randrange(1 << 30))
            self._later(
                spread_s * chance.random(),
                self._crash,
                random.Random(chance.randrange(1 << 30)),
                host.id,
                how,
                down_s,
            )

    # -- disks ----------------------------------------------------------------------------------

    def _slow_disk(self, chance: random.Random, name: str, sync_s: float, span_s: float) -> None:
        host = self._host(name, chance)
        host.sync_s = (0.0, sync_s)
        self._later(span_s, self._fast_disk, host)

    def _fast_disk(self, host: Host) -> None:
        host.sync_s = (0.0002, 0.001)

    def _slow_disks(self, chance: random.Random, sync_s: float, span_s: float) -> None:
        for name in self._world.hosts:
            self._slow_disk(chance, name, sync_s, span_s)

    def _eio(self, chance: random.Random, name: str, steps: int, done: bool, sticky: bool) -> None:
        host = self._host(name, chance)
        if host.life is not None:
            host.disk.fail_at(steps, done=done, sticky=sticky)
            self._later(1.0, host.disk.calm)

    def _full(self, chance: random.Random, name: str, span_s: float) -> None:
        host = self._host(name, chance)
        disk = host.disk
        disk.full = True
        host.no_boot_before_s = max(host.no_boot_before_s, self._world.loop.now_s + span_s / 2)
        self._later(span_s, disk.calm)

    def _jump(self, chance: random.Random, name: str, by_ms: int) -> None:
        world = self._world
        clock = self._host(name, chance).clock
        clock.offset_ms += by_ms
        world.clock_spread_ms += abs(by_ms)

    # -- orders ---------------------------------------------------------------------------------

    def _transfer(self, chance: random.Random) -> None:
        leader = self._world.leader()
        if leader is not None:
            self._order(leader, b"TRI.TRANSFER")

    def _hand_over_deaf(self, chance: random.Random, span_s: float) -> None:
        """A leader hands over, and hears nothing of what comes of it."""

        def deafen(name: str) -> None:
            if not self.is_healed:
                self._world.count("a leader went deaf as it handed over")
                self._deaf(chance, name, "in", span_s)

        self._world.on_hand_over = deafen
        self._transfer(chance)

    def _stream(self, chance: random.Random, how: str, span_s: float) -> None:
        """The next snapshot on its way is in the middle when its leader stands still for longer
        than the others wait, when its connection ends, or when one of the two dies."""
        world = self._world
        pause_s = span_s + 2 * world.plan.election_ms[1] / 1000

        def disturb(sender: str, to: str) -> None:
            if self.is_healed:
                return
            world.count(f"a snapshot stream was disturbed ({how})")
            if how == "pause":
                self._pause(chance, sender, pause_s)
            elif how == "reset":
                world.network.break_session((min(sender, to), max(sender, to)), 0.0, lossy=True)
            else:
                self._crash(chance, chance.choice((sender, to)), "ALL", 0.0)

        def heard(sender: str, to: str) -> None:
            # Once that piece has been dealt with.
            world.loop.call_soon(disturb, sender, to, context=world.context)

        world.on_chunk = heard

    def _there_and_back(self, chance: random.Random, name: str, span_s: float) -> None:
        """Leadership goes and comes back while what one follower says is held up."""
        leader = self._world.leader()
        if leader is None or leader.id == name:
            return
        self._hold(chance, name, leader.id, span_s)
        self._later(0.03, self._order, leader, b"TRI.TRANSFER")
        self._later(span_s * 0.6, self._back_to, leader.id)

    def _back_to(self, name: str) -> None:
        leader = self._world.leader()
        if leader is not None and leader.id != name:
            self._order(leader, b"TRI.TRANSFER", name.encode())

    def _snapshot(self, chance: random.Random, name: str) -> None:
        self._order(self._host(name, chance), b"TRI.SNAPSHOT")

    def _order(self, host: Host, *words: bytes) -> None:
        self._world.loop.create_task(self._ask(host, *words), context=self._world.context)

    async def _ask(self, host: Host, *words: bytes | str) -> Any:
        """One order at one host's port; None when it could not be given or was not answered."""
        if host.server is None or not host.server.is_open or host.life is None:
            return None
        stream = Stream(self._world, host, host.server, random.Random(f"{self._world.seed} order"))
        try:
            async with asyncio.timeout(3.0):
                return await stream.ask(*words)
        except (Lost, TimeoutError):
            return None
        finally:
            stream.hang_up()

    # -- members, and machines without their data -------------------------------------------------

    def _operate(self, work: Any) -> None:
        self.operator = self._world.loop.create_task(work, context=self._world.context)

    def _voters(self) -> frozenset[str]:
        leader = self._world.leader()
        return leader.core.membership.current.voters if leader and leader.core else frozenset()

    def _member(self, chance: random.Random, name: str) -> None:
        voters = self._voters()
        if self._is_busy:
            return
        if name in voters and len(voters) > 2:
            self._operate(self._take_out(name))
        elif voters and name not in voters:
            self._operate(self._take_in(name))

    def _wipe(self, chance: random.Random, name: str, tries: bool) -> None:
        if not self._is_busy and name in self._voters() and len(self._voters()) > 2:
            self._operate(self._lose_disk(name, tries))

    def _flip(self, chance: random.Random, name: str) -> None:
        host = self._world.hosts[name]
        if self._is_busy or name not in self._voters() or len(self._voters()) < 3:
            return
        if host.life is not None:
            host.kill(Crash.ALL, 0)
        hit = host.disk.flip_vouched(host.data_dir, chance)
        if hit:
            host.damaged = True
            self._world.count(f"a bit was turned in {hit.partition('/')[0]}")
            self._operate(self._mend(name))

    async def _once(self, *words: str) -> None:
        """Ask the leader, if there is one, and wait a moment."""
        leader = self._world.leader()
        if leader is not None:
            reply = await self._ask(leader, *words)
            if isinstance(reply, hiredis.ReplyError):
                self._world.trace(f"operator: {leader.id} says {reply}")
        await asyncio.sleep(0.08)

    def _is_out(self, name: str) -> bool:
        leader = self._world.leader()
        if leader is None or leader.core is None or leader.id == name:
            return False
        membership = leader.core.membership
        return membership.is_settled and not membership.committed.has(name)

    def _is_in(self, name: str) -> bool:
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return False
        membership = leader.core.membership
        return membership.is_settled and name in membership.committed.voters

    async def _take_out(self, name: str) -> None:
        """Remove a member; its machine waits with an empty disk, to be seated anew."""
        world = self._world
        world.members_changed = True
        host = world.hosts[name]
        while not self._is_out(name):  # the run's end is the only limit
            await self._once("TRI.MEMBER", "REMOVE", name)
        world.count("a member was removed")
        await asyncio.sleep(0.2)
        host.retired = True
        if host.life is not None:
            host.kill(Crash.ALL, 0)
        host.wipe(world.joining(host))
        host.retired = False
        world.boot(host)

    async def _take_in(self, name: str) -> None:
        world = self._world
        world.members_changed = True
        member = next(each for each in world.hosts[name].config.members if each.id == name)
        spot = f"127.0.0.1:{member.client.port}:{member.peer.port}:{member.http.port}"
        while not self._is_in(name):
            if self._is_taken_for_another(name):
                # The leader had not noticed yet that its link to the old process was dead, and
                # seated the old directory. An operator sees a stranger, and does it again.
                world.count("a dead directory was seated")
                await self._take_out(name)
                await asyncio.sleep(0.5)
            await self._once("TRI.MEMBER", "ADD", name, spot)
        world.count("a member was added")

    def _is_taken_for_another(self, name: str) -> bool:
        leader, host = self._world.leader(), self._world.hosts[name]
        if leader is None or leader.core is None or not host.incarnation:
            return False
        membership = leader.core.membership
        # Whoever has seen the old directory in that seat turns this one away: it stops, and an
        # operator reads why in its log (seed 39199).
        asked = [leader] if host.is_up else self._world.members()
        known = {
            each.core.membership.incarnation_of(name)
            for each in asked
            if each.core is not None and each.id != name
        }
        is_strange = bool(known - {"", host.incarnation})
        return membership.is_settled and is_strange and membership.committed.has(name)

    async def _lose_disk(self, name: str, tries: bool) -> None:
        """A machine comes back with an empty disk: perhaps as it was, first, and then repaired."""
        world = self._world
        host = world.hosts[name]
        world.count("a machine lost its disk")
        if host.life is not None:
            host.kill(Crash.ALL, 0)
        host.retired = True
        host.wipe()
        if tries:
            host.retired = False
            world.boot(host)
            await asyncio.sleep(1.0)
        await self._take_out(name)
        await self._take_in(name)

    async def _mend(self, name: str) -> None:
        """`trimaran repair`: out, and in again with an empty disk."""
        await asyncio.sleep(0.3)
        await self._take_out(name)
        await self._take_in(name)

    # -- peace ----------------------------------------------------------------------------------

    def heal(self) -> None:
        """No fault from now on, and none is left."""
        self.is_healed = True
        world = self._world
        world.network.heal_all()
        for host in world.hosts.values():
            host.disk.calm()
            host.sync_s = (0.0002, 0.001)
            host.no_boot_before_s = 0.0
            world.boot(host)
