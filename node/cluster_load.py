"""A small load for the laboratory's page: so that an outage can be seen, to the millisecond.

    worker i --SET trimaran:lab:i--> node i mod N, one after the other, `rate` a second together
    every 0.25 s   {"kind": "probe", "ok", "failed", "p50", "since"}      to the page
    a gap          {"kind": "outage", "from", "ms"}                       once it is over

An *outage* is a time in which no write at all was acknowledged, from the last one before it to the
first one after it, if that is longer than GAP_MS and than a few writes apart. A worker whose node
is dead or silent goes to the next one; the others go on meanwhile.

Invariants: it runs only while its rate is not 0, which is said by whoever looks at the page (and is
50 at the start of `trimaran cluster --lab`). It writes to keys of its own alone.

Does not do: judge what was answered (that is `trimaran lab`'s), speak TLS.

Proved by: tests/web/test_panel.py, tests/web/test_dashboard.py
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from node.clock import Clock
from node.config_members import Address

__all__ = ["Load"]

TOLD_EVERY_S: Final = 0.25
GAP_MS: Final = 100.0
ANSWER_S: Final = 3.0
_AGAIN_S: Final = 0.05
_WORKERS_PER_NODE_AT: Final = 100
"""One worker more at each node for each so many writes a second of it."""


class Load:
    """Workers, and what became of their writes.

    Args:
        addresses: client ports, one for each node.
        tell: takes what is to be told.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        password: str,
        clock: Clock,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._addresses = list(addresses)
        self._password = password
        self._clock = clock
        self._tell = tell
        self._tasks: list[asyncio.Task[None]] = []
        self._last_ok_s: float | None = None
        self._ok: list[float] = []
        self._failed = 0
        self.rate = 0

    def set_rate(self, rate: int) -> None:
        """So many writes a second from now on; 0: none."""
        self.stop()
        self.rate = rate
        if rate:
            per_node = 1 + rate // len(self._addresses) // _WORKERS_PER_NODE_AT
            count = per_node * len(self._addresses)
            for number in range(count):
                self._tasks.append(asyncio.create_task(self._work(number, count / rate)))
            self._tasks.append(asyncio.create_task(self._report()))

    def stop(self) -> None:
        """No more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self.rate = 0
        self._last_ok_s = None

    async def _work(self, number: int, every_s: float) -> None:
        turn = number
        while True:
            address = self._addresses[turn % len(self._addresses)]
            try:
                await self._write_on(address, number, every_s)
            except (OSError, TimeoutError, EOFError):
                self._failed += 1
            turn += 1
            await asyncio.sleep(_AGAIN_S)

    async def _write_on(self, address: Address, number: int, every_s: float) -> None:
        """Write to this node until something is wrong."""
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            if self._password:
                writer.write(_command(b"AUTH", self._password.encode()))
                await self._answer(reader)
            count = 0
            next_s = self._clock.monotonic()
            while True:
                count += 1
                begun_s = self._clock.monotonic()
                writer.write(_command(b"SET", b"trimaran:lab:%d" % number, b"%d" % count))
                if await self._answer(reader):
                    self._note_ok(begun_s)
                else:
                    self._failed += 1
                next_s = max(next_s + every_s, self._clock.monotonic() - every_s)
                await asyncio.sleep(max(next_s - self._clock.monotonic(), 0))
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        """Whether it was done. EOFError, OSError, TimeoutError: nobody knows."""
        async with asyncio.timeout(ANSWER_S):
            line = await reader.readline()
        if not line:
            raise EOFError
        return line.startswith(b"+")

    def _note_ok(self, begun_s: float) -> None:
        now_s = self._clock.monotonic()
        before_s, self._last_ok_s = self._last_ok_s, now_s
        self._ok.append((now_s - begun_s) * 1000)
        if before_s is None:
            return
        gap_ms = (now_s - before_s) * 1000
        if gap_ms > max(GAP_MS, 5_000 / self.rate):
            at = self._clock.wall_ms() - round(gap_ms)
            self._tell({"kind": "outage", "from": at, "ms": round(gap_ms)})

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            ok, self._ok = sorted(self._ok), []
            failed, self._failed = self._failed, 0
            since_s = self._clock.monotonic() - self._last_ok_s if self._last_ok_s else 0.0
            self._tell(
                {
                    "kind": "probe",
                    "at": self._clock.wall_ms(),
                    "ok": round(len(ok) / TOLD_EVERY_S),
                    "failed": failed,
                    "p50": round(ok[len(ok) // 2], 2) if ok else None,
                    "since": round(since_s * 1000),
                }
            )

    async def close(self) -> None:
        """No more, and wait until it is so."""
        tasks = self._tasks
        self.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _command(*words: bytes) -> bytes:
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)
