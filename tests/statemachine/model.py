"""The rules once more, as a plain dict with no index, no columns and no bound on expiry.

Written from the specification (DESIGN.md, Redis's documentation), not from rules.py:
what is due is removed at once and all of it, so the model also shows that the
store's backlog cannot be seen. It answers refusals by their text alone.
"""

from __future__ import annotations

import re

from statemachine.commands import Condition, ExpireCondition, WriteCommand

MAX = 2**63 - 1
INTEGER = re.compile(rb"(0|-?[1-9][0-9]*)\Z")

Answer = bool | int | bytes | str | None
"""A result; a refusal is its text."""


class Model:
    """key -> (value, deadline or None). No batches, no origins: dict_machine.py adds them."""

    def __init__(self) -> None:
        self.clock = 0
        self.keys: dict[bytes, tuple[bytes, int | None]] = {}

    def advance(self, now: int) -> None:
        self.clock = max(self.clock, now)
        for key, (_, deadline) in list(self.keys.items()):
            if deadline is not None and deadline <= self.clock:
                del self.keys[key]

    def value(self, key: bytes) -> bytes | None:
        return self.keys[key][0] if key in self.keys else None

    def deadline(self, key: bytes) -> int | None:
        return self.keys[key][1] if key in self.keys else None

    def store(self, key: bytes, value: bytes, deadline: int | None) -> None:
        self.keys[key] = (value, deadline)
        self.advance(self.clock)  # A deadline in the past is due at once.

    def run(self, command: WriteCommand) -> list[Answer]:
        name = command.WhichOneof("operation")
        if name is None:
            return ["unknown operation"]
        fields = getattr(command, name)
        if name == "put":
            if len(fields.keys) != len(fields.values):
                return ["wrong number of values for these keys"] * len(fields.keys)
            for key, value in zip(fields.keys, fields.values, strict=True):
                self.store(key, value, None)
            return [True] * len(fields.keys)
        answer: Answer = getattr(self, name)(fields)
        return [answer]

    def insert(self, i: WriteCommand.Insert) -> Answer:
        old, deadline = self.value(i.key), None
        if sum(map(bool, (i.ttl_secs, i.ttl_ms, i.expire_at_ms, i.keep_ttl))) > 1:
            return "syntax error"
        if i.keep_ttl:
            deadline = self.deadline(i.key)
        elif i.expire_at_ms:
            deadline = i.expire_at_ms
        elif i.ttl_ms or i.ttl_secs:
            deadline = self.clock + i.ttl_ms + 1000 * i.ttl_secs
        if deadline is not None and deadline > MAX:
            return "invalid expire time in 'set' command"
        goes_through = {
            Condition.ALWAYS: True,
            Condition.IF_ABSENT: i.key not in self.keys,
            Condition.IF_PRESENT: i.key in self.keys,
            Condition.IF_EQUAL: i.key in self.keys and old == i.expected,
            Condition.IF_DIFFERENT: not (i.key in self.keys and old == i.expected),
        }.get(i.condition)
        if goes_through is None:
            return "syntax error"
        if goes_through:
            self.store(i.key, i.value, deadline)
        return old if i.return_old else goes_through

    def delete(self, d: WriteCommand.Delete) -> Answer:
        return int(self.keys.pop(d.key, None) is not None)

    def delete_keys(self, d: WriteCommand.DeleteKeys) -> Answer:
        return sum(self.keys.pop(key, None) is not None for key in d.keys)

    def compare_and_swap(self, c: WriteCommand.CompareAndSwap) -> Answer:
        wanted = c.expected_value if c.HasField("expected_value") else None
        swaps = self.value(c.key) == wanted
        if swaps:
            self.store(c.key, c.new_value, None)
        return swaps

    def add(self, a: WriteCommand.Add) -> Answer:
        old = self.value(a.key)
        old = b"0" if old is None else old
        if not INTEGER.match(old) or not -MAX - 1 <= int(old) <= MAX:
            return "value is not an integer or out of range"
        total = int(old) + a.delta
        if not -MAX - 1 <= total <= MAX:
            return "increment or decrement would overflow"
        self.store(a.key, str(total).encode(), self.deadline(a.key))
        return total

    def expire(self, e: WriteCommand.Expire) -> Answer:
        when = e.expire_at_ms if e.HasField("expire_at_ms") else self.clock + e.ttl_ms
        if when > MAX:
            return "invalid expire time in 'expire' command"
        if e.key not in self.keys:
            return 0
        value, current = self.keys[e.key]
        goes_through = {
            ExpireCondition.EXPIRE_ALWAYS: True,
            ExpireCondition.EXPIRE_IF_NONE: current is None,
            ExpireCondition.EXPIRE_IF_ANY: current is not None,
            ExpireCondition.EXPIRE_IF_LATER: when > (MAX + 1 if current is None else current),
            ExpireCondition.EXPIRE_IF_SOONER: when < (MAX + 1 if current is None else current),
        }.get(e.condition)
        if goes_through is None:
            return "syntax error"
        if goes_through:
            self.store(e.key, value, when)
        return int(goes_through)

    def persist(self, p: WriteCommand.Persist) -> Answer:
        had_deadline = self.deadline(p.key) is not None
        if had_deadline:
            self.keys[p.key] = (self.keys[p.key][0], None)
        return int(had_deadline)

    def flush(self, _: WriteCommand.Flush) -> Answer:
        count = len(self.keys)
        self.keys.clear()
        return count
