"""What all workloads share: keys, values, what the server can do.

Values are unique (client and count), so an answer tells who wrote it; they are padded to
`value_bytes` with dots. Keys are drawn with a skew: weight 1/rank**skew (0: all alike), and
begin with a prefix where the server holds other things.

Revisions cost no round trip of their own, where the server has them (TRI.GET):

    read      TRI.GET key                          the revision that made the value
    change    MULTI, the change, TRI.GET key, EXEC     that of the change itself, if it was done,
                                                   else of what was in its way

`plain_ratio` of the requests go without: what clients mostly send (GET, SET) is judged too.

Proved by: tests/lab/test_workloads.py
"""

from __future__ import annotations

import itertools
import random
from typing import Any, Final

from node.lab.client import Answered, Client, Told
from node.lab.config import WorkloadConfig
from node.lab.connection import ReplyError, Server, ask
from node.lab.history import Operation

__all__ = ["CannotRun", "Workload", "revision_in", "text"]

_PAD: Final = "."
_COUNT: Final = " values"
"""In a client's memory: how many it has written. No key begins with a space."""


class CannotRun(Exception):
    """The server lacks what the workload needs."""


def text(reply: Any) -> str | None:
    """A value as it was before it was padded."""
    if reply is None:
        return None
    if not isinstance(reply, bytes):
        raise TypeError(f"{type(reply).__name__} where a value was expected")
    return reply.decode("utf-8", "backslashreplace").rstrip(_PAD)


def _nothing(_reply: Any) -> None:
    """What an acknowledgement says."""


def revision_in(found: Any) -> int | None:
    """Of TRI.GET's answer: when the key was changed last; None where there is no key."""
    if isinstance(found, ReplyError):
        raise TypeError(str(found))
    return None if found is None else int(found[2])


class Workload:
    """Base: keys, values, what the server can do."""

    def __init__(self, config: WorkloadConfig) -> None:
        self.config = config
        self.has_swap = True
        self.has_revisions = False
        self.prefix = ""
        """Before every key: what else the server holds is not disturbed."""
        self.notes: list[str] = []
        ranks = range(1, config.keys + 1)
        self._weights = list(itertools.accumulate(1 / rank**config.skew for rank in ranks))

    async def prepare(self, server: Server) -> None:
        """Find out what the server can do, and write what has to be there first."""
        reply = await ask(server, "SET", f"{self.prefix}probe", "a", "IFEQ", "b")
        self.has_swap = not isinstance(reply, ReplyError)
        if not self.has_swap:
            self.notes.append("the server has no SET IFEQ: no compare-and-swap")
        wanted = [["TRI.GET", f"{self.prefix}probe"], ["MULTI"]]
        replies = [await ask(server, *words) for words in wanted]
        self.has_revisions = not any(isinstance(reply, ReplyError) for reply in replies)
        if not self.has_revisions:
            self.notes.append("the server tells no revisions (TRI.GET)")

    async def step(self, client: Client) -> None:
        """One operation (or a few that belong together) of one client."""
        raise NotImplementedError

    async def finish(self, client: Client) -> None:
        """Final reads, after everything is healed."""

    def key(self, rng: random.Random, prefix: str) -> str:
        """One of the keys, by the skew."""
        place = rng.choices(range(self.config.keys), cum_weights=self._weights)[0]
        return f"{self.prefix}{prefix}{place}"

    def value(self, client: Client) -> str:
        """One that nobody else ever writes."""
        number = client.memory[_COUNT] = client.memory.get(_COUNT, -1) + 1
        return f"{client.number}-{number}"

    def pad(self, value: str) -> str:
        """To the length that is wanted."""
        return value.ljust(self.config.value_bytes, _PAD)

    def asks(self, client: Client) -> bool:
        """Whether the next request is to tell its revision."""
        return self.has_revisions and client.rng.random() >= self.config.plain_ratio

    async def read(self, client: Client, key: str, decode: Answered = text) -> Operation:
        """GET, or TRI.GET."""
        if not self.asks(client):
            return await client.call("read", key, None, "GET", key, decode=decode)

        def told(found: Any) -> Told:
            return Told(decode(None if found is None else found[0]), revision_in(found))

        return await client.call("read", key, None, "TRI.GET", key, decode=told)

    async def change(
        self,
        client: Client,
        op: str,
        value: Any,
        *words: bytes | str | int,
        decode: Answered = _nothing,
    ) -> Operation:
        """A command that changes one key, which is its second word."""
        key = str(words[1])
        if not self.asks(client):
            return await client.call(op, key, value, *words, decode=decode)

        def told(replies: Any) -> Told:
            done, found = replies[-1]
            if isinstance(done, ReplyError):
                raise done
            return Told(decode(done), revision_in(found))

        commands = [("MULTI",), words, ("TRI.GET", key), ("EXEC",)]
        return await client.call_all(op, key, value, commands, told)
