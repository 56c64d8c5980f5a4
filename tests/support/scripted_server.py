"""A TEST DOUBLE of a node's RESP port: answers each command with the bytes it was told.

    with ScriptedServer({b"SET": b"-UNKNOWN it may be there\\r\\n"}) as server:
        server.address                # 127.0.0.1:port
    server.seen                       # the commands that came, as argument lists

A reply of None closes the connection without an answer, an empty one leaves the client waiting;
a command that is not named gets +OK.
For what a real node cannot be made to do on time: lose an answer, redirect, be without a leader.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import BinaryIO

from node.config import Address


class ScriptedServer:
    """Serves connections one after another, in a thread, until it is left."""

    def __init__(self, replies: Mapping[bytes, bytes | None]) -> None:
        self.replies = replies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.address = Address(*self._listener.getsockname())
        self.seen: list[list[bytes]] = []

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                while (command := self._command(stream)) is not None:
                    self.seen.append(command)
                    reply = self.replies.get(command[0].upper(), b"+OK\r\n")
                    if reply is None:
                        break
                    connection.sendall(reply)

    def _command(self, stream: BinaryIO) -> list[bytes] | None:
        head = stream.readline()
        if not head:
            return None
        words = []
        for _ in range(int(head[1:])):
            size = int(stream.readline()[1:])
            words.append(stream.read(size + 2)[:-2])
        return words
