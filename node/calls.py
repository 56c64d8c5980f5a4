"""The in-process interface: what a Python program asks of a node in its own loop.

    await node.set(key, value, ttl_ms=..., if_absent=True)     writes: one slot of a batch each
    await node.get(key, consistency="linearizable")            reads: granted, then served

Keys and values are bytes, times are milliseconds. Every call goes through the node's service,
as the RESP port does: all calls of one loop turn share one Raft entry or one read round.

Errors (node.errors), by what the caller may do next:
    Rejected        the call is wrong, wherever it is made: too long, not a number, ...
    Unavailable     certainly not applied (no leader in time, node not started): retry
    OutcomeUnknown  proposed, answer lost: retry only what may happen twice
    Fatal           this node has stopped for good

Does not do: retry (the service does, by identity), count clients.

Proved by: tests/node/test_node.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from node.config import Config
from node.errors import KVError, Rejected, Unavailable
from node.reads import Level
from node.service import Service
from statemachine import Refusal, Scan
from statemachine.commands import Condition, WriteCommand

__all__ = ["Calls"]

_I64_MAX: Final = 2**63 - 1


class _Call:
    """One caller that waits: for its slots of a batch, or for a granted read."""

    __slots__ = ("_future", "_serve")

    def __init__(self, serve: Callable[[], Any] | None = None) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._serve = serve

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        result = results[start]
        if isinstance(result, Refusal):
            self.fail(Rejected(result.text))
        elif not self._future.done():
            self._future.set_result(result)

    def ready(self) -> None:
        assert self._serve is not None
        if not self._future.done():
            try:
                self._future.set_result(self._serve())
            except KVError as error:
                self._future.set_exception(error)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def __await__(self) -> Any:
        return self._future.__await__()


def _check_number(name: str, number: int) -> None:
    if not -_I64_MAX <= number <= _I64_MAX:
        raise Rejected(f"{name} of {number} is out of range")


class Calls:
    """The calls of class Node."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._service: Service | None = None

    # -- writes -----------------------------------------------------------------------------

    async def set(
        self,
        key: bytes,
        value: bytes,
        *,
        ttl_ms: int | None = None,
        keep_ttl: bool = False,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> bool:
        """Write a key; whether it was written (always, without a condition).

        Args:
            ttl_ms: lifetime on the replicated clock; None: for ever.
            keep_ttl: leave the lifetime as it is.
            if_absent, if_present: write only then.
        """
        if ttl_ms is not None and (keep_ttl or not 0 < ttl_ms <= _I64_MAX):
            raise Rejected("ttl_ms must be positive, in range, and not together with keep_ttl")
        if if_absent and if_present:
            raise Rejected("if_absent and if_present exclude each other")
        self._check(key, value)
        condition = Condition.ALWAYS
        if if_absent:
            condition = Condition.IF_ABSENT
        elif if_present:
            condition = Condition.IF_PRESENT
        insert = WriteCommand.Insert(
            key=key, value=value, ttl_ms=ttl_ms or 0, keep_ttl=keep_ttl, condition=condition
        )
        return bool(await self._write(WriteCommand(insert=insert)))

    async def delete(self, *keys: bytes) -> int:
        """Remove keys; how many were there."""
        for key in keys:
            self._check(key)
        command = WriteCommand(delete_keys=WriteCommand.DeleteKeys(keys=keys))
        return int(await self._write(command))

    async def cas(self, key: bytes, expected: bytes | None, new: bytes) -> bool:
        """Swap the value if it equals `expected` (None: if the key is absent)."""
        self._check(key, new)
        swap = WriteCommand.CompareAndSwap(key=key, expected_value=expected, new_value=new)
        return bool(await self._write(WriteCommand(compare_and_swap=swap)))

    async def increment(self, key: bytes, delta: int = 1) -> int:
        """Add to a decimal number (an absent key is 0); the sum."""
        self._check(key)
        _check_number("delta", delta)
        command = WriteCommand(add=WriteCommand.Add(key=key, delta=delta))
        return int(await self._write(command))

    async def expire(self, key: bytes, ttl_ms: int) -> bool:
        """Give a key a lifetime; whether it was there. Without one left (<= 0) it is removed."""
        self._check(key)
        _check_number("ttl_ms", ttl_ms)
        command = WriteCommand(expire=WriteCommand.Expire(key=key, ttl_ms=ttl_ms))
        return bool(await self._write(command))

    async def persist(self, key: bytes) -> bool:
        """Take a key's lifetime away; whether it had one."""
        self._check(key)
        return bool(await self._write(WriteCommand(persist=WriteCommand.Persist(key=key))))

    async def _write(self, command: WriteCommand) -> Any:
        service = self._started()
        entry_bytes_max = self._config.limits.entry_bytes_max
        if command.ByteSize() > entry_bytes_max:
            raise Rejected(f"command of {command.ByteSize()} bytes, {entry_bytes_max} allowed")
        call = _Call()
        batch = service.batch
        start = batch.width
        batch.add(command)
        service.submit(call, start, batch.width)
        return await call

    def _check(self, key: bytes, value: bytes = b"") -> None:
        limits = self._config.limits
        if len(key) > limits.key_bytes_max:
            raise Rejected(f"key of {len(key)} bytes, {limits.key_bytes_max} allowed")
        if len(value) > limits.value_bytes_max:
            raise Rejected(f"value of {len(value)} bytes, {limits.value_bytes_max} allowed")

    # -- reads ------------------------------------------------------------------------------

    async def get(self, key: bytes, *, consistency: str | None = None) -> bytes | None:
        """The value, or None. `consistency`: linearizable, lease or eventual."""
        machine = self._started().machine
        return await self._read(consistency, lambda: machine.get(key))  # type: ignore[no-any-return]

    async def get_many(
        self, keys: Sequence[bytes], *, consistency: str | None = None
    ) -> list[bytes | None]:
        """Values in the order of the keys, of one moment; None where there is none."""
        machine = self._started().machine
        return await self._read(consistency, lambda: machine.get_many(keys))  # type: ignore[no-any-return]

    async def ttl_ms(self, key: bytes, *, consistency: str | None = None) -> int | None:
        """Milliseconds that a key has left; None when it has no lifetime or is absent."""
        service = self._started()

        def left() -> int | None:
            deadline_ms = service.machine.deadline_ms(key)
            return None if deadline_ms is None else max(deadline_ms - service.now_ms(), 0)

        return await self._read(consistency, left)  # type: ignore[no-any-return]

    async def scan(
        self,
        prefix: bytes = b"",
        *,
        limit: int | None = None,
        after: bytes | None = None,
        consistency: str | None = None,
    ) -> Scan:
        """Keys with a prefix, in order, with values and the revision."""
        machine = self._started().machine
        return await self._read(  # type: ignore[no-any-return]
            consistency, lambda: machine.scan_prefix(prefix, limit=limit, after=after)
        )

    async def _read(self, consistency: str | None, serve: Callable[[], Any]) -> Any:
        try:
            level = Level(consistency or self._config.client.consistency)
        except ValueError:
            known = ", ".join(level.value for level in Level)
            raise Rejected(f"consistency {consistency!r} is not one of {known}") from None
        call = _Call(serve)
        self._started().read(level, call)
        return await call

    # -- orders and facts ---------------------------------------------------------------------

    async def transfer(self, node_id: str | None = None) -> str:
        """Hand leadership over (this node must lead); the id of the new leader."""
        call = _Call()
        self._started().transfer(node_id, call)
        leader_id: bytes = await call
        return leader_id.decode()

    async def snapshot(self) -> str:
        """Make a snapshot; its "index-term" once it is durable."""
        call = _Call()
        self._started().snapshot(call)
        name: bytes = await call
        return name.decode()

    def status(self) -> dict[str, Any]:
        """What `trimaran status --json` shows of this node."""
        return self._started().status()

    def digest(self) -> tuple[int, str]:
        """Applied index and SHA-256 of the whole state: equal on replicas at equal indexes."""
        return self._started().digest()

    def _started(self) -> Service:
        if self._service is None:
            raise Unavailable("the node is not running")
        return self._service
