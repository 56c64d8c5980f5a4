"""What all workloads share: keys, values, what the server can do.

Values are unique (client and count), so an answer tells who wrote it; they are padded to
`value_bytes` with dots. Keys are drawn with a skew: weight 1/rank**skew (0: all alike), and
begin with a prefix where the server holds other things.

Proved by: tests/lab/test_workloads.py
"""

from __future__ import annotations

import itertools
import random
from typing import Any, Final

from node.lab.client import Client
from node.lab.config import WorkloadConfig
from node.lab.connection import ReplyError, Server, ask
from node.lab.history import Operation

__all__ = ["CannotRun", "Workload", "text"]

_PAD: Final = "."


class CannotRun(Exception):
    """The server lacks what the workload needs."""


def text(reply: Any) -> str | None:
    """A value as it was before it was padded."""
    if reply is None:
        return None
    if not isinstance(reply, bytes):
        raise TypeError(f"{type(reply).__name__} where a value was expected")
    return reply.decode("utf-8", "backslashreplace").rstrip(_PAD)


class Workload:
    """Base: keys, values, what the server can do."""

    def __init__(self, config: WorkloadConfig) -> None:
        self.config = config
        self.has_swap = True
        self.prefix = ""
        """Before every key: what else the server holds is not disturbed."""
        self.notes: list[str] = []
        ranks = range(1, config.keys + 1)
        self._weights = list(itertools.accumulate(1 / rank**config.skew for rank in ranks))
        self._count = itertools.count()

    async def prepare(self, server: Server) -> None:
        """Find out what the server can do, and write what has to be there first."""
        reply = await ask(server, "SET", f"{self.prefix}probe", "a", "IFEQ", "b")
        self.has_swap = not isinstance(reply, ReplyError)
        if not self.has_swap:
            self.notes.append("the server has no SET IFEQ: no compare-and-swap")

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
        return f"{client.number}-{next(self._count)}"

    def pad(self, value: str) -> str:
        """To the length that is wanted."""
        return value.ljust(self.config.value_bytes, _PAD)

    async def read(self, client: Client, key: str) -> Operation:
        """GET."""
        return await client.call("read", key, None, "GET", key, decode=text)
