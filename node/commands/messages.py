"""SUBSCRIBE, PUBLISH and their kin: node.pubsub knows who listens.

PUBLISH is a write: it goes through the log, reaches the subscribers of every node that is up, and
is answered when it was delivered here, with how many heard it on this node (as Redis Cluster
counts).

Does not do: sharded channels (SSUBSCRIBE, SPUBLISH).

Proved by: tests/node/test_pubsub.py
"""

from __future__ import annotations

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
    "punsubscribe",
    "subscribe",
    "unsubscribe",
]

SUBSCRIPTIONS_MAX: Final = 10_000
"""Of one client."""


def _told(connection: Connection, word: bytes, name: bytes | None) -> bytes:
    """What a client is told of a subscription: the word, the channel, how many it has."""
    head = b">3\r\n" if connection.protocol >= 3 else b"*3\r\n"
    shown = NIL[connection.protocol] if name is None else bulk(name)
    return b"".join((head, bulk(word), shown, integer(connection.subscriptions)))


def _too_many(connection: Connection, request: Request) -> bytes | None:
    if connection.subscriptions + len(request) > SUBSCRIPTIONS_MAX:
        return error_line(f"ERR more than {SUBSCRIPTIONS_MAX} subscriptions")
    if any(len(name) > connection.frontend.key_bytes_max for name in request[1:]):
        return error_line("ERR channel is longer than limits.key_bytes_max")
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


def publish(connection: Connection, request: Request) -> bytes | Plan:
    channel, message = request[1], request[2]
    refused = too_large(connection, channel, message)
    if refused is not None:
        return refused
    operation = WriteCommand.Publish(channel=channel, message=message)
    connection.batch.add(WriteCommand(publish=operation))
    pubsub = connection.frontend.pubsub

    def plan(_result: Any, _protocol: int) -> bytes:
        return integer(pubsub.receivers(channel))

    return plan


def pubsub_channels(connection: Connection, request: Request) -> bytes:
    if len(request) > 3:
        return error_line(
            "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP."
        )
    matches = compile_glob(request[2] if len(request) == 3 else b"*")
    found = [name for name in connection.frontend.pubsub.channels() if matches(name)]
    return encode(found, connection.protocol)


def pubsub_numsub(connection: Connection, request: Request) -> bytes:
    pubsub = connection.frontend.pubsub
    flat = [each for name in request[2:] for each in (name, pubsub.count(name))]
    return encode(flat, connection.protocol)


def pubsub_numpat(connection: Connection, _request: Request) -> bytes:
    return integer(connection.frontend.pubsub.patterns_count)
