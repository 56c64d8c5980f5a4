"""Leases and watches of node.client: kept, given back; changes in order, resumed elsewhere.

Goal: keys under a lease live as long as it is open; a watch misses nothing and tells nothing twice
while the node that it is at home on is killed.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from node.client import Event, Store, aio
from node.errors import Rejected
from tests.cluster.test_store import addresses
from tests.support.cluster import Cluster
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster


def test_keys_live_as_long_as_their_lease_is_open(cluster: Cluster) -> None:
    with Store(addresses(cluster)) as store:
        with store.lease(ttl_s=1.5) as lease:
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


def test_the_same_with_asyncio(cluster: Cluster) -> None:
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
