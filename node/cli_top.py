"""`trimaran top`: the dashboard in a terminal, live.

     Trimaran   n2 leads, term 7 · n1 away                                       14:03:22

     node  role      term   commit  applied  lag  req/s              write ms    loop  clients
     n1    down: refused
     n2    leader       7   41,230   41,230    0    812  ▁▂▅▇▇▆▇▇▇   1.2 / 4.0    0.4       12
     n3    follower     7   41,230   41,229    1    790  ▁▁▄▇▇▆▇▇▇   1.3 / 4.1    0.3       11

     14:03:19.412  n2  leader ready  term=7  index=41190

Who the members are is asked at a client port (--connect); then every node's stream is read at its
HTTP port, all of them at once, so it goes on whichever of them dies. A token is read from
$TRIMARAN_HTTP_TOKEN. q or Ctrl-C ends it. `--once` prints one picture, when all have been heard.

A crash leaves nothing behind but a terminal that `reset` mends.

Does not do: change anything.

Proved by: tests/web/test_top.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from node.clock import Clock
from node.config_members import Address
from node.errors import Unavailable
from node.web.fan_in import FanIn

__all__ = ["Screen", "top"]

REFRESH_S: Final = 0.25
ONCE_S: Final = 3.0
SPARKS: Final = 16
EVENTS: Final = 12
_BARS: Final = " ▁▂▃▄▅▆▇█"
_COLOURS: Final = ("cyan", "magenta", "yellow", "blue", "green", "red")
_LEVELS: Final = {"warning": "yellow", "error": "bold red"}
_HIDDEN: Final = {"kind", "node", "at", "level", "event"}


@dataclass(slots=True)
class _Row:
    """What is known of one node."""

    sample: dict[str, Any] | None = None
    down: str = ""
    ops: deque[float] = field(default_factory=lambda: deque(maxlen=SPARKS))


class Screen:
    """Messages of a fan-in, and what they look like. Pure."""

    def __init__(self, ids: list[str]) -> None:
        self._rows = {each: _Row() for each in sorted(ids)}
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.at_ms = 0

    @property
    def is_whole(self) -> bool:
        """Whether every node has said something, or is known to be silent."""
        return all(row.sample is not None or row.down for row in self._rows.values())

    def take(self, message: dict[str, Any]) -> None:
        """One message."""
        name, kind = str(message.get("node", "")), message["kind"]
        row = self._rows.setdefault(name, _Row()) if name else _Row()
        if kind == "history":
            for each in message["samples"][-SPARKS:]:
                self._sample(row, each)
            for each in message["events"][-EVENTS:]:
                self._event(each)
        elif kind == "sample":
            self._sample(row, message)
        elif kind == "event":
            self._event(message)
        elif kind == "down":
            if not row.down and row.sample is not None:
                self._event(message | {"level": "error", "event": "does not answer"})
            row.down = str(message["reason"])
        elif kind == "gone":
            self._rows.pop(name, None)

    def _sample(self, row: _Row, sample: dict[str, Any]) -> None:
        row.sample, row.down = sample, ""
        row.ops.append(float(sample["ops"]))
        self.at_ms = max(self.at_ms, int(sample["at"]))

    def _event(self, event: dict[str, Any]) -> None:
        kept = [each for each in self._events if each != event]
        self._events = deque(sorted([*kept, event], key=lambda each: int(each["at"])), EVENTS)

    def leader(self) -> tuple[str, int] | None:
        """(id, term) of whom more than half of the nodes follow."""
        rows = self._rows.values()
        votes = [row.sample["leader"] for row in rows if row.sample and not row.down]
        for name, row in self._rows.items():
            leads = row.sample and not row.down and row.sample["role"] == "leader"
            if leads and votes.count(name) * 2 > len(self._rows):
                return name, int(row.sample["term"])  # type: ignore[index]  # it has one: `leads`
        return None

    def picture(self) -> Group:
        """All of it, for rich."""
        return Group(self._headline(), self._table(), self._log())

    def _headline(self) -> Text:
        line = Text("\n ").append("Trimaran", style="bold").append("   ")
        leader = self.leader()
        if leader is None:
            line.append("nobody leads", style="bold red")
        else:
            line.append(f"{leader[0]} leads", style="bold green").append(f", term {leader[1]}")
        away = [name for name, row in self._rows.items() if row.down]
        if away:
            line.append(f" · {', '.join(away)} away", style="red")
        if self.at_ms:
            line.append(f"   {_time(self.at_ms)[:8]}", style="dim")
        return line

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column(" node", no_wrap=True)
        table.add_column("role", no_wrap=True)
        for name in ("term", "commit", "applied", "lag", "req/s"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", min_width=SPARKS, no_wrap=True)
        for name in ("write ms", "loop", "keys", "leases", "clients"):
            table.add_column(name, justify="right", no_wrap=True)
        leader = self.leader()
        committed = self._rows[leader[0]].sample["commit"] if leader else None  # type: ignore[index]
        most = max((max(row.ops, default=0.0) for row in self._rows.values()), default=0.0)
        for place, (name, row) in enumerate(self._rows.items()):
            style = _COLOURS[place % len(_COLOURS)]
            title = Text(f" {name}", style=f"bold {style}")
            if row.down or row.sample is None:
                said = f"down: {row.down}" if row.down else "..."
                table.add_row(title, Text(said, style="red" if row.down else "dim"))
            else:
                table.add_row(title, *_cells(row, committed, most, style))
        return table

    def _log(self) -> Text:
        text = Text()
        places = list(self._rows)
        for each in reversed(self._events):
            name = str(each["node"])
            colour = _COLOURS[places.index(name) % len(_COLOURS)] if name in places else ""
            text.append(f" {_time(int(each['at']))}  ", style="dim")
            text.append(f"{name:<4}", style=colour)
            text.append(str(each["event"]), style=_LEVELS.get(str(each["level"]), ""))
            shown = {k: v for k, v in each.items() if k not in _HIDDEN and v not in (None, "")}
            text.append("  " + "  ".join(f"{k}={v}" for k, v in shown.items()) + "\n", style="dim")
        return text


def _cells(row: _Row, committed: int | None, most: float, style: str) -> list[Text]:
    sample = row.sample
    assert sample is not None
    lag = max((committed or 0) - int(sample["applied"]), 0)
    role = str(sample["role"])
    words = [f"{sample[name]:,}" for name in ("term", "commit", "applied")]
    slow = f"{_ms(sample['write_p50'])} / {_ms(sample['write_p99'])}"
    counts = [f"{sample[name]:,}" for name in ("keys", "leases", "clients")]
    rest = [slow, _ms(sample["lag_p99"]), *counts]
    return [
        Text(role, style="bold green" if role == "leader" else ""),
        *map(Text, words),
        Text(f"{lag:,}", style="yellow" if lag > 100 else "dim"),
        Text(f"{sample['ops']:,.0f}"),
        Text(_spark(row.ops, most), style=style),
        *map(Text, rest),
    ]


def _spark(values: deque[float], most: float) -> str:
    """One character for each value, as high as its share of the greatest."""
    highest = len(_BARS) - 1
    shares = [value / most if most else 0.0 for value in values]
    return "".join(_BARS[min(round(each * highest), highest)] for each in shares).rjust(SPARKS)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000):%H:%M:%S}.{at_ms % 1000:03d}"


def top(members: Mapping[str, Address], token: str, *, once: bool) -> None:
    """Show it until q or Ctrl-C; or once.

    Raises:
        Unavailable: with `once`: no node answers at its HTTP port.
    """
    asyncio.run(_top(dict(members), token, once=once))


async def _top(members: dict[str, Address], token: str, *, once: bool) -> None:
    screen = Screen(list(members))
    stream = sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else 140, highlight=False)
    fan_in = FanIn(lambda: members, token=token, wall_ms=Clock().wall_ms)
    reading = asyncio.create_task(_read(fan_in, screen))
    try:
        if once:
            await _until_whole(screen)
            if screen.at_ms == 0:
                raise Unavailable("no node answers at its HTTP port")
            console.print(screen.picture())
        else:
            await _show(console, screen)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(fan_in: FanIn, screen: Screen) -> None:
    pieces = fan_in.pieces({"kind": "view"})
    try:
        async for piece in pieces:
            screen.take(json.loads(piece[len(b"data: ") :]))
    finally:
        await pieces.aclose()


async def _until_whole(screen: Screen) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ONCE_S):
            while not screen.is_whole:  # noqa: ASYNC110 - it is told from many sides
                await asyncio.sleep(0.02)


async def _show(console: Console, screen: Screen) -> None:
    asked_to_stop = asyncio.Event()
    live = Live(console=console, screen=console.is_terminal, auto_refresh=False)
    with _keys(sys.stdin, asked_to_stop), live:
        while not asked_to_stop.is_set():
            live.update(screen.picture(), refresh=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asked_to_stop.wait(), REFRESH_S)


@contextlib.contextmanager
def _keys(stream: TextIO, asked_to_stop: asyncio.Event) -> Iterator[None]:
    """q ends it, where there is a keyboard."""
    if not stream.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), stream.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        if b"q" in os.read(descriptor, 64).lower():
            asked_to_stop.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
