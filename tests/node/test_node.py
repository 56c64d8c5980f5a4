"""Class Node in process: a session as the README shows it, what errors mean, and the one door.

Method: real nodes with real sockets and disks in the test's own event loop; three of them share it
where it takes a cluster. Where milliseconds matter the clock is made by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from node.app import Node
from node.config import Config, NodeSection, RaftSection
from node.errors import (
    Corrupt,
    DirectoryInUse,
    DiskFailed,
    Fatal,
    KVError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from statemachine.fs import Disk
from tests.support.fake_service import members
from tests.support.ports import free_base_port
from tests.support.turns import ManualClock

TIMEOUT_S = 20.0
FAST = RaftSection(election_timeout_min_ms=100, election_timeout_max_ms=200, heartbeat_ms=30)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own, which it must not outlive."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(TIMEOUT_S):
                await test(*arguments, **named)

        asyncio.run(limited())

    return run


async def until(done: Callable[[], object]) -> None:
    while not done():  # noqa: ASYNC110 - of other people's state there is no event
        await asyncio.sleep(0.005)


def configs(data: Path, count: int = 1, raft: RaftSection | None = None) -> list[Config]:
    """n1, n2, ...: with short timeouts alone, with the usual ones in company."""
    everybody = members(count, free_base_port(count))
    return [
        Config(
            node=NodeSection(id=member.id, data_dir=data / member.id),
            members=everybody,
            raft=raft or (FAST if count == 1 else RaftSection()),
        )
        for member in everybody
    ]


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """All of them, ready. Those that were stopped meanwhile stay so."""
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node)
        for node in nodes:
            await node.wait_ready(TIMEOUT_S)
        yield


def core_of(node: Node) -> Any:
    assert node._core is not None
    return node._core


def leader_of(nodes: list[Node]) -> Node:
    (leader,) = [node for node in nodes if node.status()["role"] == "leader"]
    return leader


# -- a session --------------------------------------------------------------------------------


@in_loop
async def test_the_session_of_the_readme(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    path = tmp_path / "n1.toml"
    path.write_text(config.render())
    async with Node(Config.load(path)) as node:
        assert await node.set(b"k", b"v", ttl_ms=5000)
        assert await node.get(b"k", consistency="linearizable") == b"v"
        assert await node.cas(b"k", b"v", b"w")
        assert await node.delete(b"k", b"never there") == 1
        assert await node.get(b"k") is None


@in_loop
async def test_every_call_does_what_it_says(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        assert await node.set(b"a", b"1")
        assert await node.set(b"a", b"2", if_absent=True) is False
        assert await node.set(b"b", b"2", if_present=True) is False
        assert await node.set(b"a", b"2", if_present=True)
        assert await node.set(b"empty", b"")
        assert await node.get(b"empty") == b""
        assert await node.cas(b"a", b"1", b"3") is False
        assert await node.cas(b"new", None, b"3")
        assert await node.cas(b"new", None, b"4") is False
        assert await node.increment(b"n") == 1
        assert await node.increment(b"n", 41) == 42
        assert await node.increment(b"n", -50) == -8
        assert await node.expire(b"n", 60_000)
        assert await node.expire(b"nobody", 60_000) is False
        assert 59_000 < (await node.ttl_ms(b"n") or 0) <= 60_000
        assert await node.set(b"n", b"5", keep_ttl=True)
        assert await node.ttl_ms(b"n") is not None
        assert await node.persist(b"n")
        assert await node.persist(b"n") is False
        assert await node.ttl_ms(b"n") is None
        assert await node.ttl_ms(b"nobody") is None
        assert await node.get_many([b"n", b"nobody", b"a"]) == [b"5", None, b"2"]
        assert await node.delete() == 0
        assert await node.expire(b"n", 0)
        assert await node.get(b"n") is None


@in_loop
async def test_a_scan_is_in_order_and_carries_the_revision(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        for key in (b"b2", b"a", b"b1", b"c", b"b3"):
            await node.set(key, b"of " + key)
        scan = await node.scan(b"b")
        assert [key for key, _ in scan.items] == [b"b1", b"b2", b"b3"]
        assert scan.items[0][1] == b"of b1"
        assert scan.revision == node.status()["applied_index"] == node.digest()[0]
        page = await node.scan(b"b", limit=2)
        rest = await node.scan(b"b", after=page.items[-1][0])
        assert [key for key, _ in rest.items] == [b"b3"]


@in_loop
async def test_calls_of_one_loop_turn_share_an_entry(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    node = Node(config)
    async with running(node):
        before = node.status()["applied_index"]
        await asyncio.gather(*(node.set(b"k%d" % number, b"v") for number in range(500)))
        assert node.status()["applied_index"] == before + 1
        assert node.status()["keys"] == 500


@in_loop
async def test_status_and_digest_tell_of_this_node(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    node = Node(config)
    async with running(node):
        await node.set(b"k", b"v")
        status = node.status()
        assert status["id"] == status["leader"] == "n1"
        assert status["role"] == "leader"
        assert status["keys"] == 1
        assert status["durable_index"] == status["applied_index"] == status["commit_index"]
        index, digest = node.digest()
        assert index == status["applied_index"]
        assert len(bytes.fromhex(digest)) == 32
        assert await node.snapshot() == f"{index}-{status['term']}"


# -- errors -----------------------------------------------------------------------------------


@in_loop
async def test_a_wrong_call_is_rejected_and_nothing_is_logged_for_it(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    node = Node(config)
    long_key, long_value = b"k" * (64 * 1024 + 1), b"v" * (1024 * 1024 + 1)
    async with running(node):
        before = node.status()["applied_index"]
        wrong: list[Callable[[], Awaitable[object]]] = [
            lambda: node.set(b"k", b"v", ttl_ms=0),
            lambda: node.set(b"k", b"v", ttl_ms=-1),
            lambda: node.set(b"k", b"v", ttl_ms=2**64),
            lambda: node.set(b"k", b"v", ttl_ms=5, keep_ttl=True),
            lambda: node.set(b"k", b"v", if_absent=True, if_present=True),
            lambda: node.set(long_key, b"v"),
            lambda: node.set(b"k", long_value),
            lambda: node.delete(b"k", long_key),
            lambda: node.delete(*(b"%065000d" % number for number in range(66))),
            lambda: node.cas(b"k", None, long_value),
            lambda: node.increment(b"k", 2**63),
            lambda: node.expire(b"k", 2**70),
            lambda: node.get(b"k", consistency="wishful"),
            lambda: node.transfer("n9"),
        ]
        for number, call in enumerate(wrong):
            with pytest.raises(Rejected):
                await call()
            assert node.status()["applied_index"] == before, f"call {number}"


@in_loop
async def test_what_the_rules_refuse_is_rejected_and_counts_as_applied(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    node = Node(config)
    async with running(node):
        await node.set(b"k", b"no number")
        before = node.status()["applied_index"]
        with pytest.raises(Rejected, match="not an integer"):
            await node.increment(b"k")
        with pytest.raises(Rejected):
            await node.set(b"k", b"v", ttl_ms=2**63 - 1)  # beyond the end of the clock
        assert node.status()["applied_index"] == before + 2
        assert await node.get(b"k") == b"no number"


@in_loop
async def test_a_node_that_is_not_running_is_unavailable(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    node = Node(config)
    for _ in range(2):
        for call in (node.set(b"k", b"v"), node.get(b"k"), node.transfer(), node.snapshot()):
            with pytest.raises(Unavailable, match="not running"):
                await call
        with pytest.raises(Unavailable):
            node.status()
        async with node:
            pass


@in_loop
async def test_calls_under_way_when_the_node_stops_are_told_what_they_may_do_next(
    tmp_path: Path,
) -> None:
    """Alone of three there is no leader, so they wait; certainly nothing was proposed."""
    config = configs(tmp_path, 3)[0]
    async with Node(config) as node:
        calls = [asyncio.ensure_future(call) for call in (node.set(b"k", b"v"), node.get(b"k"))]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
    for call in calls:
        with pytest.raises(Unavailable):
            await call


@in_loop
async def test_a_caller_that_gives_up_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(configs(tmp_path / "alone")[0])
    async with running(node):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await node.set(b"k", b"v")
        assert await node.set(b"l", b"w")
        assert await node.get(b"l") == b"w"
    async with Node(configs(tmp_path / "leaderless", 3)[0]) as node:
        for call in (node.set(b"k", b"v"), node.get(b"k")):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await call
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# -- starting and stopping --------------------------------------------------------------------


@in_loop
async def test_a_restart_keeps_the_data_the_leases_and_the_digest(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        for number in range(50):
            await node.set(b"k%d" % number, b"v%d" % number)
        await node.set(b"t", b"v", ttl_ms=600_000)
        left_ms = await node.ttl_ms(b"t")
        before = node.digest()
    async with Node(config) as node:
        await node.wait_ready(TIMEOUT_S)
        assert node.digest() == before
        assert await node.get_many([b"k0", b"k49", b"t"]) == [b"v0", b"v49", b"v"]
        assert 0 < (await node.ttl_ms(b"t") or 0) <= (left_ms or 0)
        assert await node.increment(b"n") == 1  # a new epoch: its batches count from one
    async with Node(config) as node:
        assert await node.increment(b"n") == 2


@in_loop
async def test_a_second_node_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        with pytest.raises(DirectoryInUse):
            await Node(config).start()
        assert await node.set(b"k", b"v")


@in_loop
async def test_a_port_in_use_is_told_and_the_directory_let_go(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    for address in (config.member.client, config.member.peer):
        blocker = await asyncio.start_server(lambda *_: None, address.host, address.port)
        with pytest.raises(OSError, match="in use"):
            await Node(config).start()
        blocker.close()
        await blocker.wait_closed()
    async with Node(config) as node:
        assert await node.set(b"k", b"v")


@in_loop
async def test_damage_is_refused_with_file_and_byte_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        await node.set(b"k", b"v" * 100)
    (segment,) = (tmp_path / "n1" / "journal").glob("*.seg")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"vvvv", b"vvvw", 1))
    errors = []  # Kept, so that nothing is let go merely because it was forgotten.
    for _ in range(2):
        with pytest.raises(Corrupt, match=r"00000001\.seg at byte \d+") as caught:
            await Node(config).start()
        errors.append(caught)
    segment.write_bytes(whole)
    async with Node(config) as node:
        assert await node.get(b"k") == b"v" * 100


@in_loop
async def test_a_start_that_fails_half_way_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs(tmp_path, 3)[0]
    before = threading.active_count()
    errors = []
    for room in ("align", "FencedTransport", "Raft", "Upkeep"):
        with monkeypatch.context() as patch:
            patch.setattr(f"node.core.{room}", lambda *_, **__: 1 // 0)
            with pytest.raises(ZeroDivisionError) as caught:
                await Node(config).start()
        errors.append(caught)
        assert threading.active_count() == before
    async with Node(config):
        pass


@in_loop
async def test_a_node_that_finds_no_leader_in_time_says_so(tmp_path: Path) -> None:
    async with Node(configs(tmp_path, 3)[0]) as node:
        with pytest.raises(Unavailable, match=r"no leader within 0\.1 s"):
            await node.wait_ready(0.1)


# -- three in one loop ------------------------------------------------------------------------


@in_loop
async def test_three_nodes_are_one_store_whoever_is_asked(tmp_path: Path) -> None:
    nodes = [Node(config) for config in configs(tmp_path, 3)]
    async with running(*nodes):
        for number, node in enumerate(nodes):
            assert await node.set(b"k", b"%d" % number)
            for other in nodes:
                for consistency in (None, "linearizable", "lease"):
                    assert await other.get(b"k", consistency=consistency) == b"%d" % number
        assert await asyncio.gather(*(node.increment(b"n") for node in nodes * 20)) != []
        assert {await node.get(b"n") for node in nodes} == {b"60"}
        # A linearizable read waits for its own index, so all have applied the same by now.
        assert len({node.digest() for node in nodes}) == 1


@in_loop
async def test_an_eventual_read_is_what_this_node_has(tmp_path: Path) -> None:
    nodes = [Node(config) for config in configs(tmp_path, 3)]
    async with running(*nodes):
        await nodes[0].set(b"k", b"v")
        assert await nodes[0].get(b"k", consistency="eventual") == b"v"
        machines = [core_of(node).machine for node in nodes]
        await until(lambda: all(machine.get(b"k") == b"v" for machine in machines))
        for node in nodes:
            assert await node.get(b"k", consistency="eventual") == b"v"


@in_loop
async def test_leadership_is_handed_over_by_the_leader_and_by_nobody_else(tmp_path: Path) -> None:
    nodes = [Node(config) for config in configs(tmp_path, 3)]
    async with running(*nodes):
        leader = leader_of(nodes)
        target, other = (node for node in nodes if node is not leader)
        with pytest.raises(Rejected, match="is not the leader"):
            await other.transfer()
        writes = asyncio.gather(*(node.increment(b"n") for node in nodes * 30))
        assert await leader.transfer(target.status()["id"]) == target.status()["id"]
        await writes
        assert await leader.get(b"n") == b"90"  # each applied once, on either side of it
        await until(lambda: target.status()["role"] == "leader")
        assert leader_of(nodes) is target


@in_loop
async def test_the_others_go_on_when_the_leader_stops(tmp_path: Path) -> None:
    nodes = [Node(config) for config in configs(tmp_path, 3)]
    async with running(*nodes):
        leader = leader_of(nodes)
        rest = [node for node in nodes if node is not leader]
        await leader.set(b"k", b"v")
        await leader.stop()
        assert await asyncio.gather(*(node.increment(b"n") for node in rest)) in ([1, 2], [2, 1])
        await leader.start()
        await leader.wait_ready(TIMEOUT_S)
        assert await leader.get_many([b"k", b"n"]) == [b"v", b"2"]


@in_loop
async def test_a_minority_serves_eventual_reads_and_nothing_else(tmp_path: Path) -> None:
    raft = RaftSection(park_ms=400)
    nodes = [Node(config) for config in configs(tmp_path, 3, raft)]
    async with running(*nodes):
        await nodes[0].set(b"k", b"v")
        assert await nodes[2].get(b"k") == b"v"
        await nodes[0].stop()
        await nodes[1].stop()
        alone = nodes[2]
        await until(lambda: core_of(alone).raft.leader_id() is None)
        calls = [alone.set(b"k", b"w"), alone.get(b"k"), alone.get(b"k", consistency="lease")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == 3 * [Unavailable]
        assert await alone.get(b"k", consistency="eventual") == b"v"


# -- leases -----------------------------------------------------------------------------------


@in_loop
async def test_a_lease_ends_on_its_millisecond(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    clock = ManualClock()
    node = Node(config, clock=clock)
    async with node:
        clock.advance(1.0)  # past the election timeout
        await node.wait_ready(TIMEOUT_S)
        await node.set(b"t", b"v", ttl_ms=1_000)
        assert await node.ttl_ms(b"t") == 1_000
        clock.advance(0.4)
        assert await node.ttl_ms(b"t") == 600
        clock.advance(0.599)
        index = node.status()["applied_index"]
        await node.set(b"other", b"v")  # a batch of this millisecond expires nothing
        assert await node.get(b"t") == b"v"
        assert await node.ttl_ms(b"t") == 1
        clock.advance(0.001)
        await until(lambda: node.status()["keys"] == 1)  # by the leader's own empty batch
        assert await node.get(b"t") is None
        assert node.status()["applied_index"] == index + 2


@in_loop
async def test_a_restart_neither_renews_nor_forgets_a_lease(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    clock = ManualClock()
    async with Node(config, clock=clock) as node:
        clock.advance(1.0)
        await node.set(b"t", b"v", ttl_ms=10_000)
    clock.wall += 7_000  # it was down for so long
    clock.seconds = 5.0  # and the machine was started anew
    async with Node(config, clock=clock) as node:
        clock.advance(1.0)
        await node.wait_ready(TIMEOUT_S)
        assert await node.ttl_ms(b"t") == 2_000
        clock.advance(1.999)
        await node.set(b"other", b"v")
        assert await node.get(b"t") == b"v"
        clock.advance(0.001)
        await until(lambda: node.status()["keys"] == 1)


# -- the one door -----------------------------------------------------------------------------


class BreakingDisk(Disk):
    """The real disk, until `broken`: from then on no fdatasync of a log succeeds."""

    def __init__(self) -> None:
        self.broken = False

    def open_log(self, path: Path, *, create: bool) -> Any:
        return _BreakingFile(self, path, super().open_log(path, create=create))


class _BreakingFile:
    def __init__(self, disk: BreakingDisk, path: Path, inner: Any) -> None:
        self._disk = disk
        self._path = path
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sync(self) -> None:
        if self._disk.broken:
            raise DiskFailed(self._path, "fdatasync", "Input/output error")
        self._inner.sync()


async def assert_ended(node: Node) -> Exception:
    """The node has failed: it says so, and answers nobody any more, not even with old data."""
    assert node.failed is not None
    error = await node.failed
    core = core_of(node)
    assert not core.is_ready()
    calls = [
        node.set(b"k", b"late"),
        node.get(b"k"),
        node.get(b"k", consistency="lease"),
        node.get(b"k", consistency="eventual"),
        node.transfer(),
        node.snapshot(),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Fatal) for result in results), results
    return error


def watch_work(node: Node) -> list[str]:
    """Where there will have been work after the end; to be looked at then."""
    core, worked = core_of(node), []

    def watch(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            if core._ended:
                worked.append(f"{type(owner).__name__}.{name}")
            return inner(*arguments)

        setattr(owner, name, call)

    for room in (core.elections, core.reads, core.batches, core.expiry, core.upkeep):
        watch(room, "tick")
    for owner, name in (
        (core.raft._replica, "_onTick"),
        (core.raft, "propose"),
        (core.transport, "receive"),
        (core.transport, "on_durable"),
        (core.machine, "apply"),
    ):
        watch(owner, name)
    return worked


@in_loop
async def test_an_exception_out_of_apply_stops_the_node_and_a_restart_goes_on(
    tmp_path: Path,
) -> None:
    """P1: PySyncObj would run the method again with every tick, and send no heartbeats."""
    (config,) = configs(tmp_path)
    node = Node(config)
    async with running(node):
        await node.set(b"k", b"v")
        applied: list[int] = []

        def apply(index: int, term: int, batch: bytes) -> Any:
            applied.append(index)
            raise ZeroDivisionError("a bug")

        core_of(node).machine.apply = apply
        worked = watch_work(node)
        calls = [asyncio.ensure_future(node.set(b"k", b"w")) for _ in range(3)]
        for call in calls:
            with pytest.raises((Fatal, OutcomeUnknown)):
                await call
        assert isinstance(await assert_ended(node), ZeroDivisionError)
        await asyncio.sleep(0.1)
        assert worked == []
        assert len(applied) == 1
    async with Node(config) as node:
        assert await node.get(b"k") == b"w"  # it was committed; nobody had been told


@in_loop
async def test_a_failing_fsync_stops_a_node_that_is_alone(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    disk = BreakingDisk()
    node = Node(config, disk=disk)
    async with running(node):
        await node.set(b"k", b"v")
        worked = watch_work(node)
        disk.broken = True
        with pytest.raises((Fatal, OutcomeUnknown)):
            await node.set(b"k", b"w")
        assert isinstance(await assert_ended(node), DiskFailed)
        await asyncio.sleep(0.1)
        assert worked == []
        with pytest.raises(Fatal, match="fdatasync"):
            await node.wait_ready(TIMEOUT_S)
        disk.broken = False
        await node.stop()
        await node.stop()
        async with Node(config) as again:
            assert await again.get(b"k") in (b"v", b"w")


@in_loop
async def test_a_failing_fsync_of_the_leader_stops_it_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    disks = [BreakingDisk() for _ in range(3)]
    nodes = [
        Node(config, disk=disk) for config, disk in zip(configs(tmp_path, 3), disks, strict=True)
    ]
    async with running(*nodes):
        leader = leader_of(nodes)
        rest = [node for node in nodes if node is not leader]
        await leader.set(b"k", b"v")
        before, worked = threading.active_count(), watch_work(leader)
        disks[nodes.index(leader)].broken = True
        calls = [asyncio.ensure_future(node.increment(b"n")) for node in (leader, *rest)]
        with pytest.raises((Fatal, OutcomeUnknown)):
            await calls[0]
        assert sorted(await asyncio.gather(*calls[1:])) in ([1, 2], [1, 3], [2, 3])
        assert isinstance(await assert_ended(leader), DiskFailed)
        assert await rest[0].set(b"k", b"w")
        assert worked == []
        assert all(not core_of(node)._ended for node in rest)
        # Once it is let go of, nothing of it is left, and a new life catches up.
        await leader.stop()
        assert threading.active_count() < before
        again = Node(leader._config)
        async with running(again):
            assert await again.get(b"k") == b"w"


@pytest.mark.parametrize("where", ["call_soon", "timer", "raft"])
@in_loop
async def test_a_bug_in_a_callback_of_the_loop_finds_the_same_door(
    tmp_path: Path, where: str
) -> None:
    """The event loop would only log it, and the node would go on with half a job done."""
    (config,) = configs(tmp_path)
    node = Node(config)
    async with running(node):
        core = core_of(node)
        worked = watch_work(node)

        def fail() -> None:
            raise ZeroDivisionError("a bug")

        if where == "call_soon":
            # NB: not `_turn`: one may be on its way already, bound, and would take the write.
            core.batches._propose = fail
            with pytest.raises(KVError):
                await node.set(b"k", b"v")
        elif where == "timer":
            core.reads.tick = fail
        else:
            core.raft._replica._onTick = lambda _: fail()
        assert isinstance(await assert_ended(node), ZeroDivisionError)
        await asyncio.sleep(0.05)
        assert worked == []
