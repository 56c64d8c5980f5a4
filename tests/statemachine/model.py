"""The rules once more, as a plain dict with no index, no columns and no bound on expiry.

Written from the specification (DESIGN.md, Redis's documentation), not from rules.py:
what is due is removed at once and all of it, so the model also shows that the
store's backlog cannot be seen. It answers refusals by their text alone.
"""

from __future__ import annotations

import copy
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
        self.leases: dict[int, tuple[int, int]] = {}
        """By id: time to live, deadline. One that has ended is not here."""
        self.held: dict[bytes, int] = {}
        """Keys that hang on a lease, and its id."""
        self.granted = 0

    def copy(self) -> Model:
        other = Model()
        other.__dict__.update({name: copy.copy(value) for name, value in self.__dict__.items()})
        return other

    def advance(self, now: int) -> None:
        if now <= self.clock:
            return
        self.clock = now
        for key in list(self.keys):
            deadline = self.deadline(key)
            if deadline is not None and deadline <= self.clock:
                self.drop(key)
        self.leases = {name: one for name, one in self.leases.items() if one[1] > now}

    def value(self, key: bytes) -> bytes | None:
        return self.keys[key][0] if key in self.keys else None

    def deadline(self, key: bytes) -> int | None:
        if key in self.held:
            return self.leases[self.held[key]][1]
        return self.keys[key][1] if key in self.keys else None

    def deadlines(self) -> list[int]:
        """Of keys and leases."""
        found = [deadline for deadline in map(self.deadline, self.keys) if deadline is not None]
        return found + [deadline for _, deadline in self.leases.values()]

    def drop(self, key: bytes) -> bytes | None:
        """What it held."""
        self.held.pop(key, None)
        value, _ = self.keys.pop(key, (None, None))
        return value

    def store(self, key: bytes, value: bytes, deadline: int | None) -> None:
        self.held.pop(key, None)
        if deadline is not None and deadline <= self.clock:
            self.keys.pop(key, None)  # Due at once.
        else:
            self.keys[key] = (value, deadline)

    def keep(self, key: bytes, value: bytes) -> None:
        """Another value, due as before."""
        self.keys[key] = (value, self.keys[key][1] if key in self.keys else None)

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
        if sum(map(bool, (i.ttl_secs, i.ttl_ms, i.expire_at_ms, i.keep_ttl, i.lease))) > 1:
            return "syntax error"
        if i.lease and i.lease not in self.leases:
            return f"there is no lease {i.lease}"
        if i.expire_at_ms:
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
        if goes_through and i.keep_ttl:
            self.keep(i.key, i.value)
        elif goes_through:
            self.store(i.key, i.value, deadline)
            if i.lease:
                self.held[i.key] = i.lease
        return old if i.return_old else goes_through

    def delete(self, d: WriteCommand.Delete) -> Answer:
        return int(self.drop(d.key) is not None)

    def delete_keys(self, d: WriteCommand.DeleteKeys) -> Answer:
        return sum(self.drop(key) is not None for key in d.keys)

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
        self.keep(a.key, str(total).encode())
        return total

    def expire(self, e: WriteCommand.Expire) -> Answer:
        when = e.expire_at_ms if e.HasField("expire_at_ms") else self.clock + e.ttl_ms
        if when > MAX:
            return "invalid expire time in 'expire' command"
        if e.key not in self.keys:
            return 0
        value, current = self.keys[e.key][0], self.deadline(e.key)
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
            self.store(p.key, self.keys[p.key][0], None)
        return int(had_deadline)

    def flush(self, _: WriteCommand.Flush) -> Answer:
        count = len(self.keys)
        self.keys.clear()
        self.held.clear()
        return count

    def insert_many(self, i: WriteCommand.InsertMany) -> Answer:
        if len(i.keys) != len(i.values):
            return "wrong number of values for these keys"
        if sum(map(bool, (i.ttl_ms, i.expire_at_ms, i.keep_ttl))) > 1:
            return "syntax error"
        deadline = i.expire_at_ms or (self.clock + i.ttl_ms if i.ttl_ms else None)
        if deadline is not None and deadline > MAX:
            return "invalid expire time in 'set' command"
        there = [key in self.keys for key in i.keys]
        if i.condition == Condition.IF_ABSENT and any(there):
            return False
        if i.condition == Condition.IF_PRESENT and not all(there):
            return False
        for key, value in zip(i.keys, i.values, strict=True):
            if i.keep_ttl:
                self.keep(key, value)
            else:
                self.store(key, value, deadline)
        return True

    def remove(self, r: WriteCommand.Remove) -> Answer:
        old = self.value(r.key)
        goes = old is not None and {
            Condition.ALWAYS: True,
            Condition.IF_EQUAL: old == r.expected,
            Condition.IF_DIFFERENT: old != r.expected,
        }.get(r.condition, False)
        if r.condition in (Condition.IF_ABSENT, Condition.IF_PRESENT):
            return "syntax error"
        if goes:
            self.drop(r.key)
        return old if r.return_old else int(goes)

    def get_and_expire(self, g: WriteCommand.GetAndExpire) -> Answer:
        has_ttl, has_deadline = g.HasField("ttl_ms"), g.HasField("expire_at_ms")
        if has_ttl + has_deadline + g.persist > 1:
            return "syntax error"
        if g.key not in self.keys:
            return None
        value = self.keys[g.key][0]
        when = g.expire_at_ms if has_deadline else self.clock + g.ttl_ms
        if when > MAX:
            return "invalid expire time in 'expire' command"
        if has_ttl or has_deadline:
            self.store(g.key, value, when)
        elif g.persist:
            self.store(g.key, value, None)
        return value

    def append(self, a: WriteCommand.Append) -> Answer:
        value = (self.value(a.key) or b"") + a.value
        if len(value) > a.bytes_max:
            return "string exceeds maximum allowed size (proto-max-bulk-len)"
        self.keep(a.key, value)
        return len(value)

    def set_range(self, s: WriteCommand.SetRange) -> Answer:
        value = bytearray(self.value(s.key) or b"")
        if s.value:
            value += bytes(max(0, s.offset - len(value)))
            value[s.offset : s.offset + len(s.value)] = s.value
            self.keep(s.key, bytes(value))
        return len(value)

    def set_bit(self, s: WriteCommand.SetBit) -> Answer:
        value = self.value(s.key) or b""
        bits = list("".join(f"{byte:08b}" for byte in value))
        bits += "0" * ((s.offset // 8 + 1) * 8 - len(bits))
        old, bits[s.offset] = bits[s.offset], str(int(s.bit))
        text = "".join(bits)
        whole = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
        self.keep(s.key, whole)
        return int(old)

    def move(self, m: WriteCommand.Move) -> Answer:
        if m.source not in self.keys:
            return False if m.keep_source else "no such key"
        if m.if_absent and m.destination in self.keys:
            return False
        found, lease = self.keys[m.source], self.held.get(m.source)
        if not m.keep_source:
            self.drop(m.source)
        elif m.source == m.destination:
            return True
        self.store(m.destination, *found)
        if lease is not None:
            self.held[m.destination] = lease
        return True

    def grant_lease(self, g: WriteCommand.GrantLease) -> Answer:
        if not 0 < g.ttl_ms <= MAX - self.clock:
            return "invalid time to live of a lease"
        if g.id > MAX:
            return "lease id is out of range"
        if g.id in self.leases:
            return f"lease {g.id} is there already"
        self.granted += 1
        while not g.id and self.granted in self.leases:
            self.granted += 1
        name = g.id or self.granted
        self.leases[name] = (g.ttl_ms, self.clock + g.ttl_ms)
        return name

    def keep_lease_alive(self, k: WriteCommand.KeepLeaseAlive) -> Answer:
        if k.id not in self.leases:
            return f"there is no lease {k.id}"
        ttl, _ = self.leases[k.id]
        if ttl > MAX - self.clock:
            return "invalid time to live of a lease"
        self.leases[k.id] = (ttl, self.clock + ttl)
        return ttl

    def revoke_lease(self, r: WriteCommand.RevokeLease) -> Answer:
        for key in [key for key, lease in self.held.items() if lease == r.id]:
            self.drop(key)
        return int(self.leases.pop(r.id, None) is not None)

    def publish(self, _: WriteCommand.Publish) -> Answer:
        return 0
