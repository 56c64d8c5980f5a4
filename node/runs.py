r"""Runs: requests of one kind that go to the service together, and their replies.

    requests --plan_writes--> steps (and the batch is filled)   steps, results --> replies
    requests --put_columns--> keys, values                      n results      --> +OK n times
    keys     --get_many-----> values                            values         --> replies

A step is a reply that is ready (a mistake was found), or a plan, the slot that its result will
have, and the command that asked. Runs of plain SETs and of GETs, which is what pipelines
are made of, are handled as columns: no Python code runs for each of them.

Invariants: a run has at most RUN_COMMANDS_MAX requests and, unless it is one request,
RUN_BYTES_MAX bytes; so a batch that was not full stays below entry_bytes_max plus what it held.
A request gets one step. Key and value limits hold on both ways.

Does not do: wait, keep order between runs (node.session).

Proved by: tests/node/test_session.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from node.commands import Command, Control, Kind, Plan, find, first_key, key_slot
from node.connection import Connection, Frontend
from node.errors import NotLeader
from node.replies import NIL, error_line, error_reply, refusal_line
from node.resp import Request
from statemachine.commands import BatchBuilder
from statemachine.store import Refusal

__all__ = [
    "RUN_BYTES_MAX",
    "RUN_COMMANDS_MAX",
    "Step",
    "failure_reply",
    "fitting",
    "is_gets",
    "oversized_reply",
    "plan_writes",
    "put_columns",
    "value_replies",
    "write_replies",
]

RUN_COMMANDS_MAX: Final = 4_096
RUN_BYTES_MAX: Final = 256 * 1024
"""A run ends before the request with which it would exceed this."""

Step = bytes | tuple[Plan, int, Command]

_WRITE: Final = Kind.WRITE
_NAME: Final = itemgetter(0)
_SETS: Final = frozenset({b"SET", b"set"})
_GETS: Final = frozenset({b"GET", b"get"})


def is_gets(requests: Sequence[Request]) -> bool:
    """Whether all are GETs of one key."""
    return _GETS.issuperset(map(_NAME, requests)) and set(map(len, requests)) == {2}


def put_columns(
    requests: Sequence[Request], bytes_max: int, frontend: Frontend
) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
    """Keys and values of SETs without options. None: they are others, or too many, or too large.

    Args:
        bytes_max: the requests have at most so many bytes together.
    """
    if len(requests) == 1 and bytes_max <= frontend.small_bytes_max:
        request = requests[0]
        if len(request) == 3 and request[0] in _SETS:
            return request[1:2], request[2:]
        return None
    if (
        bytes_max > RUN_BYTES_MAX
        or len(requests) > RUN_COMMANDS_MAX
        or not _SETS.issuperset(map(_NAME, requests))
        or set(map(len, requests)) != {3}
    ):
        return None
    _, keys, values = zip(*requests, strict=True)
    if bytes_max > frontend.small_bytes_max and (
        max(map(len, keys)) > frontend.key_bytes_max
        or max(map(len, values)) > frontend.value_bytes_max
    ):
        return None
    return keys, values


def plan_writes(
    connection: Connection, batch: BatchBuilder, queue: Sequence[Request], at: int
) -> list[Step]:
    """Put the run of writes that begins at `at` into the batch. At least one request is a write."""
    steps: list[Step] = []
    run_bytes = 0
    for place in range(at, min(len(queue), at + RUN_COMMANDS_MAX)):
        request = queue[place]
        command = find(request)
        if isinstance(command, bytes) or command.kind is not _WRITE:
            break
        run_bytes += sum(map(len, request))
        if steps and run_bytes > RUN_BYTES_MAX:
            break
        assert command.handler is not None
        slot = batch.width
        plan = command.handler(connection, request)
        assert not isinstance(plan, Control)
        steps.append(plan if isinstance(plan, bytes) else (plan, slot, command))
    return steps


def write_replies(steps: Sequence[Step], results: Sequence[Any], protocol: int) -> Iterator[bytes]:
    """A reply for each step."""
    for step in steps:
        if isinstance(step, bytes):
            yield step
            continue
        plan, slot, command = step
        result = results[slot]
        if isinstance(result, Refusal):
            yield refusal_line(result, command.name)
        else:
            yield plan(result, protocol)


def fitting(values: list[bytes | None], bytes_max: int) -> list[bytes | None]:
    """The first of them, up to the one that makes them longer than `bytes_max`."""
    if sum(map(len, filter(None, values))) <= bytes_max:
        return values
    ends = accumulate(len(value or b"") for value in values)
    return values[: 1 + next(place for place, end in enumerate(ends) if end > bytes_max)]


def value_replies(values: Sequence[bytes | None], protocol: int) -> bytes:
    """The replies of as many GETs."""
    there = [one for one in values if one is not None]
    if len(there) < len(values):
        nil = NIL[protocol]
        return b"".join(
            [nil if one is None else b"$%d\r\n%b\r\n" % (len(one), one) for one in values]
        )
    lengths = set(map(len, there))
    if len(lengths) > 1:
        return b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in there])
    # Values of one length, as many applications have them, are joined without a loop.
    head = b"$%d\r\n" % lengths.pop()
    return b"".join((head, (b"\r\n" + head).join(there), b"\r\n"))


def failure_reply(error: Exception, request: Request, key: bytes | None = None) -> bytes:
    """What a request is told that could not be carried out. `key`: of one that names none."""
    slot = 0
    if isinstance(error, NotLeader):
        command = find(request)
        if key is None and not isinstance(command, bytes):
            key = first_key(command, request)
        slot = key_slot(key or b"")
    return error_reply(error, slot)


def oversized_reply(limit_bytes: int) -> bytes:
    """What a request is told that was too large to be kept."""
    return error_line(f"ERR command of more than limits.entry_bytes_max ({limit_bytes} bytes)")
