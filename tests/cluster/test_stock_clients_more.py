"""Stock clients, further along: interactive redis-cli, transactions, locks, messages, kills.

redis-cli on a terminal    help, MULTI with its prompt, -c, --bigkeys, --memkeys, SUBSCRIBE
redis-benchmark            every -t test that strings allow
redis-py                   WATCH races over all nodes, locks, pub/sub and keyspace notifications
RedisCluster               under load through two leader kills: no exception reaches the caller
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis
from redis.cache import CacheConfig
from redis.cluster import ClusterNode
from redis.connection import CacheProxyConnection

from tests.support.cluster import Cluster, NodeProcess

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]

needs_redis_tools = pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None,
    reason="redis-cli and redis-benchmark are not installed (Debian: redis-tools)",
)


# redis-cli, as a person uses it.


class Terminal:
    """redis-cli on a pseudo-terminal."""

    def __init__(self, node: NodeProcess, *words: str) -> None:
        self._end, other = pty.openpty()
        self._shown = ""
        self.process = subprocess.Popen(
            ["redis-cli", "-p", str(node.port), *words],
            stdin=other,
            stdout=other,
            stderr=other,
            env=os.environ | {"TERM": "dumb", "HOME": "/nonexistent"},
            start_new_session=True,
        )
        os.close(other)

    def until(self, pattern: str, timeout_s: float = 15.0) -> str:
        """What it shows next, up to what fits."""
        deadline_s = time.monotonic() + timeout_s
        while (match := re.search(pattern, self._shown)) is None:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"no {pattern!r} in {self._shown!r}"
            if select.select([self._end], [], [], left_s)[0]:
                self._shown += os.read(self._end, 65_536).decode("utf-8", "replace")
                self._shown = re.sub(r"\x1b\[[0-9;]*m", "", self._shown)  # Colours.
        shown, self._shown = self._shown[: match.end()], self._shown[match.end() :]
        return shown

    def type(self, line: str, pattern: str) -> str:
        """Type a line; what it shows, up to what fits."""
        os.write(self._end, line.encode() + b"\n")
        return self.until(pattern)

    def close(self) -> None:
        os.close(self._end)
        self.process.kill()
        self.process.wait(10)


@contextmanager
def terminal(node: NodeProcess, *words: str) -> Iterator[Terminal]:
    shell = Terminal(node, *words)
    try:
        shell.until("> ")
        yield shell
    finally:
        shell.close()


@needs_redis_tools
@pytest.mark.parametrize("words", [(), ("-3",), ("-c",)])
def test_redis_cli_on_a_terminal(cluster: Cluster, words: tuple[str, ...]) -> None:
    for node in cluster:
        with terminal(node, *words) as shell:
            shown = shell.type("help set", r"group: string")
            assert "SET key value [NX|XX|IFEQ value|IFNE value|IFREV revision] [GET]" in shown
            assert "Sets the value of a key" in shown
            shell.until("> ")
            assert "OK" in shell.type("set a 1", r"OK\r?\n.*> ")
            shell.type("multi", r"OK\r?\n.*\(TX\)> ")
            shell.type("incr a", r"QUEUED\r?\n.*\(TX\)> ")
            shell.type("get a", r"QUEUED\r?\n.*\(TX\)> ")
            shown = shell.type("exec", r'1\) \(integer\) 2\r?\n2\) "2"\r?\n.*> ')
            assert "(TX)" not in shown.rpartition("\n")[2]
            shell.type("nope", r"\(error\) ERR unknown command 'nope'")
            shell.until("> ")
            os.write(shell._end, b"quit\n")
            shell.process.wait(10)


@needs_redis_tools
def test_redis_cli_hears_messages(cluster: Cluster) -> None:
    first, second, *_ = cluster
    with terminal(first) as shell:
        shell.type("subscribe news", r'"subscribe"\r?\n2\) "news"\r?\n3\) \(integer\) 1')
        with second.connect() as client:
            client.publish("news", "hello")
        shell.until(r'"message"\r?\n2\) "news"\r?\n3\) "hello"')


@needs_redis_tools
def test_redis_cli_walks_over_the_keys(cluster: Cluster) -> None:
    client = cluster.client("n1")
    client.mset({f"key{number:04}": "x" * number for number in range(1, 501)})
    for node in cluster:
        for words in (("--bigkeys",), ("--memkeys",), ("--scan", "--pattern", "key00*")):
            done = subprocess.run(
                ["redis-cli", "-p", str(node.port), *words],
                capture_output=True,
                text=True,
                timeout=50,
                check=True,
            )
            if words == ("--bigkeys",):
                assert re.search(r'Biggest string found .*"key0500".* has 500 bytes', done.stdout)
                assert "Sampled 500 keys" in done.stdout
            elif words == ("--memkeys",):
                assert "Biggest string found" in done.stdout
            else:
                assert len(done.stdout.split()) == 99


@needs_redis_tools
def test_redis_benchmark_runs_every_test_that_strings_allow(
    cluster: Cluster, figures: Figures
) -> None:
    tests = "ping_inline,ping_mbulk,set,get,incr,mset"
    for words in ((), ("-P", "8"), ("-3",), ("-r", "1000")):
        done = subprocess.run(
            [
                "redis-benchmark",
                "-p",
                str(cluster.leader().port),
                "-t",
                tests,
                "-n",
                "1000",
                "-c",
                "10",
                "-q",
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        assert "WARNING" not in done.stdout + done.stderr
        assert "rror" not in done.stdout
        assert done.stdout.count("requests per second") == 6
    figures(f"{tests}: no error, no warning")


# Transactions and locks, over all nodes at once.


@pytest.mark.parametrize("protocol", [2, 3])
def test_watched_counters_lose_no_increment(cluster: Cluster, protocol: int) -> None:
    """The textbook's optimistic increment, from nine clients on three nodes."""
    done: list[int] = []
    problems: list[str] = []

    def work(node: NodeProcess) -> None:
        with node.connect(protocol) as client:
            count = 0
            while count < 15:
                with client.pipeline() as pipe:
                    try:
                        pipe.watch("counter")
                        value = int(pipe.get("counter") or 0)
                        pipe.multi()
                        pipe.set("counter", value + 1)
                        pipe.get("counter")
                        result = pipe.execute()
                    except redis.WatchError:
                        continue
                    if result != [True, b"%d" % (value + 1)]:
                        problems.append(f"{result} after {value}")
                    count += 1
            done.append(count)

    threads = [threading.Thread(target=work, args=(node,)) for node in cluster for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert problems == []
    assert sum(done) == 9 * 15
    for node in cluster:
        assert cluster.client(node.id).get("counter") == b"135"


def test_a_lock_is_held_by_one_through_a_leader_kill(cluster: Cluster) -> None:
    """redis-py's own Lock, in RedisCluster: taken on one node, released through another."""
    holders: list[str] = []
    problems: list[str] = []

    def work(name: str) -> None:
        client = redis.RedisCluster(startup_nodes=startup(cluster))
        for _ in range(5):
            # A release whose answer died with its node is sent again by the client, and then told
            # that it does not own the lock any more. It had released it.
            with (
                contextlib.suppress(redis.exceptions.LockNotOwnedError),
                client.lock("lock", timeout=20, blocking_timeout=45),
            ):
                holders.append(name)
                if len(set(holders[-1:])) != 1 or len(holders) % 2 == 0:
                    problems.append("two at once")
                time.sleep(0.01)
                holders.append(name)
                if holders[-2] != name:
                    problems.append("another was in it")
        client.close()

    threads = [threading.Thread(target=work, args=(f"c{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    leader = cluster.leader()
    leader.kill()
    for thread in threads:
        thread.join(55)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []
    assert len(holders) == 2 * 3 * 5


# Messages.


@contextmanager
def collected(client: redis.Redis, *patterns: str) -> Iterator[list[Any]]:
    """The list that the messages of a subscription go to."""
    messages: list[Any] = []

    def take(message: dict[str, Any]) -> None:
        messages.append((message["channel"], message["data"]))

    with client:
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.psubscribe(**dict.fromkeys(patterns, take))
        thread = subscription.run_in_thread(sleep_time=0.05, daemon=True)
        wait_for(lambda: client.pubsub_numpat() > 0)
        try:
            yield messages
        finally:
            thread.stop()
            thread.join(10)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_message_reaches_the_subscribers_of_every_node_once_and_in_order(
    cluster: Cluster, protocol: int
) -> None:
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(collected(node.connect(protocol), "ch*")) for node in cluster
        ]
        for number in range(60):
            cluster.client(f"n{number % 3 + 1}").publish("ch1", number)
        wanted = [(b"ch1", b"%d" % number) for number in range(60)]
        for messages in listeners:
            wait_for(lambda messages=messages: len(messages) >= 60)  # type: ignore[misc]
            assert messages == wanted


def test_a_client_side_cache_is_never_behind_what_its_client_wrote_elsewhere(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py's own cache, each on a node; a write through any node empties them all.

    It asks for a server that calls itself 7.4; the dialect here is that of 7.0.
    """
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    with ExitStack() as stack:
        caches = [
            stack.enter_context(redis.Redis(port=node.port, protocol=3, cache_config=CacheConfig()))
            for node in cluster
        ]
        for number in range(20):
            cluster.client(f"n{number % 3 + 1}").set("cached", number)
            for client in caches:
                wanted = b"%d" % number
                wait_for(lambda client=client, wanted=wanted: client.get("cached") == wanted)  # type: ignore[misc]
        for client in caches:
            assert client.get_cache().size > 0
        hits = caches[0].execute_command("INFO", "commandstats")
        for _ in range(50):
            assert caches[0].get("cached") == b"19"
        assert caches[0].execute_command("INFO", "commandstats") == hits, "it asked the node"


def test_changes_of_keys_are_told_on_every_node(cluster: Cluster) -> None:
    for node in cluster:
        cluster.client(node.id).config_set("notify-keyspace-events", "KEA")
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(collected(node.connect(), "__keyevent@0__:*")) for node in cluster
        ]
        writer = cluster.client("n2")
        writer.set("a", 1, px=200)
        writer.rename("a", "b")
        writer.incr("n")
        writer.delete("n")
        wanted = [
            (f"__keyevent@0__:{event}".encode(), key)
            for event, key in (
                ("set", b"a"), ("expire", b"a"), ("rename_from", b"a"), ("rename_to", b"b"),
                ("incrby", b"n"), ("del", b"n"), ("expired", b"b"),
            )
        ]  # fmt: skip
        for messages in listeners:
            wait_for(lambda messages=messages: len(messages) >= len(wanted))  # type: ignore[misc]
            assert messages == wanted


# A leader dies under load.


def startup(cluster: Cluster) -> list[ClusterNode]:
    return [ClusterNode("127.0.0.1", node.port) for node in cluster]


def test_no_exception_reaches_users_of_redis_cluster_when_leaders_are_killed(
    cluster: Cluster, figures: Figures
) -> None:
    """Stock settings, three clients that never pause, two leaders killed under them."""
    done = threading.Event()
    problems: list[str] = []
    counts = [0, 0, 0]

    def work(number: int) -> None:
        client = redis.RedisCluster(startup_nodes=startup(cluster), protocol=2 + number % 2)
        try:
            while not done.is_set():
                turn = counts[number]
                client.set(f"k{number}", turn)
                if client.get(f"k{number}") != b"%d" % turn:
                    problems.append(f"client {number}, turn {turn}")
                client.mset({f"{{{number}}}a": turn, f"{{{number}}}b": turn})
                counts[number] += 1
        except Exception as error:  # noqa: BLE001 - that there is none is what is tested
            problems.append(repr(error))
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = list(counts)
        wait_for(lambda before=before: all(now > then + 20 for now, then in zip(counts, before)))  # type: ignore[misc]  # noqa: B905
        leader = cluster.leader()
        leader.kill()
        before = list(counts)
        wait_for(lambda before=before: all(now > then + 20 for now, then in zip(counts, before)))  # type: ignore[misc]  # noqa: B905
        leader.restart()
    done.set()
    for thread in threads:
        thread.join(20)
    assert problems == []
    figures(f"2 leaders killed, {sum(counts)} turns of set, get, mset: no exception")


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
