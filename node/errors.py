"""Errors of a node: the four families of statemachine.errors, and two of its own.

    KVError
      Rejected                     do not retry                                 -ERR, -WRONGTYPE
      Unavailable (.code)          certainly not applied: retry                 -CLUSTERDOWN ...
        NotLeader (.address)       not applied: retry there                    -MOVED slot host:port
      OutcomeUnknown               may or may not have been applied             -UNKNOWN
      ConfigError (.problems)      nothing was started: mend the file           (command line only)
      Fatal                        this process stops: nobody is answered       (connection closes)

`code` is the first word of the error on RESP. Stock clients act on it: they retry
CLUSTERDOWN by themselves, so it has to mean "certainly not applied".

Does not do: word the replies (node.replies).

Proved by: tests/node/test_session.py, tests/node/test_errors.py
"""

from __future__ import annotations

from collections.abc import Sequence

from statemachine.errors import (
    Corrupt,
    DirectoryInUse,
    DiskFailed,
    Fatal,
    KVError,
    OutcomeUnknown,
    Rejected,
    Unsupported,
)
from statemachine.errors import Unavailable as _Unavailable

__all__ = [
    "ConfigError",
    "Corrupt",
    "DirectoryInUse",
    "DiskFailed",
    "Fatal",
    "KVError",
    "NotLeader",
    "OutcomeUnknown",
    "Rejected",
    "Unavailable",
    "Unsupported",
]


class Unavailable(_Unavailable):
    """Certainly not applied; safe to retry, here or on another node.

    Args:
        text: why, for a person.
        code: the first word of the RESP error: CLUSTERDOWN, BUSY or LOADING.
    """

    def __init__(self, text: str, code: str = "CLUSTERDOWN") -> None:
        super().__init__(text)
        self.code = code


class NotLeader(Unavailable):
    """Certainly not applied: the leader, at `address` (host:port), takes it."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the leader is at {address}", code="MOVED")
        self.address = address


class ConfigError(KVError):
    """The configuration cannot be run with. Nothing was started.

    Args:
        problems: (key, problem) of everything that is wrong, not of the first only.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{key}: {problem}" for key, problem in self.problems))
