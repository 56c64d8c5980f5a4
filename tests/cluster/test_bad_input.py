"""Whatever is sent to the two ports of a node that runs: it lives on, and so do its clients.

    junk ------> client port of n1 ------> one error reply or a closed connection
    junk ------> peer port of n1 --------> a closed connection, one line in the log
    writers ---> n1, n2, n3 all the while: no error, nothing lost

What each line of junk is answered is Redis's wording; the exhaustive tests of the parser and of the
peer protocol are tests/node/test_resp.py and tests/node/test_wire.py. Here it is sockets.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
import redis

from node import wire
from node.handshake import OURS
from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]

MIB = 1024 * 1024
GARBAGE = random.Random(3).randbytes(200_000)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + GARBAGE[:192]


@contextmanager
def _beside_writers(cluster: Cluster) -> Iterator[Load]:
    """Three writers work through it all; afterwards nothing is lost and nobody was restarted."""
    lives = [node.lives for node in cluster]
    with Load(cluster, writers=3) as load:
        load.wait_for(5)
        yield load
        load.wait_for(20)
    assert load.errors == []
    assert load.missing(cluster.client("n1")) == []
    assert [node.lives for node in cluster] == lives
    assert all(node.process and node.process.poll() is None for node in cluster)
    assert not any(node.find("Traceback") for node in cluster)
    cluster.equal_digest()


def _talk(port: int, data: bytes, timeout_s: float = 5.0) -> tuple[bytes, bool]:
    """Send, then read until the node closes or says nothing more: (what it said, closed)."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(0.3)
            while part := connection.recv(65_536):
                said += part
        except TimeoutError:
            return said, False
        except ConnectionError:
            return said, True
    return said, True


def _bulk(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


BIG = b"v" * (2 * MIB)
CLIENT_JUNK = {
    # name: (what is sent, how the reply begins, whether the connection is closed)
    "a multibulk count that is too large": (
        b"*1000000000\r\n",
        b"-ERR Protocol error: invalid multibulk length\r\n",
        True,
    ),
    "a bulk that says it is 600 MB": (
        b"*2\r\n$3\r\nGET\r\n$600000000\r\n",
        b"-ERR Protocol error: invalid bulk length\r\n",
        True,
    ),
    "a negative bulk length": (
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"-ERR Protocol error: invalid bulk length\r\n",
        True,
    ),
    "a number where a bulk should be": (
        b"*2\r\n:1\r\n",
        b"-ERR Protocol error: expected '$', got ':'\r\n",
        True,
    ),
    "a line without end": (
        b"x" * 70_000,
        b"-ERR Protocol error: too big inline request\r\n",
        True,
    ),
    "unbalanced quotes": (
        b'SET "a b\r\n',
        b"-ERR Protocol error: unbalanced quotes in request\r\n",
        True,
    ),
    "good commands before the junk are answered": (
        b"PING\r\n" + _bulk(b"SET", b"good", b"1") + b"*x\r\n",
        b"+PONG\r\n+OK\r\n-ERR Protocol error: invalid multibulk length\r\n",
        True,
    ),
    "an unknown word": (b"gibberish there\r\nPING\r\n", b"-ERR unknown command", False),
    "binary words": (_bulk(GARBAGE[:100], GARBAGE[100:200]), b"-ERR unknown command", False),
    "a browser": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n", b"", True),
    "a TLS hello": (TLS_HELLO + b"\r\n" * 3, b"-ERR", None),
    "random bytes": (GARBAGE, b"-ERR", None),
    "an empty array and empty lines": (b"*0\r\n\r\n\r\n*-1\r\nPING\r\n", b"+PONG\r\n", False),
    "half a command": (b"*3\r\n$3\r\nSET\r\n$4\r\nha", b"", False),
    "a value over the limit": (_bulk(b"SET", b"big", BIG) + b"PING\r\n", b"-ERR", False),
    "a key over the limit": (_bulk(b"SET", BIG[:70_000], b"1") + b"PING\r\n", b"-ERR", False),
    "a command over the limit of an entry": (
        _bulk(b"MSET", *[b"huge", BIG[:MIB]] * 6) + b"PING\r\n",
        b"-ERR",
        False,
    ),
    "too few words": (b"SET k\r\n", b"-ERR wrong number of arguments", False),
    "a TTL that no clock can hold": (
        _bulk(b"SET", b"k", b"v", b"PX", b"9223372036854775807"),
        b"-ERR invalid expire time in 'set' command\r\n",
        False,
    ),
    "a counter that would overflow": (
        _bulk(b"SET", b"n", b"9223372036854775807") + _bulk(b"INCR", b"n"),
        b"+OK\r\n-ERR increment or decrement would overflow\r\n",
        False,
    ),
}


def test_junk_on_the_client_port_harms_nobody_else(cluster: Cluster) -> None:
    port = cluster["n1"].port
    problems: list[tuple[object, ...]] = []
    with _beside_writers(cluster):
        for name, (sent, reply, closes) in CLIENT_JUNK.items():
            said, closed = _talk(port, sent)
            if not said.startswith(reply) or closes not in (None, closed):
                problems.append((name, said[:200], closed))
            elif sent.endswith(b"PING\r\n") and not said.endswith(b"+PONG\r\n"):
                problems.append((name, said[:200], "not answered after it"))
    assert problems == []
    client = cluster.client("n2")
    assert client.mget("evil", "big", "huge", "half") == [None] * 4
    assert client.get("good") == b"1"


def test_an_over_long_value_is_refused_and_the_next_command_is_served(cluster: Cluster) -> None:
    client = cluster.client("n3")
    for size in (MIB + 1, 5 * MIB):
        with pytest.raises(redis.ResponseError, match="bytes"):
            client.set("k", b"v" * size)
        assert client.set("k", "small") is True
    assert client.set("k", b"v" * MIB) is True
    assert [cluster.client(node.id).get("k") for node in cluster] == [b"v" * MIB] * 3


def test_half_commands_on_many_connections_hold_nothing_up(cluster: Cluster) -> None:
    node = cluster["n2"]
    with _beside_writers(cluster):
        half = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(300)]
        try:
            for number, connection in enumerate(half):
                connection.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$9\r\n"[: 5 + number % 25])
            with node.connect() as client:
                assert client.set("k", "v") is True
        finally:
            for connection in half:
                connection.close()
    assert cluster.client("n1").get("half") is None


def test_a_client_that_does_not_read_costs_little_memory(
    cluster: Cluster, figures: Figures
) -> None:
    node = cluster["n1"]
    node_client = cluster.client("n1")
    node_client.set("large", b"v" * MIB)
    before = _memory_bytes(node)
    with _beside_writers(cluster):
        with socket.create_connection(("127.0.0.1", node.port)) as greedy:
            greedy.sendall(_bulk(b"GET", b"large") * 2_000)  # 2 GB of replies.
            time.sleep(1.0)
            after = _memory_bytes(node)
            assert node_client.get("large") == b"v" * MIB
    figures(f"2 GB asked for and not read: {before / MIB:.0f} -> {after / MIB:.0f} MiB")
    assert after - before < 150 * MIB


def _memory_bytes(node: NodeProcess) -> int:
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_connections_over_the_limit_are_told_so_and_the_others_work(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(settings=["client.max_clients=20"])
    node = cluster["n1"]
    kept = node.connect()
    assert kept.ping() is True
    many = [socket.create_connection(("127.0.0.1", node.port), timeout=5) for _ in range(60)]
    refused = 0
    for connection in many:
        connection.settimeout(1.0)
        try:
            connection.sendall(b"PING\r\n")
            said = connection.recv(1000)
        except ConnectionError:
            said = b""
        refused += said != b"+PONG\r\n"
        assert said in (b"+PONG\r\n", b"", b"-ERR max number of clients reached\r\n"), said
    assert refused == 60 - 19
    assert kept.set("k", "v") is True
    for connection in many:
        connection.close()
    wait_until(lambda: _serves(node), 5, "it takes no clients any more")
    kept.close()
    # Nobody counts those of another node.
    assert cluster.client("n2").get("k") == b"v"


def _serves(node: NodeProcess) -> bool:
    with node.connect() as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def _hello(version: int, sender: str, to: str) -> bytes:
    formats = (OURS.format, OURS.format_oldest)
    return wire.encode(wire.HELLO, version, sender, to, 1, b"n" * 16, version, *formats)


NESTED = b"\x91" * 5_000
PEER_JUNK = {
    "random bytes": GARBAGE,
    "a frame that says it is 4 GB": b"\xff\xff\xff\xff" + GARBAGE[:1000],
    "a frame that says it is 100 MB": struct.pack(">I", 100 * MIB) + GARBAGE[:1000],
    "a frame over the limit before the handshake": struct.pack(">I", 4096) + GARBAGE[:5000],
    "not msgpack": struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1",
    "an empty frame": struct.pack(">I", 0),
    "arrays in arrays": struct.pack(">I", 2000) + NESTED[:2000],
    "an array that says it has 4 billion elements": struct.pack(">I", 5) + b"\xdd\xff\xff\xff\xff",
    "a map": struct.pack(">I", 3) + msgpack.packb({1: 2}),
    "an object of a type of its own": struct.pack(">I", 7)
    + msgpack.packb([msgpack.ExtType(5, b"abc")]),
    "an unknown message": wire.encode(77, 1),
    "a message before the hello": wire.encode(wire.HIGHER_TERM, 1 << 60),
    "a vote before the hello": wire.encode(wire.VOTE, 1),
    "another wire version": _hello(99, "n1", "n3"),
    "a stranger": _hello(OURS.wire, "n9", "n3"),
    "a hello to somebody else": _hello(OURS.wire, "n1", "n2"),
    "a hello to itself": _hello(OURS.wire, "n3", "n3"),
    "a hello with a number for a name": wire.encode(wire.HELLO, 1, 5, 6, 1, b"n" * 16),
    "a hello with a short nonce": wire.encode(wire.HELLO, 1, "n1", "n3", 1, b"n"),
    "a hello and a wrong proof": _hello(OURS.wire, "n1", "n3") + wire.encode(wire.PROOF, b"x" * 32),
    "a hello, then no proof": _hello(OURS.wire, "n1", "n3") + wire.encode(wire.VOTE, 1),
    "RESP": _bulk(b"SET", b"evil", b"1"),
    "TLS": TLS_HELLO,
}


def test_junk_on_the_peer_port_is_refused_and_harms_nobody(cluster: Cluster) -> None:
    node = cluster["n3"]  # It is called by n1 and n2, so it has something to accept.
    term = max(each["term"] for each in cluster.statuses().values())
    problems = []
    with _beside_writers(cluster):
        for name, sent in PEER_JUNK.items():
            _, closed = _talk(node.peer_port, sent)
            if not closed and name != "random bytes":
                problems.append(name)
        silent = [socket.create_connection(("127.0.0.1", node.peer_port)) for _ in range(100)]
        time.sleep(2.3)
        for connection in silent:  # No handshake in 2 s: closed.
            connection.settimeout(1.0)
            try:
                assert connection.recv(10) == b""
            except ConnectionError:
                pass
            connection.close()
    assert problems == []
    assert node.said("peer connection refused")
    # None of the terms that were claimed: 2**60. (A busy machine may have had an election.)
    assert max(each["term"] for each in cluster.statuses().values()) < term + 50
    assert cluster.client("n1").get("evil") is None


def test_a_peer_without_the_secret_gets_no_word_in(start_cluster: StartCluster) -> None:
    cluster = start_cluster(settings=['peer.secret="sesame"'])
    node = cluster["n3"]
    term = node.status()["term"]
    connection = socket.create_connection(("127.0.0.1", node.peer_port), timeout=5)
    with connection:
        connection.sendall(_hello(OURS.wire, "n1", "n3"))
        reader = wire.FrameReader(MIB)
        heard: list[wire.Message] = []
        while not heard:
            data = connection.recv(65_536)
            assert data, "closed before its own hello"
            heard += [wire.decode(body) for body in reader.feed(data)]
        connection.sendall(wire.encode(wire.PROOF, bytes(32)))
        connection.sendall(wire.encode(wire.HIGHER_TERM, term + 100))
        try:
            assert connection.recv(100) == b""
        except ConnectionError:
            pass
    assert node.said("peer connection refused", "wrong proof")
    assert cluster.client("n3").set("k", "v") is True
    assert node.status()["term"] < term + 50
