"""What the result of a command may be, and the words of those that are refused.

    Refusal    wrong on every replica alike; a value, never an exception
    Fetched    what a read inside a transaction saw, to be read like a machine
    Result     everything that a rule may answer

Texts are Redis's. Where Redis names the command in them, the name here is the plainest ('set',
'expire'): the node knows by which name it was asked.

Does not: refuse anything itself (the rules do).

Proved by: tests/statemachine/test_rules.py, test_rules_transactions.py
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from statemachine.layer import Record

__all__ = [
    "BAD_EXPIRE_TIME",
    "BAD_LEASE_ID",
    "BAD_LEASE_TIME",
    "BAD_SET_TIME",
    "NOT_AN_INTEGER",
    "NO_SUCH_KEY",
    "SYNTAX_ERROR",
    "UNEVEN_COLUMNS",
    "UNKNOWN_OPERATION",
    "Fetched",
    "Refusal",
    "Result",
    "lease_exists",
    "no_such_lease",
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of a command that is wrong on every replica alike. Counts as applied."""

    code: str
    """"ERR"; of leases "NOLEASE" and "LEASEEXISTS". WRONGTYPE is kept for when there are types."""
    text: str
    """In Redis's words."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a Read saw. It answers for the keys and the page that were asked for, no others."""

    clock_ms: int
    count: int
    records: dict[bytes, Record]
    page: tuple[bytes, ...] = ()

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        record = self.records.get(key)
        return None if record is None else record.value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys."""
        return [self.get(key) for key in keys]

    def exists(self, key: bytes) -> bool:
        """Whether the key was there."""
        return key in self.records

    def deadline_ms(self, key: bytes) -> int | None:
        """The absolute deadline, if it had one."""
        record = self.records.get(key)
        return None if record is None else record.deadline_ms

    def facts(self, key: bytes) -> Record | None:
        """Value, revisions and deadline in one; None: it was not there."""
        return self.records.get(key)

    def keys_page(self, after: bytes | None, count: int) -> tuple[list[bytes], bytes | None]:
        """Of the page that was fetched, as the machine's own would answer."""
        start = 0 if after is None else bisect_right(self.page, after)
        found = list(self.page[start : start + count])
        return found, found[-1] if start + count < len(self.page) else None

    def __len__(self) -> int:
        return self.count


Result = bool | int | bytes | None | Refusal | Fetched | list["Result"]

SYNTAX_ERROR: Final = Refusal("ERR", "syntax error")
UNKNOWN_OPERATION: Final = Refusal("ERR", "unknown operation")
UNEVEN_COLUMNS: Final = Refusal("ERR", "wrong number of values for these keys")
NOT_AN_INTEGER: Final = Refusal("ERR", "value is not an integer or out of range")
NO_SUCH_KEY: Final = Refusal("ERR", "no such key")
BAD_SET_TIME: Final = Refusal("ERR", "invalid expire time in 'set' command")
BAD_LEASE_ID: Final = Refusal("ERR", "lease id is out of range")
BAD_LEASE_TIME: Final = Refusal("ERR", "invalid time to live of a lease")
BAD_EXPIRE_TIME: Final = Refusal("ERR", "invalid expire time in 'expire' command")


def no_such_lease(lease_id: int) -> Refusal:
    """It has ended, or never was."""
    return Refusal("NOLEASE", f"there is no lease {lease_id}")


def lease_exists(lease_id: int) -> Refusal:
    """Somebody has this id."""
    return Refusal("LEASEEXISTS", f"lease {lease_id} is there already")
