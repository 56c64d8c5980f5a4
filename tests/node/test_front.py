"""client.workers: frames wherever they are cut, clients that do not read, and processes that die.

What clients can do through workers is the whole of test_server.py, which runs through them too, and
the stock clients at the end, against three nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.config import ClientSection
from node.errors import ConfigError
from node.front import Front
from node.front.frames import HEADER_BYTES, KIND, PAYLOAD_BYTES_MAX, Frames, frame
from node.front.stream import ACK_BYTES, Stream
from tests.node.test_differential import compare
from tests.support.cluster import Cluster
from tests.support.fake_service import config, wire
from tests.support.live_server import LiveServer, Wire, live_server, redis_oracle
from tests.support.supervised import is_running, wait_until

# --- frames --------------------------------------------------------------------------------

SOME = [(KIND.OPEN, 1, b"{}"), (KIND.DATA, 1, b"x" * 700), (KIND.END, 1, b""), (KIND.LOST, 2, b"")]


@pytest.mark.parametrize("cut_bytes", [1, 8, 9, 10, 1 << 16])
def test_frames_do_not_depend_on_the_cuts(cut_bytes: int) -> None:
    said = b"".join(frame(*each) for each in SOME)
    frames = Frames()
    pieces = [said[start : start + cut_bytes] for start in range(0, len(said), cut_bytes)]
    assert [each for piece in pieces for each in frames.feed(piece)] == SOME


def test_long_data_is_cut_and_a_longer_frame_is_refused() -> None:
    data = os.urandom(2 * PAYLOAD_BYTES_MAX + 5)
    found = Frames().feed(frame(KIND.DATA, 7, data))
    assert [number for _, number, _ in found] == [7, 7, 7]
    assert b"".join(payload for _, _, payload in found) == data
    header = bytearray(frame(KIND.DATA, 7))
    header[5:HEADER_BYTES] = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "little")
    with pytest.raises(ValueError, match="a frame of"):
        Frames().feed(bytes(header))


# --- a stream ------------------------------------------------------------------------------


class Recorded(asyncio.Protocol):
    """What a protocol was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")


def a_stream() -> tuple[Stream, Recorded, list[tuple[int, int, bytes]]]:
    sent: list[tuple[int, int, bytes]] = []
    stream = Stream(
        3, {}, has_tls=False, send=lambda data: sent.extend(Frames().feed(data)),
        forget=lambda number: None,
    )  # fmt: skip
    protocol = Recorded()
    stream.begin(protocol, is_channel_full=False)
    return stream, protocol, sent


def ack(count: int) -> tuple[int, bytes]:
    return KIND.ACK, count.to_bytes(8, "little")


def test_two_reasons_to_pause_are_one_pause() -> None:
    stream, protocol, _ = a_stream()
    stream.write(b"x" * 2_000_000)
    assert protocol.told == ["pause"]  # at once, as a socket's transport would say it
    stream.channel_full(is_full=True)
    stream.heard(*ack(1_000_000))
    stream.heard(*ack(900_000))
    assert protocol.told == ["pause"]
    stream.channel_full(is_full=False)
    assert protocol.told == ["pause", "resume"]


def test_what_was_acknowledged_does_not_wait_any_more() -> None:
    stream, _, sent = a_stream()
    stream.write(b"x" * (ACK_BYTES + 100))
    assert stream.get_write_buffer_size() == 100
    stream.heard(*ack(ACK_BYTES))
    assert stream.get_write_buffer_size() == 0
    stream.write(b"y")
    assert sent[-1] == (KIND.DATA, 3, b"y")


def test_nothing_is_said_under_a_number_that_is_dead() -> None:
    stream, protocol, sent = a_stream()
    stream.heard(KIND.LOST, b"")
    stream.write(b"late")
    stream.close()
    stream.abort()
    stream.pause_reading()
    assert sent == []
    assert protocol.told == ["lost"]


# --- with processes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(config(client=ClientSection(workers=2)), event_loop="uvloop") as running:
        yield running


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with redis_oracle() as port:
        yield port


def pids(server: LiveServer) -> list[int]:
    listener: Any = server.server._listener
    assert isinstance(listener, Front)
    return list(listener.pids)


def test_the_port_is_shared_out(server: LiveServer) -> None:
    with contextlib.ExitStack() as stack:
        some = [stack.enter_context(Wire(server.port)) for _ in range(64)]
        for number, each in enumerate(some):
            assert each.run("ECHO", str(number)) == str(number).encode()
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids(server)]
        assert len(files) == 2
        assert min(files) > 20


def test_an_address_that_is_taken_is_refused_in_spite_of_sharing(server: LiveServer) -> None:
    async def once_more() -> None:
        front = Front(ClientSection(workers=1), asyncio.Protocol, None, 8)  # type: ignore[arg-type]
        await front.start("127.0.0.1", server.port)

    with pytest.raises(OSError, match="in use"):
        asyncio.run(once_more())


def test_a_worker_that_is_killed_costs_its_clients_their_connection_only(
    server: LiveServer,
) -> None:
    with contextlib.ExitStack() as stack:
        some = [stack.enter_context(Wire(server.port)) for _ in range(32)]
        for each in some:
            assert each.run("PING") == b"PONG"
        victim, other = pids(server)
        os.kill(victim, signal.SIGKILL)
        lost = 0
        for each in some:
            try:
                assert each.run("ECHO", "x") == b"x"
            except (EOFError, ConnectionError):
                lost += 1
        assert 0 < lost < 32
        wait_until(lambda: len(pids(server)) == 2, 20, lambda: "no new worker")
        assert other in pids(server)
        assert victim not in pids(server)
        left = server.call(lambda: len(server.frontend.connections))
        assert left == 32 - lost
        # Whoever connects now may have waited at the dead one's socket: all are served.
        for _ in range(16):
            with Wire(server.port) as late:
                assert late.run("SET", "k", "v") == b"OK"


def test_a_client_that_does_not_read_for_a_while_gets_all_of_it_in_the_end() -> None:
    with live_server(config(client=ClientSection(workers=1)), event_loop="uvloop") as running:
        with Wire(running.port) as slow, Wire(running.port) as other:
            assert slow.run("SET", "big", "x" * 1_000_000) == b"OK"
            slow.send(wire("GET", "big") * 100)
            # Replies stop being made: 100 MB are not held anywhere, nor is anybody else held up.
            wait_until(lambda: max(server_unsent(running)) > 1_000_000, 10, "nothing waits")
            assert other.run("PING") == b"PONG"
            assert max(server_unsent(running)) <= 64 * 1024 * 1024
            assert [len(reply) for reply in slow.replies(100)] == [1_000_000] * 100
            assert slow.run("PING") == b"PONG"


def test_a_subscriber_that_never_reads_loses_its_subscription() -> None:
    client = ClientSection(workers=1, output_buffer_bytes_max=4 * 1024 * 1024)
    with live_server(config(client=client), event_loop="uvloop") as running:
        with Wire(running.port) as mine, Wire(running.port) as deaf:
            assert deaf.run("SUBSCRIBE", "news")[0] == b"subscribe"
            heard = 1
            for _ in range(60):  # the kernel's buffers take some of it
                heard = mine.run("PUBLISH", "news", "y" * 500_000)
                if not heard:
                    break
            assert heard == 0
            assert max(server_unsent(running)) <= client.output_buffer_bytes_max


def server_unsent(server: LiveServer) -> list[int]:
    every = server.frontend.connections
    found: list[int] = server.call(lambda: [each.unsent_bytes() for each in every.values()])
    return found


@pytest.mark.parametrize("protocol", [2, 3])
def test_random_pipelines_are_answered_as_redis_answers_them(
    server: LiveServer, redis_port: int, protocol: int
) -> None:
    assert compare(server, redis_port, protocol, 40) > 500


def test_tls_is_refused_as_without_workers_when_a_file_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    section = ClientSection(workers=1, tls_certificate=missing, tls_key=missing)
    with (
        pytest.raises(ConfigError, match="tls_certificate"),
        live_server(config(client=section)),
    ):
        raise AssertionError("it started")


# --- three nodes ---------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.cluster
def test_a_node_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    with Cluster(tmp_path, settings=["client.workers=2"]) as cluster:
        leader = cluster.leader()
        for node in cluster:
            client: Any = cluster.client(node.id)
            with client.pipeline() as pipeline:
                assert pipeline.incr("n").incr("n").execute()
        assert leader.process is not None
        workers = children(leader.process.pid)
        assert len(workers) == 2
        leader.kill()
        wait_until(lambda: not any(map(is_running, workers)), 10, lambda: f"{workers} run on")
        leader.restart()
        assert leader.connect().incr("n") == 7
        # In good order, too: SIGTERM drains the clients and ends the workers.
        workers = children(leader.process.pid)
        assert leader.stop() == 0
        assert not any(map(is_running, workers))


def test_who_stops_reading_the_socket_of_a_stopped_server_is_let_go() -> None:
    """stop() does not wait for anybody, and leaves no process."""
    with live_server(config(client=ClientSection(workers=2)), event_loop="uvloop") as running:
        found = pids(running)
        client = socket.create_connection(("127.0.0.1", running.port), 5)
    with client, contextlib.suppress(ConnectionResetError):  # it may not have been accepted yet
        assert client.recv(1) == b""
    assert not any(map(is_running, found))
