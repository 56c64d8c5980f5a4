"""The peer port of nodes that run: who gets in, who does not, and what frames do to them.

Method: real processes and real sockets (tests/support/peer.py). While it lasts clients are served,
no term changes, memory stays where it was, and the log says each thing once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node import wire
from node.certificates import make
from statemachine.fs import Disk
from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess
from tests.support.fuzz import damaged, junk, nonsense, valid_frame
from tests.support.peer import Peer, client_context, knock

pytestmark = pytest.mark.cluster

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]
CALM = ("raft.election_timeout_min_ms=3000", "raft.election_timeout_max_ms=5000")
"""On a busy machine nodes with short timeouts elect by themselves: here a term must not change."""
MEMORY_BYTES_MAX = 30_000_000 + 32 * 1024 * 1024
"""Clients write all the while, and `journal.memory_bytes` of their entries stay in memory."""
LINES_MAX = 40
"""A log line for each reason, no more than the rate allows (node.refusals), and the start's own."""


def rss_bytes(node: NodeProcess) -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def refusals(node: NodeProcess) -> list[str]:
    return [line for line in node.all_lines if "refused" in line or "broken off" in line]


@contextmanager
def unshaken(cluster: Cluster, growth_bytes_max: int = MEMORY_BYTES_MAX) -> Iterator[None]:
    """Clients are served all the while, and afterwards nothing has happened."""
    before = {node.id: (node.status()["term"], rss_bytes(node), node.lives) for node in cluster}
    with Load(cluster, writers=3) as load:
        load.wait_for(5)
        yield
        load.wait_for(20)
    assert load.errors == []
    assert load.missing(cluster.client("n1")) == []
    for node in cluster:
        term, rss, lives = before[node.id]
        # None of the terms that strangers claim. (A busy machine may have had an election.)
        assert term <= node.status()["term"] <= term + 2, node.id
        assert node.lives == lives
        assert node.process is not None
        assert node.process.poll() is None
        assert rss_bytes(node) < rss + growth_bytes_max, node.id
        assert not node.find("Traceback")
    cluster.equal_digest()


# -- certificates --------------------------------------------------------------------------------


def test_a_cluster_with_certificates_survives_its_leader(start_cluster: StartCluster) -> None:
    cluster = start_cluster(tls=True)
    leader = cluster.leader()
    with Load(cluster, writers=3) as load:
        load.wait_for(50)
        leader.kill()
        load.wait_for(100)
        leader.restart()
        load.wait_for(50)
    assert load.errors == []
    assert load.missing(cluster.client("n1")) == []
    cluster.equal_digest()
    assert not any("certificate" in line for node in cluster for line in refusals(node))


def test_strangers_at_a_port_with_certificates_get_no_word_in(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(tls=True, settings=CALM)
    node, certs = cluster["n3"], cluster.directory / "certs"
    make(tmp_path / "other", ["n1"], 30, Disk(), int(time.time() * 1000))
    make(tmp_path / "old", ["n9"], 30, Disk(), int(time.time() * 1000))
    strangers = {
        "does not speak TLS": None,
        "it shows no certificate": client_context(certs, None),
        "its certificate is refused": client_context(tmp_path / "other", "n1", ca=certs),
        "n1 shows a certificate of n2": client_context(certs, "n2"),
    }
    with unshaken(cluster):
        for _ in range(5):
            for context in strangers.values():
                with pytest.raises(OSError), Peer(node.peer_port, "n1", "n3", context=context):
                    pass
    for reason in strangers:
        assert node.said(reason), reason
    assert len(refusals(node)) == len(strangers), refusals(node)


# -- the secret ----------------------------------------------------------------------------------


def test_what_a_friend_once_said_opens_nothing_when_it_is_said_again(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(settings=(*CALM, "peer.secret=sesame sesame sesame"))
    node = cluster["n3"]
    with Peer(node.peer_port, "n1", "n3", secret=b"sesame sesame sesame") as friend:
        assert len(friend.sent) == 2  # it got in: hello and proof
    with unshaken(cluster):
        for _ in range(20):
            knock(node.peer_port, b"".join(friend.sent) + wire.encode(wire.HIGHER_TERM, 99))
    assert node.said("wrong proof from n1")
    assert len(refusals(node)) == 1


# -- frames --------------------------------------------------------------------------------------


def before_the_handshake(node: NodeProcess, rng: random.Random, count: int) -> None:
    """Frames of every kind, damaged or not, and junk, in connections of 20."""
    for _ in range(count // 20):
        frames = [
            junk(rng) if rng.random() < 0.2 else damaged(rng, valid_frame(rng, (1, 2, 5)))
            for _ in range(20)
        ]
        knock(node.peer_port, b"".join(frames))


def is_malformed(frame: bytes) -> bool:
    """Whether the node must hang up on it at once."""
    try:
        (body,) = wire.FrameReader(1 << 20).feed(frame)
        return wire.decode(body)[0] in (wire.HELLO, wire.PROOF)
    except wire.WireError:
        return True
    except ValueError:
        return False  # half a frame, or two


def behind_the_handshake(node: NodeProcess, rng: random.Random, count: int) -> int:
    """As n1: harmless frames, then one that is malformed. How many links were opened."""
    links = sent = 0
    while sent < count:
        frames = [wire.encode(wire.PING)] * 10
        # Of a term that is over: answered or dropped.
        frames += [wire.encode(wire.APPEND, 0, 5, 1, 0, []), wire.encode(wire.VOTE, 0)] * 4
        broken = b""
        while not is_malformed(broken):
            broken = damaged(rng, wire.encode(*nonsense(rng, (1, 2, 5))))
        frames.append(broken)
        with Peer(node.peer_port, "n1", "n3") as peer:
            peer.say(b"".join(frames))
            assert not peer.is_open(2.0), broken.hex()
        sent += len(frames)
        links += 1
    return links


def fuzz(cluster: Cluster, count: int, figures: Figures) -> None:
    node, rng = cluster["n3"], random.Random(count)
    before_bytes, began_s = rss_bytes(node), time.monotonic()
    with unshaken(cluster):
        before_the_handshake(node, rng, count * 3 // 4)
        links = behind_the_handshake(node, rng, count // 4)
    lines = refusals(node)
    figures(
        f"{count} frames ({links} links opened) in {time.monotonic() - began_s:.0f} s, "
        f"{len(lines)} log lines, memory {before_bytes / 1e6:.0f} -> {rss_bytes(node) / 1e6:.0f} MB"
    )
    assert len(lines) <= LINES_MAX * (1 + (time.monotonic() - began_s) / 60)


def test_forty_thousand_damaged_frames_change_nothing(
    start_cluster: StartCluster, figures: Figures
) -> None:
    fuzz(start_cluster(settings=CALM), 40_000, figures)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_a_million_damaged_frames_change_nothing(
    start_cluster: StartCluster, figures: Figures
) -> None:
    fuzz(start_cluster(settings=CALM), 1_000_000, figures)


def test_a_peer_that_may_say_anything_does_not_stop_a_node(
    start_cluster: StartCluster, figures: Figures
) -> None:
    """n3 alone, its peers played by one who has their credentials: whatever its log becomes, it
    lives, takes no more memory, and starts again with what is on its disk.
    """
    cluster = start_cluster()
    node, rng = cluster["n3"], random.Random(5)
    for other in ("n1", "n2"):
        cluster[other].kill()
    before_bytes, sent = rss_bytes(node), 0
    for turn in range(150):
        status = node.status()
        near = (status["term"], status["applied_index"], status["commit_index"])
        with Peer(node.peer_port, rng.choice(("n1", "n2")), "n3") as peer:
            try:
                for _ in range(100):
                    message = nonsense(rng, near)
                    peer.say(wire.encode(*message))
                    sent += 1
            except OSError:
                pass  # it has hung up
        assert node.process is not None
        assert node.process.poll() is None, (turn, message)
    assert rss_bytes(node) < before_bytes + 60_000_000
    assert node.status()["id"] == "n3"
    assert not node.find("Traceback")
    figures(f"{sent} frames, memory {before_bytes / 1e6:.0f} -> {rss_bytes(node) / 1e6:.0f} MB")
    node.kill()
    node.start()
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s and not node.status():
        time.sleep(0.05)
    assert node.status()["id"] == "n3", node.lines
