"""The client port with real sockets: redis-cli, redis-py and misbehaving clients.

Method: node.server in a thread of this process, over the fake service; the clients are the stock
ones, unchanged, and bare sockets for what no stock client does.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from node.config import ClientSection
from node.server import LINGER_S
from tests.support.fake_service import config, wire
from tests.support.live_server import LiveServer, Wire, live_server
from tests.support.ports import free_base_port


@pytest.fixture(scope="module", params=["asyncio", "uvloop", "workers"])
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """Both event loops, as a node runs on uvloop where it is installed; and client.workers."""
    if request.param == "workers":
        with live_server(config(client=ClientSection(workers=2)), event_loop="uvloop") as running:
            yield running
    else:
        with live_server(event_loop=request.param) as running:
            yield running


def test_a_client_that_left_by_a_reset_is_let_go_without_a_word(server: LiveServer) -> None:
    """The node closes a connection whose reset it has not been told of yet."""
    said: list[dict[str, object]] = []
    server.loop.set_exception_handler(lambda _, context: said.append(context))
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(b"PING\r\n")
    assert client.recv(100) == b"+PONG\r\n"

    def reset_and_close() -> None:  # in the loop's thread: it sees nothing in between
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server.server._protocols.copy().pop().end()

    server.call(reset_and_close)
    give_up_s = time.monotonic() + 10
    while server.call(lambda: len(server.server._protocols)) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    server.loop.set_exception_handler(None)
    assert not server.server._protocols
    assert said == []


# Stock clients.


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_unchanged(server: LiveServer, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, client_name="me") as client:
        assert client.ping()
        assert client.set("a", "1", px=60_000)
        assert not client.set("a", "2", nx=True)
        assert client.incr("a") == 2
        assert client.mget("a", "nope") == [b"2", None]
        assert 59_000 < client.pttl("a") <= 60_000
        assert client.persist("a")
        assert client.ttl("a") == -1
        assert client.mset({"b": "x", "c": "y"})
        assert set(client.scan_iter(count=1)) >= {b"a", b"b", b"c"}
        assert client.delete("a", "b", "nope") == 2
        assert client.info("raft")["raft_id"] == "n1"
        assert client.config_get("save") == {"save": ""}
        assert client.client_getname() in ("me", b"me")
        assert client.client_info()["lib-name"] == "redis-py"
        assert client.command_count() > 50
        assert client.dbsize() >= 1
        assert client.flushall()
        with pytest.raises(redis.ResponseError, match="unknown command 'LPUSH'"):
            client.lpush("l", 1)
        pipeline = client.pipeline(transaction=False)
        for number in range(500):
            pipeline.set(f"k{number}", number)
            pipeline.get(f"k{number}")
        assert pipeline.execute() == [
            reply for number in range(500) for reply in (True, str(number).encode())
        ]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_cluster_works_unchanged(protocol: int) -> None:
    base_port = free_base_port(1)
    with live_server(base_port=base_port):
        node = redis.cluster.ClusterNode("127.0.0.1", base_port)
        with redis.RedisCluster(startup_nodes=[node], protocol=protocol) as client:
            assert client.set("a", "1")
            assert client.get("a") == b"1"
            assert client.incr("n") == 1
            assert client.mget_nonatomic("a", "n") == [b"1", b"1"]
            assert client.cluster_info()["cluster_state"] == "ok"


def cli(port: int, *words: str, stdin: str | None = None) -> str:
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("redis-cli is not installed")
    done = subprocess.run(
        [program, "-p", str(port), *words],
        input=stdin, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.stdout


def test_redis_cli_works_unchanged(server: LiveServer) -> None:
    assert cli(server.port, "SET", "cli", "one two") == "OK\n"
    assert cli(server.port, "-3", "GET", "cli") == "one two\n"
    assert cli(server.port, "TTL", "cli") == "-1\n"
    assert "raft_role:leader" in cli(server.port, "INFO", "raft")
    assert cli(server.port, "NOPE") == "ERR unknown command 'NOPE', with args beginning with: \n\n"
    assert cli(server.port, stdin='SET q "a b"\nGET q\n') == "OK\na b\n"
    assert "cli" in cli(server.port, "--scan").split()
    assert "myself" in cli(server.port, "CLUSTER", "NODES")


def test_redis_benchmark_runs_without_a_warning(server: LiveServer) -> None:
    program = shutil.which("redis-benchmark")
    if program is None:
        pytest.skip("redis-benchmark is not installed")
    tests = "ping_inline,ping_mbulk,set,get,incr,mset"
    words = ["-p", str(server.port), "-n", "400", "-c", "5", "-P", "4", "-q", "-t", tests]
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=30, check=True)
    assert "WARNING" not in done.stdout + done.stderr
    assert done.stdout.count("requests per second") == 6


# Clients that misbehave. Another one is undisturbed by each of them.


@pytest.fixture
def bystander(server: LiveServer) -> Iterator[Wire]:
    with Wire(server.port) as client:
        assert client.run("PING") == b"PONG"
        yield client
        assert client.run("ECHO", "still here") == b"still here"


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b"\xff\xfe\x00garbage\r\n", b"-ERR unknown command"),
        (b"*1\r\n$9999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1000000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"-ERR unknown command"),
        (b"a" * 100_000, b"-ERR Protocol error: too big inline request\r\n"),
    ],
)
def test_garbage_is_one_clear_error(
    server: LiveServer, bystander: Wire, data: bytes, want: bytes
) -> None:
    with Wire(server.port) as client:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        reply = client.rest()
    assert reply.startswith(want)
    assert reply.count(b"\r\n") == 1


def test_half_a_command_and_a_cut_line_leave_nothing_behind(
    server: LiveServer, bystander: Wire
) -> None:
    before = server.call(lambda: len(server.frontend.connections))
    for _ in range(20):
        with Wire(server.port) as client:
            client.send(wire("SET", "half", "x")[:-3])
    wait_for(lambda: server.call(lambda: len(server.frontend.connections)) <= before)
    assert bystander.run("GET", "half") is None


def test_binary_keys_and_values_pass_through(server: LiveServer, bystander: Wire) -> None:
    every_byte = bytes(range(256))
    assert bystander.run("SET", every_byte, every_byte[::-1]) == b"OK"
    assert bystander.run("GET", every_byte) == every_byte[::-1]


def test_a_value_over_the_limit_is_one_error_and_the_connection_lives(
    server: LiveServer, bystander: Wire
) -> None:
    with Wire(server.port) as client:
        assert b"value_bytes_max" in str(client.run("SET", "big", b"x" * (2 << 20))).encode()
        assert b"entry_bytes_max" in str(client.run("SET", "big", b"x" * (20 << 20))).encode()
        assert client.run("GET", "big") is None


def test_a_client_that_reads_nothing_does_not_fill_the_memory(bystander: Wire) -> None:
    small = ClientSection(output_buffer_bytes_max=64 * 1024)
    with live_server(config(client=small)) as server, Wire(server.port) as client:
        client.run("SET", "a", b"x" * 1_000_000)
        try:
            client.send(wire("GET", "a") * 500)
        except OSError:
            pass  # Cut off while it was still sending.
        wait_for(lambda: not server.call(lambda: server.frontend.connections))
        with Wire(server.port) as other:
            assert other.run("PING") == b"PONG"


def test_a_slow_reader_gets_everything_in_order(server: LiveServer, bystander: Wire) -> None:
    with Wire(server.port) as client:
        client.run("SET", "slow", b"x" * 200_000)
        data = b"".join(wire("GET", "slow") + wire("ECHO", number) for number in range(200))
        client.send(data)
        time.sleep(0.2)
        for number in range(200):
            assert len(client.reply()) == 200_000
            assert client.reply() == str(number).encode()


def test_one_client_too_many_is_told_so() -> None:
    with live_server(config(client=ClientSection(max_clients=2))) as server:
        with Wire(server.port) as one, Wire(server.port) as two:
            assert (one.run("PING"), two.run("PING")) == (b"PONG", b"PONG")
            with Wire(server.port) as three:
                assert three.rest() == b"-ERR max number of clients reached\r\n"
            assert one.run("PING") == b"PONG"
        wait_for(lambda: not server.call(lambda: server.frontend.connections))
        with Wire(server.port) as four:
            assert four.run("PING") == b"PONG"


def test_a_refused_client_that_stays_is_cut_after_the_linger(server: LiveServer) -> None:
    with Wire(server.port) as client:
        begin_s = time.monotonic()
        client.send(b"*x\r\n")
        assert client.rest().startswith(b"-ERR Protocol error")
        # The server has closed its side; ours is cut when it has waited long enough.
        wait_for(lambda: is_cut(client.socket))
        assert time.monotonic() - begin_s >= LINGER_S * 0.9


def is_cut(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_password_is_asked_for(protocol: int) -> None:
    with live_server(config(client=ClientSection(requirepass="se cret"))) as server:
        with redis.Redis(port=server.port, protocol=protocol, password="se cret") as client:
            assert client.set("a", "1")
        with (
            redis.Redis(
                port=server.port, protocol=protocol, password="no", retry=Retry(NoBackoff(), 0)
            ) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.get("a")
        with Wire(server.port) as bare:
            bare.send(wire("GET", "a") + wire("AUTH", "se cret") + wire("GET", "a"))
            refused, accepted, value = bare.replies(3)
            assert str(refused) == "NOAUTH Authentication required."
            assert (accepted, value) == (b"OK", b"1")


def test_what_was_asked_before_the_end_of_input_is_answered(server: LiveServer) -> None:
    service = server.service
    by_itself = service._call_soon
    service._call_soon = None  # Nothing is applied until the end of input has arrived.
    try:
        with Wire(server.port) as client:
            client.send(b"SET eof 1\r\nINCR eof\r\nGET eof\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            wait_for(lambda: service._claims)
            time.sleep(0.1)
            server.call(service.settle_all)
            assert client.rest() == b"+OK\r\n:2\r\n$1\r\n2\r\n"
    finally:
        service._call_soon = by_itself


def test_a_bug_in_a_handler_costs_that_client_its_connection_only(
    server: LiveServer, bystander: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> tuple[int, str]:
        raise RuntimeError("a bug")

    told: list[object] = []
    server.loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    monkeypatch.setattr(server.service, "digest", fail)
    with Wire(server.port) as client, pytest.raises((EOFError, ConnectionResetError)):
        client.run("TRI.DIGEST")
    assert [str(one) for one in told] == ["a bug"]
    server.loop.set_exception_handler(None)


def test_stopping_cuts_the_clients_off() -> None:
    with live_server() as server:
        client = Wire(server.port)
        assert client.run("PING") == b"PONG"
    with client, pytest.raises((EOFError, ConnectionResetError)):
        client.run("PING")


def wait_for(condition: object, timeout_s: float = 10.0) -> None:
    """Until it holds: what happens in the loop's thread happens a moment later."""
    assert callable(condition)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


# A planned stop.


def test_draining_tells_clients_what_they_asked_for_and_lets_go_of_them() -> None:
    with live_server() as running, Wire(running.port) as busy, Wire(running.port) as idle:
        assert idle.run("PING") == b"PONG"
        running.call(lambda: setattr(running.service, "_call_soon", None))  # nothing settles
        busy.send(wire("SET", "k", "v") + wire("GET", "k"))
        while not running.service.submits:
            time.sleep(0.005)
        drained = asyncio.run_coroutine_threadsafe(running.server.drain(5), running.loop)
        with pytest.raises(EOFError):
            idle.reply()
        assert not drained.done()
        running.call(running.service.settle_all)
        assert busy.replies(2) == [b"OK", b"v"]
        with pytest.raises(EOFError):
            busy.reply()
        for client in (busy, idle):
            client.socket.close()
        drained.result(5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port), 5)


def test_draining_does_not_wait_for_ever() -> None:
    with live_server() as running, Wire(running.port) as busy:
        running.call(lambda: setattr(running.service, "_call_soon", None))
        busy.send(wire("SET", "k", "v"))
        while not running.service.submits:
            time.sleep(0.005)
        begun_s = time.monotonic()
        asyncio.run_coroutine_threadsafe(running.server.drain(0.2), running.loop).result(5)
        assert 0.15 < time.monotonic() - begun_s < 3
