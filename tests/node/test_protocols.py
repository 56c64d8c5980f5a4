"""What the client helpers promise, against a store that loses, delays and repeats.

Goal: a session's writes happen once each, and no two holders of a lock ever believe in it at the
same moment, whatever becomes of requests and answers.
Method: a model of a cluster on simulated time. A request may be answered, refused, applied with its
answer lost, lost, or applied much later, after the client has gone on elsewhere. Seeded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

import pytest

from node.client.events import Event, Follower
from node.client.held import DRIFT, Held
from node.client.protocols import Ask, Done, Writes, acquire, grant, persistently, release, renew
from node.errors import KVError, OutcomeUnknown, Rejected, Unavailable

Words = tuple[Any, ...]


class Model:
    """A store with revisions and deadlines, as far as the helpers use it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.revision = 0
        self.rows: dict[str, tuple[bytes, int, int, float]] = {}
        """Key -> (value, created, modified, deadline)."""

    def row(self, key: str) -> tuple[bytes, int, int, float] | None:
        found = self.rows.get(key)
        if found is not None and found[3] <= self.now_s:
            del self.rows[key]
            return None
        return found

    def modified(self, key: str) -> int:
        row = self.row(key)
        return 0 if row is None else row[2]

    def apply(self, words: Words) -> Any:
        self.revision += 1
        name, key, *rest = words
        row = self.row(key)
        if name == "GET":
            return None if row is None else row[0]
        if name == "TRI.GET":
            return None if row is None else [row[0], row[1], row[2], -1]
        if name == "INCR":
            number = int(row[0] if row else b"0") + 1
            self.rows[key] = (b"%d" % number, row[1] if row else self.revision, self.revision, 1e99)
            return number
        if name == "DELEX":
            if row is None or row[0] != rest[1]:
                return 0
            del self.rows[key]
            return 1
        assert name == "SET", words
        value = rest[0] if isinstance(rest[0], bytes) else str(rest[0]).encode()
        if "NX" in rest[1:] and row is not None:
            return None
        if "IFEQ" in rest[1:] and (row is None or row[0] != rest[rest.index("IFEQ") + 1]):
            return None
        deadline_s = self.now_s + rest[rest.index("PX", 1) + 1] / 1000
        self.rows[key] = (value, row[1] if row else self.revision, self.revision, deadline_s)
        return b"OK"


class Network:
    """Carries requests to the model, badly."""

    def __init__(self, model: Model, rng: random.Random, badness: float) -> None:
        self.model = model
        self.rng = rng
        self.badness = badness
        self.late: list[tuple[float, Callable[[], Any]]] = []

    def pass_time(self, seconds: float) -> None:
        end_s = self.model.now_s + seconds
        while self.late and min(self.late, key=lambda each: each[0])[0] <= end_s:
            at_s, what = min(self.late, key=lambda each: each[0])
            self.late.remove((at_s, what))
            self.model.now_s = max(self.model.now_s, at_s)
            what()
        self.model.now_s = end_s

    def carry(self, what: Callable[[], Any]) -> Any:
        """Raises: what became of it."""
        self.pass_time(self.rng.uniform(0, 0.05))
        fate = self.rng.random() / self.badness if self.badness else 1.0
        if fate < 0.2:
            raise Unavailable("no leader")
        if fate < 0.4:
            raise OutcomeUnknown("lost on its way")
        if fate < 0.7:
            self.late.append((self.model.now_s + self.rng.expovariate(0.5), what))
            raise OutcomeUnknown("on its way for long")
        answer = what()
        self.pass_time(self.rng.uniform(0, 0.05))
        if fate < 1.0:
            raise OutcomeUnknown("its answer is lost")
        return answer


class Wire:
    """One client's connection: WATCH and MULTI live on it, and end with it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.reset()

    def reset(self) -> None:
        self.watched: dict[str, int] = {}
        self.queue: list[Words] | None = None

    def ask(self, words: Words) -> Any:
        model = self.network.model
        if words[0] == "WATCH":
            self.watched[words[1]] = model.modified(words[1])
            return b"OK"
        if words[0] in ("UNWATCH", "DISCARD"):
            self.reset()
            return b"OK"
        if words[0] == "MULTI":
            self.queue = []
            return b"OK"
        if words[0] == "EXEC":
            watched, queue = self.watched, self.queue
            assert queue is not None, "EXEC without MULTI"
            self.reset()
            return self._carry(lambda: self._execute(watched, queue))
        if self.queue is not None:
            self.queue.append(words)
            return b"QUEUED"
        return self._carry(lambda: model.apply(words))

    def _carry(self, what: Callable[[], Any]) -> Any:
        try:
            return self.network.carry(what)
        except KVError:
            self.reset()
            raise

    def _execute(self, watched: dict[str, int], queue: list[Words]) -> list[Any] | None:
        model = self.network.model
        if any(model.modified(key) != revision for key, revision in watched.items()):
            return None
        return [model.apply(words) for words in queue]


def steps(wire: Wire, protocol: Generator[Any, Any, Any]) -> Generator[None, None, Any]:
    """Drive a protocol; yields after each step, so that two can be interleaved."""
    answer: Any = None
    failure: KVError | None = None
    while True:
        try:
            step = protocol.send(answer) if failure is None else protocol.throw(failure)
        except StopIteration as end:
            return end.value
        answer = failure = None
        if isinstance(step, Ask):
            try:
                answer = wire.ask(step.words)
            except KVError as error:
                failure = error
        else:
            wire.network.pass_time(step.seconds)
        yield


def run(wire: Wire, protocol: Generator[Any, Any, Any]) -> Any:
    driving = steps(wire, protocol)
    while True:
        try:
            next(driving)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("seed", range(60))
def test_a_session_writes_each_thing_once_whatever_becomes_of_the_answers(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(Model(), rng, badness=rng.choice([0.1, 0.5, 0.9]))
    wire = Wire(network)
    writes = Writes("s", lambda: f"{rng.getrandbits(64):x}")
    told = []
    for _ in range(12):
        while True:
            protocol = writes.run((("INCR", "n"),), network.model.now_s + 3, lambda: now(network))
            try:
                done = run(wire, protocol)
                break
            except (OutcomeUnknown, Unavailable):
                continue  # what the contract says: again, with the same commands
        assert isinstance(done, Done)
        told.append(done.results)
    network.pass_time(1_000)  # and all that is still on its way arrives
    assert network.model.apply(("GET", "n")) == b"12"
    assert all(found in (None, [number]) for number, found in enumerate(told, 1)), told


def now(network: Network) -> float:
    return network.model.now_s


def test_the_model_would_show_a_write_that_happens_twice() -> None:
    """What the sessions are for: plain repetition counts too far."""
    totals = []
    for seed in range(20):
        network = Network(Model(), random.Random(seed), badness=0.5)
        for _ in range(12):
            until_s = network.model.now_s + 60
            words = ("INCR", "n")
            protocol = persistently(words, until_s, lambda: now(network), is_idempotent=True)  # noqa: B023
            run(Wire(network), protocol)
        network.pass_time(1_000)
        totals.append(int(network.model.apply(("GET", "n"))))
    assert max(totals) > 12


def test_an_undecided_write_has_to_be_run_again_before_anything_else() -> None:
    network = Network(Model(), random.Random(1), badness=0.0)
    wire = Wire(network)
    writes = Writes("s")
    run(wire, writes.run((("INCR", "n"),), 1, lambda: now(network)))
    network.badness = 1.0
    with pytest.raises(OutcomeUnknown):
        run(wire, writes.run((("INCR", "n"),), 0, lambda: now(network)))
    network.badness = 0.0
    with pytest.raises(Rejected, match="undecided"):
        run(wire, writes.run((("INCR", "m"),), 100, lambda: now(network)))
    run(wire, writes.run((("INCR", "n"),), 100, lambda: now(network)))
    network.pass_time(1_000)
    assert network.model.apply(("GET", "n")) == b"2"


def test_a_session_whose_key_is_gone_or_shared_says_so() -> None:
    network = Network(Model(), random.Random(1), badness=0.0)
    wire = Wire(network)
    ours, theirs = Writes("s"), Writes("s")
    run(wire, ours.run((("INCR", "n"),), 1, lambda: now(network)))
    with pytest.raises(Rejected, match="somebody else"):
        run(wire, theirs.run((("INCR", "n"),), 1, lambda: now(network)))
    network.pass_time(8 * 24 * 3600)
    with pytest.raises(Rejected, match="too long"):
        run(wire, ours.run((("INCR", "n"),), 1e9, lambda: now(network)))
    assert network.model.apply(("GET", "n")) == b"1"


# -- locks ---------------------------------------------------------------------------------------


class Worker:
    """Takes the lock, believes in it, renews it or not, gives it back; over and over."""

    def __init__(self, network: Network, name: str, rng: random.Random) -> None:
        self.network = network
        self.wire = Wire(network)
        self.name = name
        self.rng = rng
        self.held = Held(2.0, lambda: now(network))
        self.tokens: list[int] = []

    def live(self) -> Generator[None, None, None]:
        clock = lambda: now(self.network)  # noqa: E731
        for number in range(6):
            holder = f"{self.name}/{number}".encode()
            self.held = Held(2.0, clock)
            try:
                found = yield from steps(
                    self.wire, acquire("lock", holder, 2_000, clock() + 20, clock)
                )
                if found is None:
                    continue
                token, asked_s = found
                self.held.renewed(asked_s)
                if self.held.is_held:
                    self.tokens.append(token)
                for _ in range(self.rng.randrange(4)):
                    self.network.pass_time(self.rng.uniform(0, 1.5))
                    yield
                    protocol = renew("lock", holder, 2_000, self.held.until_s, clock)
                    renewed_s = yield from steps(self.wire, protocol)
                    if renewed_s is None:
                        self.held.end()
                        break
                    self.held.renewed(renewed_s)
                self.held.end()
                yield from steps(self.wire, release("lock", holder, clock() + 1, clock))
            except (OutcomeUnknown, Unavailable):
                self.held.end()


@pytest.mark.parametrize("seed", range(40))
def test_no_two_holders_believe_in_a_lock_at_the_same_moment(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(Model(), rng, badness=rng.choice([0.0, 0.2, 0.6]))
    workers = [Worker(network, name, rng) for name in ("a", "b", "c")]
    lives = {worker.name: worker.live() for worker in workers}
    granted: list[tuple[int, str]] = []
    while lives:
        name = rng.choice(sorted(lives))
        try:
            next(lives[name])
        except StopIteration:
            del lives[name]
        holders = [worker for worker in workers if worker.held.is_held]
        assert len(holders) <= 1, [each.name for each in holders]
        for holder in holders:
            row = network.model.row("lock")
            assert row is not None
            assert row[0].startswith(holder.name.encode())
            assert row[3] >= holder.held.until_s, "it believes for longer than the store does"
        for worker in workers:
            granted += [(token, worker.name) for token in worker.tokens]
            worker.tokens = []
    tokens = [token for token, _ in granted]
    assert tokens == sorted(set(tokens)), granted
    assert granted


def test_held_ends_before_the_time_to_live_of_a_clock_that_is_a_little_slow() -> None:
    clock = [0.0]
    held = Held(10.0, lambda: clock[0])
    assert not held.is_held
    held.renewed(0.0)
    assert held.left_s == pytest.approx(10 * (1 - DRIFT))
    clock[0] = 10 * (1 - DRIFT)
    assert not held.is_held
    held.renewed(5.0)
    assert held.is_held
    held.renewed(1.0)  # an older answer takes nothing back
    assert held.left_s == pytest.approx(5 + 10 * (1 - DRIFT) - clock[0])
    held.end()
    assert not held.is_held


def test_a_lease_that_a_lost_try_granted_is_ours() -> None:
    def answers() -> Generator[Any, Any, Any]:
        return (yield from grant(1_000, 7, 10.0, lambda: 3.0))

    protocol = answers()
    assert next(protocol) == Ask(("TRI.LEASE", "GRANT", 1_000, "ID", 7))
    protocol.throw(OutcomeUnknown("lost"))
    assert next(protocol) == Ask(("TRI.LEASE", "GRANT", 1_000, "ID", 7))
    with pytest.raises(StopIteration) as end:
        protocol.throw(Rejected("LEASEEXISTS lease 7 is there already"))
    assert end.value.value == 3.0


# -- watches -------------------------------------------------------------------------------------


def test_a_watch_resumes_behind_the_last_frame_and_tells_nothing_twice() -> None:
    follower = Follower("PREFIX", b"user:", None, previous=True)
    assert follower.words() == ("TRI.WATCH", "PREFIX", b"user:", "PREV")
    follower.begun([1, 40])
    assert follower.words() == ("TRI.WATCH", "PREFIX", b"user:", "FROM", 41, "PREV")
    frame = [
        b"tri.watch",
        1,
        43,
        [[b"set", b"user:1", b"v", None], [b"del", b"user:2", None, b"w"]],
    ]
    assert follower.take(frame) == [
        Event(43, "set", b"user:1", b"v", None),
        Event(43, "del", b"user:2", None, b"w"),
    ]
    assert follower.take(frame) == []
    assert follower.take([b"tri.watch", 1, 60, []]) == []  # a progress mark
    assert follower.words()[-2:] == (61, "PREV")
    with pytest.raises(Unavailable, match="ended"):
        follower.take([b"tri.watch-end", 1, 70, b"COMPACTED too slow"])
    assert follower.next_revision == 71
    with pytest.raises(Rejected, match="no watch frame"):
        follower.take(b"+OK")
