"""Clients under chaos: each asks one node, again and again, and notes what it was told.

    told OK            it happened, once
    CLUSTERDOWN, ...   Unavailable: it certainly did not
    UNKNOWN, or the    it may have happened, once, at any time from then on
    connection died

    Unique     SET of a key of its own, to a value that nobody else writes
    Appends    a common list that grows by compare-and-set: each id once, in all or in none
    Counters   INCR of a common counter
    Leases     SET with a TTL: there while it lasts, gone after it
    Registers  SET, GET, SET..IFEQ on a few keys, with the times: checked by registers.py

`problems(client)` says what is wrong once everything is healed.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from tests.support.chaos.registers import NEVER, Operation, is_linearizable
from tests.support.cluster import Cluster, NodeProcess

__all__ = ["Appends", "Client", "Counters", "Leases", "Registers", "Unique"]

_UNAVAILABLE = ("CLUSTERDOWN", "LOADING", "BUSY", "TRYAGAIN")
_TIMEOUT_S = 15.0
_LATE_MS = 5_000
"""A lease goes with a commit after its deadline: it may be there for so long without a leader."""


def _values(client: redis.Redis, keys: list[str]) -> list[tuple[str, bytes | None]]:
    """Many keys with their values, some hundred for each round trip."""
    found: list[tuple[str, bytes | None]] = []
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        found += zip(part, client.mget(part), strict=True)
    return found


class Unknown(Exception):
    """It may have happened."""


class Refused(Exception):
    """It certainly did not."""


class Client(threading.Thread):
    """One client of one node, until `stopping`."""

    def __init__(self, node: NodeProcess, number: int, stopping: threading.Event) -> None:
        super().__init__(name=f"{type(self).__name__}-{number}-of-{node.id}", daemon=True)
        self.node = node
        self.number = number
        self.stopping = stopping
        self.rng = random.Random(number)
        self.told: Counter[str] = Counter()
        self.surprises: list[str] = []
        """Errors that nobody should ever be told."""
        self.pause_s = 0.002
        self._redis: redis.Redis | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self.step()
                except (Unknown, Refused):
                    self.stopping.wait(0.05)
                self.stopping.wait(self.pause_s)
        except Exception as error:  # noqa: BLE001 - shown in the verdict
            self.surprises.append(f"{self.name}: {error!r}")

    def step(self) -> None:
        """One round. Unknown and Refused may leave it."""
        raise NotImplementedError

    def ask(self, *words: object) -> Any:
        """The answer of the node.

        Raises:
            Refused, Unknown.
        """
        try:
            if self._redis is None:
                self._redis = self.node.connect(2, _TIMEOUT_S)
                self._redis.ping()
        except redis.RedisError as error:
            self._redis = None
            self.told["no connection"] += 1
            raise Refused from error
        try:
            answer = self._redis.execute_command(*words)
        except redis.ResponseError as error:
            word = str(error).partition(" ")[0]
            name = type(error).__name__
            if word in _UNAVAILABLE or name in ("ClusterDownError", "BusyLoadingError"):
                self.told["unavailable"] += 1
                raise Refused from error
            if word != "UNKNOWN":
                self.surprises.append(f"{self.name}: {words[0]!r}: {error}")
            self.told["unknown"] += 1
            raise Unknown from error
        except redis.RedisError as error:
            if "loading" in str(error).lower() or "CLUSTERDOWN" in str(error):
                self.told["unavailable"] += 1
                raise Refused from error
            self._redis.close()
            self._redis = None
            self.told["connection lost"] += 1
            raise Unknown from error
        self.told["ok"] += 1
        return answer

    def close(self) -> None:
        """End the connection, when the thread has ended."""
        if self._redis is not None:
            self._redis.close()


class Unique(Client):
    """Writes of keys of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.acked: list[int] = []
        self.refused: set[int] = set()
        self._next = 0

    def step(self) -> None:
        number = self._next
        self._next += 1
        try:
            self.ask("SET", f"u{self.number}-{number}", f"value {number} of {self.number}")
        except Refused:
            self.refused.add(number)
            raise
        self.acked.append(number)

    def problems(self, client: redis.Redis) -> list[str]:
        """What is lost; what is there though it was refused."""
        acked = {f"u{self.number}-{n}": f"value {n} of {self.number}" for n in self.acked}
        found = [
            f"{key} was acknowledged and is {got!r}"
            for key, got in _values(client, list(acked))
            if got != acked[key].encode()
        ]
        refused = _values(client, [f"u{self.number}-{n}" for n in sorted(self.refused)])
        return found + [
            f"{key} was refused and is there" for key, got in refused if got is not None
        ]


class Appends(Client):
    """A common list, by compare-and-set."""

    KEY_ENTRIES = 300

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.acked: list[tuple[str, str]] = []
        self.unknown: set[tuple[str, str]] = set()
        self._next = 0
        self._list = 0
        self.pause_s = 0.01

    def step(self) -> None:
        key = f"list{self._list}"
        old = self.ask("GET", key)
        if old is not None and old.count(b" ") >= self.KEY_ENTRIES:
            self._list += 1
            return
        self._next += 1
        word = f"{self.number}.{self._next}"
        new = (old or b"") + word.encode() + b" "
        condition = ["NX"] if old is None else ["IFEQ", old]
        try:
            if self.ask("SET", key, new, *condition) is not None:
                self.acked.append((key, word))
        except Unknown:
            self.unknown.add((key, word))
            raise

    def problems(self, client: redis.Redis) -> list[str]:
        found = []
        lists = {
            key: (client.get(key) or b"").decode().split() for key in {k for k, _ in self.acked}
        }
        for key, words in lists.items():
            twice = [word for word, count in Counter(words).items() if count > 1]
            found += [f"{word} is in {key} twice" for word in twice]
            own = [word for word in words if word.startswith(f"{self.number}.")]
            numbers = [int(word.partition(".")[2]) for word in own]
            if numbers != sorted(numbers):
                found.append(f"{key}: appends of client {self.number} out of order: {numbers}")
            known = set(self.acked) | self.unknown
            found += [
                f"{key}: {word} was never acknowledged" for word in own if (key, word) not in known
            ]
        found += [f"{key}: {word} is lost" for key, word in self.acked if word not in lists[key]]
        return found


class Counters(Client):
    """A common counter."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[int] = []
        self.unknown = 0

    def step(self) -> None:
        try:
            self.seen.append(int(self.ask("INCR", "counter")))
        except Unknown:
            self.unknown += 1
            raise

    @staticmethod
    def total_problems(counters: list[Counters], client: redis.Redis) -> list[str]:
        """Every number was told once; the total is what was told and at most what is unknown."""
        seen = [number for counter in counters for number in counter.seen]
        unknown = sum(counter.unknown for counter in counters)
        total = int(client.get("counter") or 0)
        found = [f"{n} was told twice" for n, count in Counter(seen).items() if count > 1]
        if not len(seen) <= total <= len(seen) + unknown:
            found.append(f"counter is {total}: {len(seen)} acknowledged, {unknown} unknown")
        falling = [each.name for each in counters if each.seen != sorted(each.seen)]
        return found + [f"{name} was told numbers that fall" for name in falling]


class Leases(Client):
    """Keys that expire."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._next = 0
        self.given: list[tuple[str, float]] = []
        self.early: list[str] = []
        self.pause_s = 0.02

    def step(self) -> None:
        self._next += 1
        key = f"t{self.number}-{self._next}"
        ttl_ms = self.rng.randrange(1_000, 4_000)
        asked_s = time.monotonic()
        self.ask("SET", key, "leased", "PX", ttl_ms)
        self.given.append((key, time.monotonic() + ttl_ms / 1000))
        if self.ask("GET", key) is None and time.monotonic() < asked_s + ttl_ms / 1000:
            self.early.append(
                f"{key} was gone within {time.monotonic() - asked_s:.3f} s, {ttl_ms=}"
            )

    def problems(self, client: redis.Redis) -> list[str]:
        """Run it _LATE_MS after the last one was given and everything is healed."""
        left = [
            key for key, got in _values(client, [key for key, _ in self.given]) if got is not None
        ]
        return self.early + [f"{key} never expired" for key in left]


class Registers(Client):
    """Reads, writes and compare-and-set on a few keys, with their times."""

    KEY_OPERATIONS = 400
    KEYS = 3

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.history: dict[str, list[Operation]] = {}
        self._next = 0
        self._last: dict[str, bytes | None] = {}
        self.pause_s = 0.01

    def step(self) -> None:
        # All clients change to the next keys at about the same time: histories stay short.
        era = int(time.monotonic() / 8)
        key = f"r{era}-{self.rng.randrange(self.KEYS)}"
        self._next += 1
        value = f"{self.number}.{self._next}".encode()
        kind = self.rng.choice(["read", "read", "write", "cas"])
        called_s = time.monotonic()
        if kind == "read":
            found = self.ask("GET", key)
            self._last[key] = found
            self._note(key, Operation("read", called_s, time.monotonic(), found))
            return
        expected = self._last.get(key)
        if kind == "cas" and expected is None:
            kind = "write"
        words = ["SET", key, value] + (["IFEQ", expected] if kind == "cas" else [])
        try:
            done = self.ask(*words) is not None
        except Unknown:
            self._note(key, Operation(kind, called_s, NEVER, value, expected))
            raise
        back_s = time.monotonic()
        self._note(key, Operation(kind, called_s, back_s, value, expected, done))
        if done:
            self._last[key] = value

    def _note(self, key: str, operation: Operation) -> None:
        self.history.setdefault(key, []).append(operation)

    @staticmethod
    def merged(clients: list[Registers]) -> dict[str, list[Operation]]:
        """The operations on each key, of all clients."""
        found: dict[str, list[Operation]] = {}
        for client in clients:
            for key, operations in client.history.items():
                found.setdefault(key, []).extend(operations)
        return found

    @staticmethod
    def history_problems(clients: list[Registers]) -> list[str]:
        merged = Registers.merged(clients)
        bad = [key for key, each in merged.items() if not is_linearizable(each)]
        return [f"{key}: {len(merged[key])} operations are not linearizable" for key in bad]

    @staticmethod
    def keep(clients: list[Registers], path: Path) -> None:
        """Write the histories down, one operation a line."""
        with path.open("w") as file:
            for key, operations in Registers.merged(clients).items():
                for each in sorted(operations, key=lambda operation: operation.called_s):
                    line = [
                        key,
                        each.kind,
                        each.called_s,
                        each.back_s if each.back_s != NEVER else None,
                    ]
                    line += [str(each.value), str(each.expected), each.told]
                    file.write(json.dumps(line) + "\n")


def clients_of(cluster: Cluster, stopping: threading.Event) -> list[Client]:
    """One of each kind for each node."""
    kinds = (Unique, Appends, Counters, Leases, Registers)
    nodes = cluster.nodes
    return [
        kind(node, 10 * place + number, stopping)
        for place, kind in enumerate(kinds)
        for number, node in enumerate(nodes)
    ]
