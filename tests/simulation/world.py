"""One simulated world: what everybody in it shares, and what of the node is replaced for it.

    with World(plan, directory) as world:
        world.loop.run_until_complete(...)

`count` notes that a rare event came about, `trace` a line of the timeline (only when asked for),
`violate` that something is wrong: the first ones are kept, and the run ends.

Whatever is random comes from the seed; PySyncObj's clock is that of the host whose callback runs.
Sets of PySyncObj's nodes have the order of a fixed hash, so that PYTHONHASHSEED changes nothing.

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import contextvars
import functools
import logging
import random
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

from node.config import Address, Config, Member, NodeSection, RaftSection
from node.core import Core
from node.lab.history import Operation
from node.raft import Raft
from statemachine import FileStateMachine
from tests.simulation.host import (
    Host,
    SimEvent,
    SimJob,
    SimJournal,
    SimServer,
    SimSite,
    SimWorker,
)
from tests.simulation.loop import STARTED_AT_S, Life, SimLoop, life_now
from tests.simulation.network import SimNetwork
from tests.simulation.oracles import Oracles
from tests.simulation.plan import Plan

__all__ = ["World"]

KIB = 1024
SEND_BUFFER_BYTES_MAX = 2 * KIB
"""A peer for which more waits gets no entries."""
_PYSYNCOBJ = logging.getLogger("pysyncobj")


class ObservedRaft(Raft):
    """node.raft.Raft, which tells who leads."""

    def _on_role(self, old: int, new: int) -> None:
        super()._on_role(old, new)
        life = life_now()
        if new == 2 and life is not None:
            life.host.world.oracles.leads(life, self)


class ObservedMachine(FileStateMachine):
    """The state machine, which tells what it applied."""

    def apply(self, index: int, term: int, batch: bytes) -> Any:
        outcome = super().apply(index, term, batch)
        life = life_now()
        assert life is not None
        life.host.world.oracles.applied(life, self, index, term, batch, outcome)
        return outcome


class ObservedCore(Core):
    """The core, which tells of installed snapshots."""

    def _on_installed(self, peer_id: str, term: int, index: int) -> None:
        super()._on_installed(peer_id, term, index)
        life = life_now()
        assert life is not None
        life.host.world.oracles.installed(life.host, self.machine)


class World:
    """See the top of the file.

    Args:
        directory: a real one for PySyncObj's empty token files; nothing else is written there.
        tracing: keep the timeline.
    """

    def __init__(self, plan: Plan, directory: Path, *, tracing: bool = False) -> None:
        self.plan = plan
        self.seed = plan.seed
        self.tracing = tracing
        self._directory = f"{directory}/"
        self.lines: list[str] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.history: list[Operation] = []
        self.leases: dict[str, list[Any]] = {}
        self.last_seen: dict[str, str] = {}
        self.changes: dict[tuple[int, bytes], tuple[Any, ...]] = {}
        """(Revision, key) -> what some watch was told of it (listeners.py)."""
        self.counted: Counter[str] = Counter()
        """By optimistic transactions: told of, and perhaps."""
        self.disk_failed: set[str] = set()
        self.wiped: set[str] = set()
        self.members_changed = False
        self.clock_spread_ms = 0
        self.on_chunk: Callable[[str, str], None] | None = None
        """Called once, with sender and receiver, when a piece of a snapshot has arrived."""
        self.on_hand_over: Callable[[str], None] | None = None
        """Called once, with the name of a leader that has just handed over."""
        self.is_enough = False
        self.is_over = False
        self.is_calm_since_us = 0
        self.context = contextvars.copy_context()
        self.chance = random.Random(f"{plan.seed} world")
        self.loop = SimLoop(self._escaped)
        self.network = SimNetwork(self, plan.delay_s, plan.repeats)
        self.oracles = Oracles(self)
        self.hosts: dict[str, Host] = {}
        members = tuple(_member(number) for number in range(1, plan.nodes + 1))
        self._members = members
        self.founders = members[: plan.founders]
        for member, rate in zip(members, plan.rates, strict=True):
            config = self.config_of(member, directory, joins=member not in self.founders)
            (config.node.data_dir / "journal").mkdir(parents=True, exist_ok=True)
            self.hosts[member.id] = Host(self, config, rate)
        if len(set(plan.rates)) > 1:
            self.clock_spread_ms = round(0.045 * 1000 * (plan.for_s + 8))
        self._patches = self._make_patches()

    def joining(self, host: Host) -> Config:
        """Its configuration once its first place is gone: it waits to be seated."""
        own = next(each for each in host.config.members if each.id == host.id)
        return self.config_of(own, host.data_dir.parent, joins=True)

    def config_of(self, member: Member, directory: Path, *, joins: bool) -> Config:
        plan = self.plan
        known = self.founders if member in self.founders else (*self.founders, member)
        if joins and known == (member,):
            known = self._members  # the only founder comes back: it asks those who came later
        config = Config(
            node=NodeSection(id=member.id, data_dir=directory / member.id, join=joins),
            members=known,
            raft=RaftSection(
                election_timeout_min_ms=plan.election_ms[0],
                election_timeout_max_ms=plan.election_ms[1],
                heartbeat_ms=plan.heartbeat_ms,
            ),
        )
        # Past the bounds that a real node is held to: the run is short.
        _set(
            config.journal,
            segment_bytes_max=3 * KIB,
            compact_bytes=8 * KIB,
            retain_bytes=KIB,
            memory_bytes=3 * KIB,
        )
        _set(config.peer, send_buffer_bytes_max=SEND_BUFFER_BYTES_MAX)
        _set(config.wal, segment_bytes_max=4 * KIB)
        _set(config.checkpoint, bytes=6 * KIB)
        return config

    def _make_patches(self) -> list[Any]:
        chance = random.Random(f"{self.seed} pysyncobj")
        names = random.Random(f"{self.seed} incarnations")
        return [
            mock.patch("node.core.Links", self.network.links),
            mock.patch("node.core.FileJournal", SimJournal),
            mock.patch("node.core.Worker", SimWorker),
            mock.patch("node.core.Raft", ObservedRaft),
            mock.patch("node.core.FileStateMachine", ObservedMachine),
            mock.patch("node.core.TICK_S", self.plan.tick_s),
            mock.patch("node.app.Core", ObservedCore),
            mock.patch("node.app.Server", SimServer),
            mock.patch("node.app.Site", SimSite),
            mock.patch("node.members_file.threading", SimpleNamespace(Event=SimEvent)),
            mock.patch("statemachine.archive.Job", SimJob),
            mock.patch("statemachine.tender.Job", SimJob),
            mock.patch("node.snapshots.CHUNK_BYTES", 512),
            mock.patch("node.snapshots.WINDOW_BYTES", 1024),
            mock.patch("node.logs.EventLog._say", functools.partialmethod(_said, self)),
            mock.patch("node.identity.secrets", _Secrets(names)),
            mock.patch("pysyncobj.syncobj.monotonicTime", self._monotonic),
            mock.patch("pysyncobj.syncobj.random", chance),
            mock.patch("node.transport.Peer.__hash__", _node_hash),
        ]

    def __enter__(self) -> Self:
        self._was_level = _PYSYNCOBJ.level
        _PYSYNCOBJ.setLevel(logging.CRITICAL + 1)
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        for host in self.hosts.values():
            if host.life is not None:
                host.life.dead = True
        for patch in reversed(self._patches):
            patch.stop()
        _PYSYNCOBJ.setLevel(self._was_level)
        self.loop._ready.clear()
        self.loop._scheduled.clear()
        self.loop.close()

    def _monotonic(self) -> float:
        life = life_now()
        if life is None:
            return self.loop.time()
        found: float = life.host.clock.monotonic()
        return found

    # -- what is seen -------------------------------------------------------------------------

    def now_us(self) -> int:
        return round((self.loop.now_s - STARTED_AT_S) * 1e6)

    def trace(self, line: str) -> None:
        if self.tracing:
            line = line.replace(self._directory, "")
            self.lines.append(f"{self.loop.now_s - STARTED_AT_S:10.6f} {line}")

    def count(self, event: str) -> None:
        self.counts[event] += 1

    def violate(self, what: str) -> None:
        if self.is_over:
            return
        if len(self.violations) < 5:
            what = what.replace(self._directory, "")
            self.violations.append(f"at {self.loop.now_s - STARTED_AT_S:.4f} s: {what}")
        self.trace(f"VIOLATION {what}")
        self.loop.stop()

    def _escaped(self, life: Life | None, error: BaseException | None, message: str) -> None:
        if self.is_over or error is None:
            return
        who = life.host.id if life is not None else "the simulation"
        where = ""
        if error.__traceback__ is not None:
            last = error.__traceback__
            while last.tb_next is not None:
                last = last.tb_next
            where = f" ({Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno})"
        self.violate(f"an exception reached the loop of {who}: {error!r}{where}")

    # -- hosts ----------------------------------------------------------------------------------

    def up(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.is_up]

    def leader(self) -> Host | None:
        """Of the highest term, of those that take themselves for one."""
        leaders = [host for host in self.hosts.values() if host.is_leader]
        return max(leaders, key=_term_of) if leaders else None

    def members(self) -> list[Host]:
        """Who is up and a member, as it knows."""
        return [host for host in self.up() if host.core and not host.core.membership.is_waiting]

    def host_for(self, chance: random.Random) -> Host | None:
        """Some host that serves clients."""
        found = [host for host in self.hosts.values() if host.server is not None and host.is_up]
        return chance.choice(found) if found else None

    def died(self, host: Host) -> None:
        """Its process is gone: another one is started in a while."""
        if not self.is_over:
            wait_s = max(host.no_boot_before_s - self.loop.now_s, 0.02 + 0.1 * self.chance.random())
            self.loop.call_later(wait_s, self.boot, host, context=self.context)

    def boot(self, host: Host) -> None:
        if host.life is None and not host.retired:
            if self.loop.now_s < host.no_boot_before_s:
                self.died(host)
            else:
                host.boot()

    def told_disk_failed(self, host: Host, when: str) -> None:
        """A change of its disk failed: the process must end by that."""
        self.count("a disk operation failed")
        self.trace(f"{host.id}: its disk fails {when}")
        self.disk_failed.add(host.id)
        life = host.life
        if life is not None:
            self.loop.call_later(0.5, self._must_have_stopped, life, context=self.context)

    def _must_have_stopped(self, life: Life) -> None:
        if life.paused:
            self.loop.call_later(0.5, self._must_have_stopped, life, context=self.context)
        elif not life.dead:
            self.violate(f"{life.host.id} goes on with a disk that has failed")


def _said(self: Any, world: World, level: int, event: str, fields: dict[str, object]) -> None:
    """In place of EventLog._say."""
    world.counts[f"log: {event}"] += 1
    if world.tracing:
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        world.trace(f"{self._node} {event} {words}")


def _set(section: Any, **values: int) -> None:
    for name, value in values.items():
        object.__setattr__(section, name, value)


def _member(number: int) -> Member:
    address = [Address(host="127.0.0.1", port=port + number) for port in (1100, 1200, 1300)]
    return Member(id=f"n{number}", peer=address[0], client=address[1], http=address[2])


def _term_of(host: Host) -> int:
    assert host.core is not None
    return host.core.raft.term()


def _node_hash(node: Any) -> int:
    return zlib.crc32(str(node.id).encode())


class _Secrets(SimpleNamespace):
    def __init__(self, chance: random.Random) -> None:
        super().__init__(token_hex=lambda size: chance.randbytes(size).hex())
