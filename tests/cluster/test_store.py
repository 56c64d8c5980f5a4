"""node.client's Store, with threads and with asyncio, against nodes that die.

Goal: what it promises of locks, offices, sessions, leases and watches holds with real connections:
a helper is at home on a node that is killed, and goes on at the next one, missing nothing and
telling nothing twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from node.client import Event, Lost, Store, aio
from node.errors import Rejected, Unavailable
from tests.support.cluster import Cluster
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster


def addresses(cluster: Cluster, *first: str) -> list[str]:
    """Client ports; those of `first` before the others."""
    nodes = sorted(cluster.nodes, key=lambda node: node.id not in first)
    return [f"127.0.0.1:{node.port}" for node in nodes]


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Store]:
    with Store(addresses(cluster)) as found:
        yield found


def test_a_call_is_answered_by_whichever_node_lives(cluster: Cluster) -> None:
    with Store(["127.0.0.1:9", *addresses(cluster)]) as store:
        assert store.call("SET", "k", "v") == b"OK"
        assert store.call("GET", "k") == b"v"
        with pytest.raises(Rejected, match="not an integer"):
            store.call("INCR", "k")
        with store.redis() as client:
            assert client.get("k") == b"v"
    with Store("127.0.0.1:9", give_up_s=0) as nowhere:
        with pytest.raises(Unavailable):
            nowhere.call("SET", "k", "v")


def test_locks_exclude_each_other_and_their_tokens_rise(store: Store) -> None:
    tokens, inside, most = [], 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(3):
            with store.lock("job", ttl_s=20) as lock:
                inside += 1
                most = max(most, inside)
                tokens.append(lock.token)
                lock.check()
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(tokens), most) == (9, 1)
    assert tokens == sorted(set(tokens))
    assert store.call("GET", "job") is None, "the last one has let it go"


def test_a_lock_is_kept_alive_while_it_is_open_and_lost_when_it_is_taken_away(store: Store) -> None:
    with store.lock("job", ttl_s=4) as lock:
        first_due = store.call("PEXPIRETIME", "job")
        wait_until(lambda: store.call("PEXPIRETIME", "job") > first_due, 10, "nobody renews it")
        assert lock.is_held
        with pytest.raises(Unavailable, match="held by somebody else"):
            with store.lock("job", wait_s=0):
                pass
        store.call("SET", "job", "somebody else")
        wait_until(lambda: not lock.is_held, 10, "it was never noticed")
        with pytest.raises(Lost):
            lock.check()
    assert store.call("GET", "job") == b"somebody else", "what is not ours is not let go"


def test_an_office_passes_on_and_says_whose_it_is(store: Store) -> None:
    with store.election("leader", "n1/a") as first:
        assert store.leader("leader") == "n1/a"
        token = first.token
    assert store.leader("leader") is None
    with store.election("leader", "n2") as second:
        assert store.leader("leader") == "n2"
        assert second.token > token


def test_a_session_counts_exactly_while_its_node_and_the_leader_are_killed(
    cluster: Cluster,
) -> None:
    leader = cluster.leader()
    with Store(addresses(cluster, leader.id)) as store:  # at home on the one that dies
        session = store.session()
        unknown = 0
        for number in range(1, 61):
            done = session.run(("INCR", "n"), ("APPEND", "text", "x"))
            assert done.results in (None, [number, number])
            unknown += done.results is None
            if number == 20:
                killer = threading.Timer(0.005, leader.kill)
                killer.start()
        killer.join()
        assert store.call("GET", "n") == b"60"
        assert store.call("STRLEN", "text") == 60
        with pytest.raises(Rejected):
            session.run(("INCR", "text"), ("NO-SUCH-COMMAND",))
        assert session.run(("INCR", "n")).results == [61]
        session.end()


def test_the_same_with_asyncio(cluster: Cluster) -> None:
    async def scenario() -> None:
        leader = cluster.leader()
        async with aio.Store(addresses(cluster, leader.id)) as store:
            sessions = [store.session() for _ in range(4)]

            async def count(session: aio.Session) -> None:
                for _ in range(10):
                    await session.run(("INCR", "n"))

            counting = asyncio.gather(*(count(session) for session in sessions))
            await asyncio.sleep(0.02)
            leader.kill()
            await counting
            assert await store.call("GET", "n") == b"40"
            tokens = []

            async def work() -> None:
                for _ in range(2):
                    async with store.lock("job", ttl_s=20) as lock:
                        lock.check()
                        tokens.append(lock.token)

            await asyncio.gather(work(), work())
            assert len(tokens) == 4
            assert tokens == sorted(set(tokens))
            async with store.election("leader", "me"):
                assert await store.leader("leader") == "me"
            with pytest.raises(Rejected):
                await store.call("INCR", "leader", "too", "many")

    asyncio.run(scenario())


def test_what_is_cancelled_leaves_no_answer_behind_for_the_next_request() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()
        connections = 0
        serving: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            mine = connections
            serving.append(asyncio.current_task())
            while data := await reader.read(1_000):
                if b"SLOW" in data:
                    asked.set()
                elif b"FAST" in data:
                    writer.write(b":%d\r\n" % mine)
                else:  # whatever redis-py says first
                    writer.write(b"+OK\r\n" * data.count(b"*"))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with aio.Store(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
            slow = asyncio.ensure_future(store.call("SLOW"))
            await asked.wait()
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert await store.call("FAST") == 2, "on a new connection"
        server.close()
        await asyncio.gather(*serving)

    asyncio.run(scenario())


# Leases and watches.


def test_keys_live_as_long_as_their_lease_is_open(cluster: Cluster) -> None:
    with Store(addresses(cluster)) as store:
        with store.lease(ttl_s=4) as lease:
            for number in range(3):
                store.call("SET", f"service/{number}", "up", "LEASE", lease.id)
            first_due = store.call("PEXPIRETIME", "service/0")
            wait_until(
                lambda: store.call("PEXPIRETIME", "service/0") > first_due, 10, "not renewed"
            )
            assert lease.is_held
        assert store.call("EXISTS", "service/0", "service/1", "service/2") == 0
        with store.lease(ttl_s=20) as lease:
            store.call("TRI.LEASE", "REVOKE", lease.id, is_idempotent=True)
            with pytest.raises(Rejected, match="NOLEASE"):
                store.call("SET", "k", "v", "LEASE", lease.id)


def test_a_watch_tells_every_change_once_while_its_node_is_killed(cluster: Cluster) -> None:
    leader = cluster.leader()
    home = cluster.others(leader)[0]  # its clients' writes go on
    told: list[Event] = []
    with Store(addresses(cluster, leader.id)) as store:
        begin = store.call("TRI.PREFIX", "user:")[0]
        with Store(addresses(cluster, home.id)) as at_home:
            watch = at_home.watch(prefix="user:", from_revision=begin + 1)
        listening = threading.Thread(target=lambda: [told.append(each) for each in watch])
        listening.start()
        for number in range(60):
            if number == 20:
                wait_until(lambda: len(told) >= 10, 20, lambda: str(told))
                home.kill()
            store.call("SET", f"user:{number % 7}", number, is_idempotent=True)
            store.call("SET", "other", number, is_idempotent=True)
        wait_until(lambda: len(told) >= 60, 20, lambda: str(told))
        watch.close()
        listening.join(10)
    assert not listening.is_alive()
    assert [(each.key, each.value) for each in told] == [
        (b"user:%d" % (number % 7), b"%d" % number) for number in range(60)
    ]
    revisions = [each.revision for each in told]
    assert revisions == sorted(revisions)
    assert {each.operation for each in told} == {"set"}
    assert watch.next_revision is not None
    assert watch.next_revision > revisions[-1]


def test_a_watch_ends_when_it_is_closed_at_whatever_moment(cluster: Cluster) -> None:
    with Store(addresses(cluster)) as store:
        for number in range(40):
            watch = store.watch(prefix="")
            listening = threading.Thread(target=lambda watch=watch: list(watch))
            listening.start()
            threading.Event().wait(number / 5_000)  # from before it is connected to well after
            watch.close()
            listening.join(10)
            assert not listening.is_alive(), number


def test_leases_and_watches_with_asyncio(cluster: Cluster) -> None:
    async def scenario() -> None:
        async with aio.Store(addresses(cluster)) as store:
            async with store.lease(ttl_s=20) as lease:
                await store.call("SET", "k", "1", "LEASE", lease.id)
                revision = (await store.call("TRI.GET", "k"))[2]
            watch = store.watch(key="k", from_revision=revision, previous=True)
            found = []
            async for event in watch:
                found.append(event)
                if len(found) == 2:
                    break
            await watch.close()
            assert [(each.key, each.value, each.previous) for each in found] == [
                (b"k", b"1", None),
                (b"k", None, b"1"),
            ]

    asyncio.run(scenario())
