"""What a node says while it runs: one line for each event, on stderr.

    time=2026-11-22T20:24:31.482Z level=info node=n1 event="leader elected" term=7 leader=n2
    {"time": "...", "level": "info", "node": "n1", "event": "leader elected", "term": 7, ...}

    configure(config.log, "n1")                      # once, in the process that serves
    log = EventLog("n1")                             # in each room that has something to say
    log.info("leader elected", term=7, leader="n2")

The way of an event, by structlog's processors (a chain of functions from dict to dict):

    EventLog.info --> _without_values --> _placed --> _told --> filter_by_level --> _handed_over
                      bytes: lengths      term,       the       [log] level         a record of
                                          index       page                          `trimaran`
    any record  --> lined --> _error --> _without_values --> _words, or structlog's JSON
    ours, or a      time,                once more, for
    library's       level, node          libraries

structlog is not configured for the whole process: a program that runs nodes inside itself may
use it as it likes, and hears of nodes as records of the logger `trimaran`.

Invariants:
  An event that nobody hears costs one look at the level, which logging keeps.
  A line of a node that takes part says its term and how far it has applied (index), unless it
  says these itself of something else.
  An event is one line, whatever is in it: line breaks and control characters are escaped.
  Values of keys are never in it: bytes are written as their length, whatever they are
  (client data is bytes everywhere; what a node says of itself is text and numbers); of an error
  that is neither ours nor the system's only its type and how it came about (`what`, `where`).
  A line of another library (PySyncObj, asyncio) comes out in the same shape, its traceback
  as one field.

A crash loses nothing: each line is written when the event happens, nothing is buffered.

Does not do: rotate or keep files (stderr belongs to whoever started the node), metrics.

Proved by: tests/node/test_logs.py, tests/web/test_canary.py
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO, cast

import structlog
from structlog.stdlib import ProcessorFormatter, filter_by_level
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from node.config_sections import LogSection
from node.errors import KVError

__all__ = ["EventLog", "Watch", "configure", "what", "where"]

Watch = Callable[[str, str, dict[str, object]], None]
"""(level, event, fields that may be shown): called in the thread that says it."""

_LOGGER: Final = logging.getLogger("trimaran")
_FIELDS: Final = "trimaran_fields"
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@+%")


class EventLog:
    """Where the rooms of one node say what happened.

    Several nodes may live in one process: each hands its own EventLog to its rooms.
    """

    __slots__ = ("_node", "_structured", "place", "watch")

    def __init__(self, node: str, watch: Watch | None = None) -> None:
        self._node = node
        self.watch = watch
        """Told every event from `info` on, as it is said: the dashboard's list."""
        self.place: Callable[[], tuple[int, int]] | None = None
        """(term, applied index) now: what a line says that does not say so itself."""
        chain: list[Processor] = [
            _without_values,
            self._placed,
            self._told,
            filter_by_level,
            self._handed_over,
        ]
        # Bound here, once: what wrap_logger returns would be built anew at each event.
        self._structured: FilteringBoundLogger = structlog.wrap_logger(
            _LOGGER, chain, wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG)
        ).bind()

    def debug(self, event: str, **fields: object) -> None:
        """Something that only whoever works on Trimaran wants to know."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Something that an operator may want to find later."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something that is being coped with, and that an operator should know."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something that an operator has to act upon."""
        self._say(logging.ERROR, event, fields)

    def _say(self, level: int, event: str, fields: dict[str, object]) -> None:
        if _LOGGER.isEnabledFor(level) or (self.watch is not None and level >= logging.INFO):
            self._structured.log(level, event, **fields)

    # -- the chain ----------------------------------------------------------------------------

    def _placed(self, _logger: object, _level: str, fields: EventDict) -> EventDict:
        if self.place is None or ("term" in fields and "index" in fields):
            return fields
        term, index = self.place()
        return {"term": term, "index": index, **fields}

    def _told(self, _logger: object, level: str, fields: EventDict) -> EventDict:
        if self.watch is not None and level != "debug":
            shown = dict(fields)
            self.watch(level, shown.pop("event"), shown)
        return fields

    def _handed_over(
        self, _logger: object, _level: str, fields: EventDict
    ) -> tuple[tuple[str], dict[str, object]]:
        """What the logger `trimaran` is called with."""
        event = fields.pop("event")
        return (event,), {"extra": {_FIELDS: {"node": self._node, **fields}}}


def configure(section: LogSection, node: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr), as [log] says.

    For the process of one node: lines of libraries are marked with `node`. A program that
    runs nodes inside itself does not call this and keeps its own logging.
    """

    def lined(_logger: object, level: str, fields: EventDict) -> EventDict:
        record: logging.LogRecord = fields.pop("_record")
        del fields["_from_structlog"]
        now = datetime.fromtimestamp(record.created, UTC)
        return {
            "time": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
            "level": level,
            "node": node,
            "event": fields.pop("event"),
            **getattr(record, _FIELDS, {"logger": record.name}),
            **fields,
        }

    as_json = section.format == "json"
    render = cast(Processor, structlog.processors.JSONRenderer() if as_json else _words)
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(ProcessorFormatter(processors=[lined, _error, _without_values, render]))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    # Libraries are heard from `warning` on: their `info` is about themselves.
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(section.level.upper())


def what(error: BaseException) -> str:
    """An error as it may be logged: in its own words if it is ours or the system's.

    Of any other the type alone: `invalid literal for int(): b'...'` is somebody's value.
    """
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, KVError | OSError) else name


def where(error: BaseException) -> str:
    """How it came about: file, line and function of each step, without what was in them."""
    steps = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(s.filename).name}:{s.lineno} {s.name}" for s in reversed(steps))


def _error(_logger: object, _level: str, fields: EventDict) -> EventDict:
    """A library's exception: where and what, in place of a traceback of many lines."""
    if found := fields.pop("exc_info", None):
        error = found[1]
        fields["traceback"] = where(error) if error is not None else ""
        fields["reason"] = what(error) if error is not None else ""
    return fields


def _without_values(_logger: object, _level: str, fields: EventDict) -> EventDict:
    """What may be written: of bytes their length only (see the invariants)."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _words(_logger: object, _level: str, fields: EventDict) -> str:
    """The line as text. (structlog's own logfmt keeps some line breaks, and writes no none.)"""
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items())


def _word(value: object) -> str:
    """One word of a text line: bare when it is plain, else quoted with JSON's escapes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
