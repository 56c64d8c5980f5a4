"""What a planted bug is: a patch of the code that runs, for as long as a block lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

__all__ = ["Bug", "always", "put"]


@dataclass(frozen=True)
class Bug:
    """One bug. `patches` makes what is put in place of what."""

    name: str
    what: str
    patches: Callable[[], Sequence[Any]]
    profile: str = "everything"
    defence: str = ""
    """The line of PYSYNCOBJ.md that it undoes."""

    @contextlib.contextmanager
    def plant(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield


def put(owner: Any, name: str, value: Any) -> Any:
    """The patch that puts a value in place of an attribute."""
    return mock.patch.object(owner, name, value)


def always(value: Any) -> Any:
    """A property that says the same for ever."""
    return property(lambda self: value)
