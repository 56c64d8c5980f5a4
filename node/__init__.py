"""Trimaran's node: one replica of a replicated key-value store.

    from node import Config, Node

    async with Node(Config.load("configs/cluster/n1.toml")) as node:
        await node.set(b"k", b"v", ttl_ms=5000)

The rooms, in the way of a write: server, session, commands (the RESP port) -> service,
batches -> raft (PySyncObj, fenced by transport and elections) -> journal, links ->
statemachine. README.md in this folder is the tour.

Names are imported when they are first asked for: `trimaran get` needs no consensus library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.app import Node
    from node.config import Config
    from node.errors import (
        ConfigError,
        Fatal,
        KVError,
        NotLeader,
        OutcomeUnknown,
        Rejected,
        Unavailable,
    )

__all__ = [
    "Config",
    "ConfigError",
    "Fatal",
    "KVError",
    "Node",
    "NotLeader",
    "OutcomeUnknown",
    "Rejected",
    "Unavailable",
]

_HOMES = {"Node": "node.app", "Config": "node.config"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "node.errors")), name)
