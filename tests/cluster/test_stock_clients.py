"""Clients that nobody here wrote, unchanged: redis-cli, redis-benchmark, redis-py in all its forms.

    redis.Redis, redis.asyncio.Redis, RedisCluster (RESP2 and RESP3)     each node
    redis-cli: one command, -3, a script on stdin, --scan, --pipe        each way it talks
    redis-benchmark -t set,get                                           exit code 0, no warning

And what they rely on: a pipeline keeps its order, and whoever asks any node sees a write
that any other node acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable

import pytest
import redis
import redis.asyncio
from redis.cluster import LoadBalancingStrategy

from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]

needs_redis_tools = pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None,
    reason="redis-cli and redis-benchmark are not installed (Debian: redis-tools)",
)


def _run(program: str, node: NodeProcess, *words: str, text: str = "") -> str:
    """What the program prints; it must end with exit code 0 and say nothing on stderr."""
    done = subprocess.run(
        [program, "-p", str(node.port), *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


# redis-py.


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_against_every_node(cluster: Cluster, protocol: int) -> None:
    for node in cluster:
        client = redis.Redis(port=node.port, protocol=protocol, decode_responses=True)
        with client:
            assert client.ping() is True
            assert client.set("k", "v1") is True
            assert client.set("k", "v2", nx=True) is None
            assert client.set("k", "v2", get=True) == "v1"
            assert client.set("lease", "v", px=60_000) is True
            assert 55_000 < client.pttl("lease") <= 60_000
            assert client.persist("lease") is True
            assert client.ttl("lease") == -1
            assert client.expire("lease", 30) is True
            assert client.mset({"a": "1", "b": "2"}) is True
            assert client.mget("a", "b", "none") == ["1", "2", None]
            assert (client.incr("a"), client.decrby("b", 5)) == (2, -3)
            assert client.exists("a", "b", "none") == 2
            assert sorted(client.scan_iter(match="?")) == ["a", "b", "k"]
            assert client.dbsize() == 4
            assert client.info("raft")["raft_id"] == node.id
            assert client.delete("a", "b", "none") == 2
            with pytest.raises(redis.ResponseError, match="not an integer"):
                client.incr("k")
            assert client.flushall() is True
            assert client.dbsize() == 0


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_cluster_works_from_any_node(cluster: Cluster, protocol: int) -> None:
    for node in cluster:
        client = redis.RedisCluster(
            host="127.0.0.1", port=node.port, protocol=protocol, decode_responses=True
        )
        with client:
            assert client.set("k", node.id) is True
            assert client.get("k") == node.id
            assert client.mset({"{t}a": "1", "{t}b": "2"}) is True
            assert client.mget("{t}a", "{t}b") == ["1", "2"]
            assert client.incr("{t}a") == 2
            pipeline = client.pipeline()
            for number in range(50):
                pipeline.set(f"p{number}", number)
            assert pipeline.execute() == [True] * 50
            assert len(list(client.scan_iter(match="p*"))) == 50
            assert client.delete("{t}a", "{t}b", "k") == 3
            leader = cluster.leader()
            primary = client.get_primaries()[0]
            assert (primary.port, len(client.get_replicas())) == (leader.port, 2)


def test_redis_cluster_reads_from_replicas(cluster: Cluster) -> None:
    client = redis.RedisCluster(
        host="127.0.0.1",
        port=cluster.nodes[0].port,
        load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN,
    )
    with client:
        client.set("k", "v")
        for node in cluster:  # READONLY reads are eventual: let every node apply it first.
            assert cluster.client(node.id).get("k") == b"v"
        assert [client.get("k") for _ in range(9)] == [b"v"] * 9


def test_redis_cluster_lives_through_a_killed_leader(cluster: Cluster, figures: Figures) -> None:
    """Stock settings: it notices, asks another node, and goes on; no call fails."""
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    with client:
        for kill in range(2):
            leader = cluster.leader()
            assert client.set(f"before {kill}", "v") is True
            leader.kill()
            for number in range(20):
                assert client.set(f"k{kill}-{number}", number) is True
            leader.restart()
            for number in range(20):
                assert client.get(f"k{kill}-{number}") == b"%d" % number
    figures("2 leaders killed, no call failed")


def test_the_asyncio_client_works(cluster: Cluster) -> None:
    async def work(port: int) -> list[bytes | None]:
        async with redis.asyncio.Redis(port=port) as client:
            await asyncio.gather(*(client.set(f"a{number}", number) for number in range(100)))
            return await asyncio.gather(*(client.get(f"a{number}") for number in range(100)))

    for node in cluster:
        assert asyncio.run(work(node.port)) == [b"%d" % number for number in range(100)]


# Order and visibility.


def test_a_pipeline_keeps_its_order_whatever_is_in_it(cluster: Cluster) -> None:
    rng = random.Random(7)
    for node in cluster:
        for protocol in (2, 3):
            client = cluster.client(node.id, protocol)
            client.flushall()
            model: dict[str, int] = {}
            expected: list[object] = []
            pipeline = client.pipeline(transaction=False)
            for _ in range(400):
                key = f"k{rng.randrange(20)}"
                action = rng.choice(("set", "get", "incr", "delete", "ping", "exists", "setnx"))
                if action == "set":
                    model[key] = rng.randrange(1_000)
                    pipeline.set(key, model[key])
                    expected.append(True)
                elif action == "setnx":
                    pipeline.set(key, 5, nx=True)
                    expected.append(None if key in model else True)
                    model.setdefault(key, 5)
                elif action == "get":
                    pipeline.get(key)
                    expected.append(b"%d" % model[key] if key in model else None)
                elif action == "incr":
                    model[key] = model.get(key, 0) + 1
                    pipeline.incr(key)
                    expected.append(model[key])
                elif action == "delete":
                    pipeline.delete(key)
                    expected.append(1 if model.pop(key, None) is not None else 0)
                elif action == "exists":
                    pipeline.exists(key)
                    expected.append(int(key in model))
                else:
                    pipeline.ping()
                    expected.append(True)
            assert pipeline.execute() == expected


def test_a_write_acknowledged_by_one_node_is_seen_through_every_other(cluster: Cluster) -> None:
    clients = [cluster.client(node.id) for node in cluster]
    for number in range(100):
        clients[number % 3].set("k", number)
        for client in clients:
            assert client.get("k") == b"%d" % number


def test_many_clients_at_once_each_see_their_own_writes(cluster: Cluster) -> None:
    problems: list[str] = []

    def work(node: NodeProcess, number: int) -> None:
        with node.connect(2 + number % 2) as client:
            for turn in range(10):
                value = b"%d of %d" % (turn, number)
                client.set(f"own {number}", value)
                if client.get(f"own {number}") != value:
                    problems.append(f"client {number}, turn {turn}")

    threads = [
        threading.Thread(target=work, args=(cluster.nodes[number % 3], number))
        for number in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []
    assert cluster.client("n1").dbsize() == 60


# redis-cli and redis-benchmark.


@needs_redis_tools
def test_redis_cli_works_in_all_the_ways_it_talks(cluster: Cluster) -> None:
    for node in cluster:
        assert _run("redis-cli", node, "SET", "k", "v 1") == "OK\n"
        assert _run("redis-cli", node, "GET", "k") == "v 1\n"
        assert _run("redis-cli", node, "-3", "GET", "k") == "v 1\n"
        assert _run("redis-cli", node, "-3", "HELLO").splitlines()[0].startswith("server")
        assert _run("redis-cli", node, "-c", "SET", "k2", "v2") == "OK\n"
        script = 'SET "a b" "c d"\nGET "a b"\nINCR n\nDEL n\nTTL k\n'
        assert _run("redis-cli", node, text=script) == "OK\nc d\n1\n1\n-1\n"
        assert sorted(_run("redis-cli", node, "--scan").splitlines()) == ["a b", "k", "k2"]
        assert f"raft_id:{node.id}" in _run("redis-cli", node, "INFO", "raft")
        slots = _run("redis-cli", node, "CLUSTER", "SLOTS")
        assert all(str(other.port) in slots for other in cluster)
        assert _run("redis-cli", node, "FLUSHALL") == "OK\n"


@needs_redis_tools
def test_redis_cli_pipe_loads_a_file_of_commands(cluster: Cluster) -> None:
    commands = "".join(f"SET pipe{number} value{number}\r\n" for number in range(5_000))
    said = _run("redis-cli", cluster.nodes[1], "--pipe", text=commands)
    assert "errors: 0, replies: 5000" in said
    assert cluster.client("n3").dbsize() == 5_000


@needs_redis_tools
@pytest.mark.parametrize("words", [("-c", "20"), ("-c", "20", "-P", "16"), ("-c", "5", "-3")])
def test_redis_benchmark_runs_against_every_node(
    cluster: Cluster, figures: Figures, words: tuple[str, ...]
) -> None:
    for node in cluster:
        said = _run("redis-benchmark", node, "-t", "set,get", "-n", "2000", "-q", *words)
        assert "WARNING" not in said
        assert "rror" not in said
        rates = re.findall(r"(SET|GET): ([0-9.]+) requests per second", said)
        assert [name for name, _ in rates] == ["SET", "GET"], said
        role = "leader" if node is cluster.leader() else "follower"
        shown = ", ".join(f"{name} {float(rate):,.0f}/s" for name, rate in rates)
        figures(f"{' '.join(words)} at the {role}: {shown}")


@needs_redis_tools
def test_redis_benchmark_survives_a_hand_over(cluster: Cluster) -> None:
    """Any error reply would end it."""
    leader = cluster.leader()
    follower, target = cluster.others(leader)
    with Load(cluster, writers=3) as load:
        running = subprocess.Popen(
            ["redis-benchmark", "-p", str(follower.port), "-t", "set", "-n", "4000", "-q"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        load.wait_for(20)
        cluster.client(leader.id).execute_command("TRI.TRANSFER", target.id)
        said, _ = running.communicate(timeout=40)
    assert running.returncode == 0, said
    assert "rror" not in said
    assert load.errors == []
