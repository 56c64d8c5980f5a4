"""SUBSCRIBE, PUBLISH and their kin: node.pubsub knows who listens.

PUBLISH is a write: it goes through the log, reaches the subscribers of every node that is up, and
is answered when it was delivered here, with how many heard it on this node (as Redis Cluster
counts).

SSUBSCRIBE and SPUBLISH are for shard channels: what is told of them counts these alone.

Proved by: tests/node/test_pubsub.py
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from node.commands.spec import Plan
from node.commands.strings import too_large
from node.connection import Connection
from node.glob import compile_glob
from node.replies import NIL, bulk, encode, error_line, integer
from node.resp import Request
from statemachine.commands import WriteCommand

__all__ = [
    "psubscribe",
    "publish",
    "pubsub_channels",
    "pubsub_numpat",
    "pubsub_numsub",
    "pubsub_shardchannels",
    "pubsub_shardnumsub",
    "punsubscribe",
    "spublish",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
]

SUBSCRIPTIONS_MAX: Final = 10_000
SUBSCRIPTION_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one client."""


def _told(connection: Connection, word: bytes, name: bytes | None) -> bytes:
    """What a client is told of a subscription: the word, the channel, how many it has."""
    count = len(connection.channels) + len(connection.patterns)
    if word.startswith((b"ssub", b"sunsub")):
        count = len(connection.shards)
    head = b">3\r\n" if connection.protocol >= 3 else b"*3\r\n"
    shown = NIL[connection.protocol] if name is None else bulk(name)
    return b"".join((head, bulk(word), shown, integer(count)))


def _too_many(connection: Connection, request: Request) -> bytes | None:
    if connection.subscriptions + len(request) > SUBSCRIPTIONS_MAX:
        return error_line(f"ERR more than {SUBSCRIPTIONS_MAX} subscriptions")
    if any(len(name) > connection.frontend.key_bytes_max for name in request[1:]):
        return error_line("ERR channel is longer than limits.key_bytes_max")
    names = chain(connection.channels, connection.patterns, connection.shards, request[1:])
    if sum(map(len, names)) > SUBSCRIPTION_BYTES_MAX:
        return error_line(f"ERR subscriptions of more than {SUBSCRIPTION_BYTES_MAX} bytes")
    return None


def subscribe(connection: Connection, request: Request) -> bytes:
    refused = _too_many(connection, request)
    if refused is not None:
        return refused
    told = []
    for channel in request[1:]:
        connection.frontend.pubsub.subscribe(connection, channel)
        told.append(_told(connection, b"subscribe", channel))
    return b"".join(told)


def psubscribe(connection: Connection, request: Request) -> bytes:
    refused = _too_many(connection, request)
    if refused is not None:
        return refused
    told = []
    for pattern in request[1:]:
        connection.frontend.pubsub.subscribe_pattern(connection, pattern)
        told.append(_told(connection, b"psubscribe", pattern))
    return b"".join(told)


def unsubscribe(connection: Connection, request: Request) -> bytes:
    told = []
    for channel in request[1:] or list(connection.channels):
        connection.frontend.pubsub.unsubscribe(connection, channel)
        told.append(_told(connection, b"unsubscribe", channel))
    return b"".join(told) or _told(connection, b"unsubscribe", None)


def punsubscribe(connection: Connection, request: Request) -> bytes:
    told = []
    for pattern in request[1:] or list(connection.patterns):
        connection.frontend.pubsub.unsubscribe_pattern(connection, pattern)
        told.append(_told(connection, b"punsubscribe", pattern))
    return b"".join(told) or _told(connection, b"punsubscribe", None)


def ssubscribe(connection: Connection, request: Request) -> bytes:
    refused = _too_many(connection, request)
    if refused is not None:
        return refused
    told = []
    for channel in request[1:]:
        connection.frontend.pubsub.subscribe(connection, channel, sharded=True)
        told.append(_told(connection, b"ssubscribe", channel))
    return b"".join(told)


def sunsubscribe(connection: Connection, request: Request) -> bytes:
    told = []
    for channel in request[1:] or list(connection.shards):
        connection.frontend.pubsub.unsubscribe(connection, channel, sharded=True)
        told.append(_told(connection, b"sunsubscribe", channel))
    return b"".join(told) or _told(connection, b"sunsubscribe", None)


def _publish(connection: Connection, request: Request, *, sharded: bool) -> bytes | Plan:
    channel, message = request[1], request[2]
    refused = too_large(connection, channel, message)
    if refused is not None:
        return refused
    operation = WriteCommand.Publish(channel=channel, message=message, sharded=sharded)
    connection.batch.add(WriteCommand(publish=operation))
    pubsub = connection.frontend.pubsub

    def plan(_result: Any, _protocol: int) -> bytes:
        if sharded:
            return integer(pubsub.count(channel, sharded=True))
        return integer(pubsub.receivers(channel))

    return plan


def publish(connection: Connection, request: Request) -> bytes | Plan:
    return _publish(connection, request, sharded=False)


def spublish(connection: Connection, request: Request) -> bytes | Plan:
    return _publish(connection, request, sharded=True)


def _channels(connection: Connection, request: Request, *, sharded: bool) -> bytes:
    if len(request) > 3:
        word = request[1].decode("ascii", "replace").upper()
        return error_line(
            f"ERR unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP."
        )
    matches = compile_glob(request[2] if len(request) == 3 else b"*")
    names = connection.frontend.pubsub.channels(sharded=sharded)
    return encode([name for name in names if matches(name)], connection.protocol)


def _numsub(connection: Connection, request: Request, *, sharded: bool) -> bytes:
    pubsub = connection.frontend.pubsub
    flat = [each for name in request[2:] for each in (name, pubsub.count(name, sharded=sharded))]
    return encode(flat, connection.protocol)


def pubsub_channels(connection: Connection, request: Request) -> bytes:
    return _channels(connection, request, sharded=False)


def pubsub_shardchannels(connection: Connection, request: Request) -> bytes:
    return _channels(connection, request, sharded=True)


def pubsub_numsub(connection: Connection, request: Request) -> bytes:
    return _numsub(connection, request, sharded=False)


def pubsub_shardnumsub(connection: Connection, request: Request) -> bytes:
    return _numsub(connection, request, sharded=True)


def pubsub_numpat(connection: Connection, _request: Request) -> bytes:
    return integer(connection.frontend.pubsub.patterns_count)
