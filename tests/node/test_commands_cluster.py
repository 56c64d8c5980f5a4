"""CLUSTER: what cluster clients are told, and above all whom they are not sent to.

Method: the fake service says who leads and who is alive; the replies are read as a client would.
"""

from __future__ import annotations

import hashlib
from typing import Any

import hiredis
import pytest

from tests.support.fake_service import Client, FakeService


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(service)


def ask(client: Client, *arguments: str) -> Any:
    reader = hiredis.Reader()
    reader.feed(client.run(*arguments))
    return reader.gets()


def ports(client: Client) -> list[int]:
    """Of CLUSTER SLOTS: the primary's, then the replicas'."""
    ((first, last, *nodes),) = ask(client, "CLUSTER", "SLOTS")
    assert (first, last) == (0, 16383)
    return [node[1] for node in nodes]


def primaries(client: Client) -> list[bytes]:
    """Of CLUSTER NODES: the addresses of the masters."""
    lines = ask(client, "CLUSTER", "NODES").splitlines()
    return [line.split()[1] for line in lines if b"master" in line.split()[2].split(b",")]


@pytest.mark.parametrize(
    ("leader_id", "dead", "want"),
    [
        pytest.param("n1", set(), [7001, 7002, 7003], id="this node leads"),
        pytest.param("n3", set(), [7003, 7001, 7002], id="another leads"),
        pytest.param(None, set(), [7001, 7002, 7003], id="nobody leads: this node names itself"),
        pytest.param("n3", {"n3"}, [7001, 7002], id="the leader is dead: this node names itself"),
        pytest.param("n3", {"n2"}, [7003, 7001], id="a dead replica is left out"),
        pytest.param(None, {"n2", "n3"}, [7001], id="alone"),
    ],
)
def test_no_reply_names_a_dead_or_unknown_leader(
    client: Client, service: FakeService, leader_id: str | None, dead: set[str], want: list[int]
) -> None:
    service.leader_id, service.is_leader, service.dead = leader_id, leader_id == "n1", dead
    assert ports(client) == want
    assert primaries(client) == [b"127.0.0.1:%d@%d" % (want[0], want[0] + 1000)]
    ((_, _, _, shard_nodes),) = ask(client, "CLUSTER", "SHARDS")
    described = [dict(zip(node[::2], node[1::2], strict=True)) for node in shard_nodes]
    masters = [node for node in described if node[b"role"] == b"master"]
    assert [node[b"port"] for node in masters] == [want[0]]
    assert masters[0][b"health"] == b"online"
    assert sum(node[b"health"] == b"fail" for node in described) == len(dead)


def test_every_node_says_the_same_ids(client: Client, service: FakeService) -> None:
    ids = [hashlib.sha1(name).hexdigest().encode() for name in (b"n1", b"n2", b"n3")]
    assert ask(client, "CLUSTER", "MYID") == ids[0]
    ((_, _, *nodes),) = ask(client, "CLUSTER", "SLOTS")
    assert [node[2] for node in nodes] == ids
    shard = ask(client, "CLUSTER", "MYSHARDID")
    service.node_id = "n2"
    assert ask(client, "CLUSTER", "MYID") == ids[1]
    assert ask(client, "CLUSTER", "MYSHARDID") == shard
    assert len(shard) == 40


def test_nodes_is_a_line_for_each_member(client: Client, service: FakeService) -> None:
    service.leader_id, service.is_leader, service.dead = "n2", False, {"n3"}
    one, two, three = (hashlib.sha1(name).hexdigest() for name in (b"n1", b"n2", b"n3"))
    assert ask(client, "CLUSTER", "NODES").decode() == (
        f"{two} 127.0.0.1:7002@8002 master - 0 0 7 connected 0-16383\n"
        f"{one} 127.0.0.1:7001@8001 myself,slave {two} 0 0 7 connected\n"
        f"{three} 127.0.0.1:7003@8003 slave,fail {two} 0 0 7 disconnected\n"
    )


def test_the_state_is_ok_while_a_leader_is_heard(client: Client, service: FakeService) -> None:
    assert b"cluster_state:ok" in ask(client, "CLUSTER", "INFO")
    assert b"cluster_known_nodes:3" in ask(client, "CLUSTER", "INFO")
    assert b"cluster_current_epoch:7" in ask(client, "CLUSTER", "INFO")
    service.leader_id = None
    assert b"cluster_state:fail" in ask(client, "CLUSTER", "INFO")
    service.leader_id, service.dead = "n2", {"n2"}
    assert b"cluster_state:fail" in ask(client, "CLUSTER", "INFO")


def test_keyslot_and_asking(client: Client) -> None:
    assert ask(client, "CLUSTER", "KEYSLOT", "foo") == 12182
    assert ask(client, "ASKING") == b"OK"
    reply = client.run("CLUSTER", "FAILOVER")
    assert reply == b"-ERR unknown subcommand 'FAILOVER'. Try CLUSTER HELP.\r\n"
