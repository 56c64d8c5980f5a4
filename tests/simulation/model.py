"""The state machine once more, for the oracles: every committed batch, run a second time.

    ModelState.apply(batch, index) -> what the results must be (ANY where the model does not know)

tests/statemachine/model.py is the rules as a plain dict, written from the specification; here
are batches, origins, revisions and transactions around it. Where an operation has no model
(floating point, reads inside of a transaction) the answer of the first replica is taken for it
and only compared with the others'.

Proved by: tests/simulation/test_planted.py (bugs in the rules are found by it)
"""

from __future__ import annotations

from typing import Any, Final

from statemachine import Refusal
from statemachine.commands import Condition, WriteCommand, read_commands, read_head
from statemachine.store import DUPLICATE, GAP
from tests.statemachine.model import Model

__all__ = ["ANY", "ModelState", "agrees"]


class _Any:
    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()


class _Revised(Model):
    """The rules with what each key was last changed by, and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 0
        self.modified: dict[bytes, int] = {}

    def store(self, key: bytes, value: bytes, deadline: int | None) -> None:
        super().store(key, value, deadline)
        self.modified[key] = self.revision

    def keep(self, key: bytes, value: bytes) -> None:
        super().keep(key, value)
        self.modified[key] = self.revision

    def revision_of(self, key: bytes) -> int:
        return self.modified.get(key, 0) if key in self.keys else 0

    def insert(self, i: WriteCommand.Insert) -> Any:
        if i.condition != Condition.IF_REVISION:
            return super().insert(i)
        holds = self.revision_of(i.key) == i.revision
        plain = WriteCommand.Insert()
        plain.CopyFrom(i)
        plain.condition = Condition.ALWAYS if holds else Condition.IF_PRESENT
        if holds:
            return super().insert(plain)
        old = self.value(i.key)
        return old if i.return_old else False

    def move(self, m: WriteCommand.Move) -> Any:
        before = self.keys.get(m.source)
        answer = super().move(m)
        if answer is True and m.source != m.destination and before is not None:
            self.modified[m.destination] = self.revision
        return answer

    def get_and_expire(self, g: WriteCommand.GetAndExpire) -> Any:
        takes_off = g.persist and not g.HasField("ttl_ms") and not g.HasField("expire_at_ms")
        if takes_off and g.key in self.keys and self.deadline(g.key) is None:
            return self.value(g.key)  # nothing to take off: nothing is changed
        return super().get_and_expire(g)

    def persist(self, p: WriteCommand.Persist) -> Any:
        had_deadline = super().persist(p)
        if had_deadline:
            self.modified[p.key] = self.revision
        return had_deadline

    def add_float(self, _: WriteCommand.AddFloat) -> Any:
        raise NotImplementedError

    def read(self, _: WriteCommand.Read) -> Any:
        return ANY


class ModelState:
    """What one replica's state must be after the batches so far."""

    def __init__(self) -> None:
        self.keys = _Revised()
        self.origins: dict[bytes, tuple[int, int]] = {}
        self.unsure: set[bytes] = set()
        """Keys that an operation without a model has changed."""

    def apply(self, batch: bytes, index: int) -> Any:
        """The outcome that is due: results, DUPLICATE or GAP."""
        head = read_head(batch)
        keys = self.keys
        keys.revision = index
        keys.advance(head.now_ms)
        if not head.origin:  # time passes: the leader's own, which nobody sends twice
            return self._commands(batch)
        epoch, last = self.origins.get(head.origin, (0, 0))
        if head.epoch < epoch or (head.epoch == epoch and head.sequence <= last):
            return DUPLICATE
        if head.sequence != (last + 1 if head.epoch == epoch else 1):
            return GAP
        self.origins[head.origin] = (head.epoch, head.sequence)
        return self._commands(batch)

    def _commands(self, batch: bytes) -> list[Any]:
        results: list[Any] = []
        for command in read_commands(batch).commands:
            results += self._run(command)
        return results

    def _run(self, command: WriteCommand) -> list[Any]:
        name = command.WhichOneof("operation")
        if name == "transaction":
            return [self._transaction(command.transaction)]
        if name == "add_float":
            self.unsure.add(command.add_float.key)
            return [ANY]
        touched = self._touched(command, str(name))
        if not hasattr(self.keys, str(name)) and name != "put":
            self.unsure |= touched  # no model: the replicas are only compared with each other
            return [ANY]
        if name == "insert" and command.insert.lease:
            self.unsure.add(command.insert.key)
        if touched & self.unsure:
            self.unsure |= touched
            return [ANY] * (len(command.put.keys) if name == "put" else 1)
        return self.keys.run(command)

    def _transaction(self, transaction: WriteCommand.Transaction) -> Any:
        for watch in transaction.watches:
            if watch.key in self.unsure:
                return ANY
            if self.keys.revision_of(watch.key) != watch.revision:
                return None
        results: list[Any] = []
        for command in transaction.commands.commands:
            results += self._run(command)
        return results

    def _touched(self, command: WriteCommand, name: str) -> set[bytes]:
        fields = getattr(command, name)
        found = set()
        for word in ("key", "source", "destination"):
            if hasattr(fields, word):
                found.add(getattr(fields, word))
        found.update(getattr(fields, "keys", ()))
        return found

    def differences(self, machine: Any) -> list[str]:
        """Where a replica's keys and deadlines are others than these."""
        rows = {
            key: (value, deadline) for key, value, _, _, deadline in machine._store._records.rows()
        }
        clock_ms = self.keys.clock
        live = {key: row for key, row in rows.items() if row[1] is None or row[1] > clock_ms}
        names = (live.keys() | self.keys.keys.keys()) - self.unsure
        return [
            f"{key!r}: {live.get(key)} and not {self.keys.keys.get(key)}"
            for key in sorted(names)
            if live.get(key) != self.keys.keys.get(key)
        ]


def agrees(due: Any, got: Any) -> bool:
    """Whether a result is the one that is due."""
    if due is ANY:
        return True
    if isinstance(due, list) and isinstance(got, list):
        return len(due) == len(got) and all(map(agrees, due, got))
    if isinstance(due, str):
        return isinstance(got, Refusal) and due in got.text
    return bool(due == got) and not isinstance(got, Refusal)
