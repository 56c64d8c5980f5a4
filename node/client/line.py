"""Line: drives protocols over one connection at a time, with threads.

    run(protocol)   ask, pause, ask ... -> its result
    drop            the next request goes to the next address: after every error that is no answer

Does not do: decide what is sent again (node.client.protocols).

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from node.client.connection import Client
from node.client.protocols import Ask, Protocol, Word
from node.config_members import Address
from node.errors import KVError, NotLeader, Rejected

__all__ = ["ANSWER_S", "Line", "addresses_of"]

ANSWER_S: Final = 12.0
"""Past the time after which a node itself says that the outcome is unknown."""
_CLOSED_UNDER_US: Final = (AttributeError, TypeError, ValueError, OSError)


def addresses_of(addresses: str | Sequence[str]) -> list[Address]:
    """ "host:port,host:port" or a list of "host:port"."""
    words = addresses.split(",") if isinstance(addresses, str) else addresses
    found = [Address.parse(word.strip()) for word in words]
    if not found:
        raise ValueError("no address")
    return found


class Line:
    """One connection at a time, to the next address after each error that is no answer."""

    def __init__(self, addresses: Sequence[Address], password: str) -> None:
        self._addresses = list(addresses)
        self._at = 0
        self._password = password
        self._client: Client | None = None
        self._leader: Address | None = None
        """Whom a node named (client.on_follower = "redirect")."""
        self._wake = threading.Event()
        self._is_closed = False

    def run(self, protocol: Protocol) -> Any:
        """Drive a protocol to its end; what it returns."""
        answer: Any = None
        failure: KVError | None = None
        while True:
            try:
                step = protocol.send(answer) if failure is None else protocol.throw(failure)
            except StopIteration as end:
                return end.value
            answer = failure = None
            if not isinstance(step, Ask):
                self._wake.wait(step.seconds)
                continue
            try:
                answer = self.ask(step.words)
            except KVError as error:
                failure = error

    def ask(self, words: Sequence[Word]) -> Any:
        """One request on the present connection."""
        self._check_open()
        try:
            if self._client is None:
                address, self._leader = self._leader or self._next_address(), None
                self._client = Client.connect([address], self._password, ANSWER_S)
            self._check_open()
            return self._client.ask(*words)
        except Rejected:
            raise
        except NotLeader as error:
            self.drop()
            self._leader = Address.parse(error.address)
            raise
        except KVError:
            self.drop()
            raise
        except _CLOSED_UNDER_US as error:
            # What redis-py stumbles over when another thread closes its connection.
            if not self._is_closed:
                raise
            raise Rejected("it is closed") from error

    def _next_address(self) -> Address:
        return self._addresses[self._at % len(self._addresses)]

    def receive(self, timeout_s: float) -> Any:
        """What a node says unasked."""
        assert self._client is not None
        self._check_open()
        try:
            return self._client.receive(timeout_s)
        except KVError:
            self.drop()
            raise
        except _CLOSED_UNDER_US as error:
            # What redis-py stumbles over when another thread closes its connection.
            if not self._is_closed:
                raise
            raise Rejected("it is closed") from error

    def _check_open(self) -> None:
        """Raises: Rejected. NB: before each step, since redis-py connects again by itself when
        another thread has closed its connection."""
        if self._is_closed:
            self.drop()
            raise Rejected("it is closed")

    def drop(self) -> None:
        """The next request goes to the next address."""
        client, self._client = self._client, None
        self._at += 1
        if client is not None:
            client.close()

    def close(self) -> None:
        """From any thread: end what waits, and take no more."""
        self._is_closed = True
        self._wake.set()
        client = self._client
        if client is not None:
            client.close()
