"""A million random frames at a live node: no crash, bounded memory, nobody else disturbed.

Goal: whatever a client sends, it is answered in the protocol or cut off; the node goes on.
Method: connections that each send a thousand frames: random commands of the table with random
arguments, and in some streams flipped, lost and doubled bytes; then the end of input. All that
comes back has to parse. A bystander writes and reads all the while.

What would end or hold up the node by order is left out: SHUTDOWN, CLIENT KILL and PAUSE; so
are QUIT and CLIENT REPLY, after which nothing would be answered.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest

from node.commands import COMMANDS
from tests.support.cluster import Cluster, NodeProcess
from tests.support.fake_service import wire

pytestmark = pytest.mark.cluster

FRAMES_PER_CONNECTION = 1_000
MEMORY_GROWTH_KIB_MAX = 150 * 1024

_LEFT_OUT = {"shutdown", "client|kill", "client|pause", "config|set", "tri.transfer", "save",
             "bgsave", "tri.snapshot", "quit", "client|reply"}  # fmt: skip
_NAMES = [
    row.name.encode().split(b"|")
    for outer in COMMANDS.values()
    for row in (list(outer.subcommands.values()) or [outer])
    if row.name not in _LEFT_OUT
]
_WORDS = [b"", b"a", b"b", b"k1", b"0", b"1", b"-1", b"3", b"99999999999999999999", b"1.5", b"NX",
          b"EX", b"PX", b"GET", b"IFEQ", b"IFREV", b"KEEPTTL", b"COUNT", b"MATCH", b"*", b"[a",
          b"LIMIT", b"REV", b"IDX", b"default", b"\x00\xff\r\n", b"x" * 300, b"PING"]  # fmt: skip


def frames(rng: random.Random, count: int) -> bytes:
    """A stream of so many."""
    parts = []
    is_broken = rng.random() < 0.3  # Most of these end early, in a protocol error.
    for _ in range(count):
        kind = rng.random()
        if kind < 0.03 and is_broken:
            parts.append(rng.randbytes(rng.randrange(1, 40)).replace(b"\n", b"") + b"\r\n")
        elif kind < 0.06:
            parts.append(b" ".join(rng.choices(_WORDS[:8], k=3)) + b"\r\n")
        else:
            words = [*rng.choice(_NAMES), *rng.choices(_WORDS, k=rng.choice((0, 1, 1, 2, 2, 3, 5)))]
            parts.append(wire(*words))
    stream = b"".join(parts)
    if is_broken:
        mutated = bytearray(stream)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(mutated))
            change = rng.randrange(3)
            if change == 0:
                mutated[at] ^= 1 << rng.randrange(8)
            elif change == 1:
                del mutated[at : at + rng.randrange(1, 20)]
            else:
                mutated[at:at] = mutated[at : at + rng.randrange(1, 20)]
        stream = bytes(mutated)
    return stream


def writes(rng: random.Random, count: int) -> bytes:
    """Commands that nearly all change something: every operation of the log, over few keys."""
    parts = []
    for _ in range(count):
        key, other, number = (f"{kind}{rng.randrange(12)}" for kind in ("s", "s", "n"))
        when = rng.choice(["100000", "3600000"])
        choices: list[list[list[str | int]]] = [
            [["SET", key, rng.randrange(10**6), "PX", when]],
            [["APPEND", key, "x"]],
            [["SETRANGE", key, rng.randrange(40), "yy"]],
            [["SETBIT", key, rng.randrange(300), rng.randrange(2)]],
            [["INCRBY", number, rng.randrange(-99, 99)]],
            [["INCRBYFLOAT", f"f{rng.randrange(12)}", f"{rng.uniform(-9, 9):.7f}"]],
            [["RENAME", key, other]],
            [["COPY", key, other, "REPLACE"]],
            [["MSETEX", 2, key, "1", other, "2", "EX", "1000"]],
            [["MSETNX", f"m{rng.randrange(500)}", "1", other, "2"]],
            [["GETEX", key, "PERSIST"]],
            [["PEXPIRE", key, when, rng.choice(["NX", "XX", "GT", "LT"])]],
            [["SET", key, "short", "PX", rng.randrange(1, 300)]],
            [["SET", key, "again", "XX", "KEEPTTL", "GET"]],
            [["DELEX", key, "IFNE", "2"]],
            [["GETDEL", key]],
            [["WATCH", key], ["MULTI"], ["APPEND", key, "t"], ["GET", other], ["INCR", number],
             ["EXEC"]],
        ]  # fmt: skip
        parts += [wire(*command) for command in rng.choice(choices)]
    return b"".join(parts)


def converse(port: int, stream: bytes) -> int:
    """Send it, close the write side, read to the end; how many replies came, all well formed."""
    reader = hiredis.Reader()
    replies = 0
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        sender = threading.Thread(target=_send, args=(connection, stream))
        sender.start()
        try:
            while data := connection.recv(1 << 16):
                reader.feed(data)
                while reader.gets() is not False:
                    replies += 1
        except ConnectionResetError:
            pass  # Closed after a protocol error, while there was more to read.
        sender.join(30)
    return replies


def _send(connection: socket.socket, stream: bytes) -> None:
    try:
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The node has closed it.


def memory_kib(node: NodeProcess) -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def _disturb(cluster: Cluster, connections: int, seed: int) -> tuple[int, int]:
    """Replies, and how often the bystander was answered rightly meanwhile."""
    node = cluster.leader()
    done = threading.Event()
    served = 0
    problems: list[str] = []

    def stand_by() -> None:
        nonlocal served
        with node.connect() as client:
            while not done.is_set():
                # Others flush: the value is ours or gone, never anything else.
                token = b"%d" % served
                client.set("bystander:" + "k" * 40, token)
                seen = client.get("bystander:" + "k" * 40)
                if seen not in (token, None):
                    problems.append(f"{seen!r} is not {token!r}")
                served += 1

    thread = threading.Thread(target=stand_by)
    thread.start()
    rng = random.Random(seed)
    replies = 0
    try:
        for _ in range(connections):
            replies += converse(node.port, frames(rng, FRAMES_PER_CONNECTION))
    finally:
        done.set()
        thread.join(30)
    assert problems == []
    assert not thread.is_alive()
    return replies, served


def test_random_frames_hurt_nobody(cluster: Cluster) -> None:
    replies, served = _disturb(cluster, 20, seed=1)
    assert replies > 10_000
    assert served > 0
    assert len({node.process.pid for node in cluster if node.process is not None}) == 3
    cluster.equal_digest()


def test_replicas_agree_after_random_commands_kills_and_a_snapshot(cluster: Cluster) -> None:
    """Every operation of the log, applied live, replayed from the WAL, and from an image."""
    rng = random.Random(5)
    for turn in range(3):
        victim = rng.choice(cluster.nodes)
        for node in cluster:
            converse(node.port, frames(rng, 300))
            converse(node.port, writes(rng, FRAMES_PER_CONNECTION))
        victim.kill()
        alive = [node for node in cluster if node is not victim]
        for node in alive:
            converse(node.port, writes(rng, FRAMES_PER_CONNECTION))
        if turn == 1:
            cluster.client(alive[0].id).execute_command("TRI.SNAPSHOT")
        victim.restart()
        cluster.equal_digest()


@pytest.mark.stress
@pytest.mark.timeout(1_200)
def test_a_million_random_frames_hurt_nobody(
    cluster: Cluster, figures: Callable[[str], None]
) -> None:
    node = cluster.leader()
    _disturb(cluster, 50, seed=2)  # What is made once is there after that.
    before_kib = memory_kib(node)
    replies, served = _disturb(cluster, 1_000, seed=3)
    grown_kib = memory_kib(node) - before_kib
    figures(
        f"1,000,000 frames, {replies:,} replies, bystander served {served:,} times, "
        f"{grown_kib / 1024:+.1f} MiB"
    )
    assert replies > 300_000
    assert served > 100
    assert grown_kib < MEMORY_GROWTH_KIB_MAX
    assert [line for each in cluster for line in each.all_lines if "Traceback" in line] == []
    cluster.equal_digest()
