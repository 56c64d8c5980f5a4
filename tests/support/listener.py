"""A client without a socket that reads what it is sent: replies, and frames nobody asked for.

    ask(...)     the first thing that is said to a command
    frames()     all that was said since

Proved by: tests/node/test_watches.py, tests/node/test_tracking.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis

from node.connection import Frontend
from tests.support.fake_service import Client, FakeService

__all__ = ["Listener"]


class Listener(Client):
    """See the top of the file."""

    def __init__(self, frontend: Frontend, protocol: int = 3) -> None:
        assert isinstance(frontend.backend, FakeService)
        super().__init__(frontend.backend, frontend)
        self.reader = hiredis.Reader(replyError=str)
        if protocol == 3:
            self.run("HELLO", 3)

    def ask(self, *arguments: bytes | str | int) -> Any:
        """The first thing that is said."""
        self.reader.feed(self.run(*arguments))
        return self.reader.gets()

    def frames(self) -> Iterator[Any]:
        """What was said since."""
        self.reader.feed(self.take())
        while (frame := self.reader.gets()) is not False:
            yield frame
