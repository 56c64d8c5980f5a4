"""Virtual time, and lives: a process that dies leaves callbacks behind which never run.

    SimLoop     an asyncio loop without sockets: the clock jumps to the next timer
    Life        one process of one host. Each callback belongs to the life in whose context it was
                scheduled, or to none (clients, network, faults).
      dead      nothing of it runs again, whatever it was in the middle of: kill -9, power loss
      paused    what falls due waits: SIGSTOP, a long garbage collection

    loop.spawn(life, function, *args)       run it as that process
    life_now()                              whose callback runs at present

Callbacks of the same moment run in the order of one heap, so a seed gives the same order always.
A loop in which nothing will ever happen again raises instead of hanging.

Does not do: sockets, threads, signals: whoever asks for them fails.

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Died", "Life", "SimLoop", "life_now"]

STARTED_AT_S = 1_000.0
TURNS_AT_ONCE_MAX = 50_000
"""So many callbacks without any time passing are a loop that never ends."""


class Died(BaseException):
    """Raised out of a disk operation in which the process died. Nobody may catch it for long."""


class Life:
    """One process. `clock` is its machine's."""

    def __init__(self, host: Any, number: int) -> None:
        self.host = host
        self.number = number
        self.dead = False
        self.paused = False
        self.resumed_s = 0.0
        """When it last went on after a pause, by its machine's clock."""
        self.workers: list[Any] = []
        self.held: deque[Any] = deque()
        self.context = contextvars.copy_context()
        self.context.run(_LIFE.set, self)


_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


def life_now() -> Life | None:
    """The process whose callback runs at present."""
    return _LIFE.get()


class SimLoop(asyncio.BaseEventLoop):
    """See the top of the file. `on_error` is told of exceptions that reached the loop."""

    def __init__(self, on_error: Callable[[Life | None, BaseException | None, str], None]) -> None:
        super().__init__()
        self.now_s = STARTED_AT_S
        self.turns = 0
        self._turns_before = 0
        """How many there were when time last moved."""
        self._on_error = on_error
        self.set_exception_handler(self._told)
        self.set_task_factory(_quiet_task)

    def time(self) -> float:
        return self.now_s

    def spawn(self, life: Life, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a function called as this process."""
        self.call_soon(function, *arguments, context=life.context)

    def resume(self, life: Life) -> None:
        """Let a paused process go on: what fell due meanwhile runs now, in order."""
        life.paused = False
        if life.host is not None:
            life.resumed_s = life.host.clock.monotonic()
        held, life.held = life.held, deque()
        if not life.dead:
            self._ready.extend(held)

    def _told(self, _: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        error = told.get("exception")
        handle, task = told.get("handle"), told.get("task") or told.get("future")
        context = getattr(handle, "_context", None)
        if context is None and isinstance(task, asyncio.Task):
            context = task.get_context() if hasattr(task, "get_context") else None
        life = context.get(_LIFE) if context is not None else None
        if not isinstance(error, Died) and not (life is not None and life.dead):
            self._on_error(life, error, str(told.get("message")))

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                raise AssertionError("nothing will ever happen in this loop again")
            self.now_s = max(self.now_s, timers[0]._when)
            self._turns_before = self.turns
        elif self.turns - self._turns_before > TURNS_AT_ONCE_MAX:
            self._turns_before = self.turns
            self._on_error(None, RuntimeError("time stands still: a livelock"), "")
        end_s = self.now_s
        while timers and timers[0]._when <= end_s:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(_LIFE)
            if life is not None:
                if life.dead:
                    continue
                if life.paused:
                    life.held.append(handle)
                    continue
            self.turns += 1
            handle._run()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def _quiet_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """A task of a process that died is left where it was."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task
