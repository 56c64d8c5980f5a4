"""node.client: which failure means what, against a server that fails on purpose."""

from __future__ import annotations

import hashlib
import socket

import pytest

from node.client import Client, NodeStatus, can_listen, find_leader, statuses
from node.config import Address
from node.errors import OutcomeUnknown, Rejected, Unavailable
from tests.support.ports import free_base_port
from tests.support.scripted_server import ScriptedServer

UNKNOWN = b"-UNKNOWN write may or may not have been applied\r\n"
DOWN = b"-CLUSTERDOWN no leader\r\n"


def nobody() -> Address:
    return Address("127.0.0.1", free_base_port())


def test_a_node_that_is_not_there_is_unavailable_and_named() -> None:
    address = nobody()
    with pytest.raises(Unavailable, match=f"{address}: .*refused"):
        Client.connect([address])


def test_the_first_address_that_answers_is_taken() -> None:
    with ScriptedServer({b"GET": b"$1\r\nv\r\n"}) as server:
        with Client.connect([nobody(), server.address]) as client:
            assert client.read("GET", b"k") == b"v"
            assert client.address == server.address


def test_bytes_arrive_as_they_are() -> None:
    with ScriptedServer({b"GET": b"$4\r\n\x00\xff\r\n\r\n"}) as server:
        with Client.connect([server.address]) as client:
            assert client.read("GET", b"\xfe\r\n\x00") == b"\x00\xff\r\n"
    assert server.seen[-1] == [b"GET", b"\xfe\r\n\x00"]


@pytest.mark.parametrize(
    ("reply", "family"),
    [
        pytest.param(DOWN, Unavailable, id="no leader"),
        pytest.param(b"-BUSY too many writes wait\r\n", Unavailable, id="busy"),
        pytest.param(b"-LOADING the node is starting\r\n", Unavailable, id="loading"),
        pytest.param(b"-ERR max number of clients reached\r\n", Unavailable, id="full"),
        pytest.param(UNKNOWN, OutcomeUnknown, id="unknown"),
        pytest.param(None, OutcomeUnknown, id="the connection broke"),
        pytest.param(b"-ERR syntax error\r\n", Rejected, id="refused"),
        pytest.param(b"-WRONGTYPE not a string\r\n", Rejected, id="wrong type"),
        pytest.param(b"-NOAUTH Authentication required.\r\n", Rejected, id="no password"),
    ],
)
def test_a_write_fails_in_the_family_that_says_what_to_do(
    reply: bytes | None, family: type[Exception]
) -> None:
    with ScriptedServer({b"SET": reply}) as server, Client.connect([server.address]) as client:
        with pytest.raises(Exception) as caught:
            client.write("SET", b"k", b"v")
        assert isinstance(caught.value, family)


def test_a_write_that_is_not_answered_in_time_is_of_unknown_outcome() -> None:
    with ScriptedServer({b"SET": b""}) as server:
        with Client.connect([server.address], timeout_s=0.2) as client:
            with pytest.raises(OutcomeUnknown, match="no answer in time"):
                client.write("SET", b"k", b"v")


def test_a_read_that_is_not_answered_is_only_unavailable() -> None:
    with ScriptedServer({b"GET": None}) as server, Client.connect([server.address]) as client:
        with pytest.raises(Unavailable, match="the connection broke"):
            client.read("GET", b"k")


def test_a_redirect_is_followed_to_the_leader() -> None:
    with ScriptedServer({b"SET": b"+OK\r\n"}) as leader:
        moved = f"-MOVED 1234 {leader.address}\r\n".encode()
        with ScriptedServer({b"SET": moved}) as follower:
            with Client.connect([follower.address]) as client:
                assert client.write("SET", b"k", b"v") == b"OK"
                assert client.address == leader.address


def test_redirects_in_a_circle_end_as_unavailable() -> None:
    replies: dict[bytes, bytes | None] = {}
    with ScriptedServer(replies) as server:
        replies[b"SET"] = f"-MOVED 1 {server.address}\r\n".encode()
        with Client.connect([server.address]) as client:
            with pytest.raises(Unavailable, match="from node to node"):
                client.write("SET", b"k", b"v")


def test_the_password_is_sent_and_a_wrong_one_is_refused() -> None:
    with ScriptedServer({}) as server:
        Client.connect([server.address], "s3cret").close()
        assert [b"AUTH", b"s3cret"] in server.seen
    with ScriptedServer({b"AUTH": b"-WRONGPASS invalid password\r\n"}) as server:
        with pytest.raises(Rejected, match="invalid password"):
            Client.connect([server.address], "wrong")


def test_can_listen_tells_a_free_port_from_one_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not can_listen(Address(*server.getsockname()))
    assert can_listen(nobody())


def test_a_member_that_is_down_is_listed_by_its_id() -> None:
    dead = nobody()
    with ScriptedServer({}) as server:
        # What CLUSTER NODES shows of the ids.
        own, other = (hashlib.sha1(name).hexdigest() for name in (b"n1", b"n2"))
        nodes = (
            f"{own} {server.address}@1 myself,master - 0 0 1 connected 0-16383\n"
            f"{other} {dead}@2 slave {own} 0 0 1 disconnected\n"
        ).encode()
        status = b'{"id": "n1", "role": "leader", "term": 3, "alive": true}'
        server.replies = {
            b"TRI.STATUS": b"$%d\r\n%s\r\n" % (len(status), status),
            b"CLUSTER": b"$%d\r\n%s\r\n" % (len(nodes), nodes),
        }
        found = statuses([server.address])
    assert [(status.id, status.alive) for status in found] == [("n1", True), ("n2", False)]
    assert "refused" in found[1].problem
    assert find_leader(found) is found[0]


def test_the_leader_of_the_highest_term_is_the_leader() -> None:
    old = NodeStatus(Address("h", 1), {"id": "n1", "role": "leader", "term": 3, "alive": True})
    new = NodeStatus(Address("h", 2), {"id": "n2", "role": "leader", "term": 4, "alive": True})
    assert find_leader([old, new]) is new
    assert find_leader([]) is None


def test_no_node_at_all_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="refused"):
        statuses([nobody()])
