"""One connection to one node, and errors that say what to do next.

    with Client.connect(addresses) as client:      # the first address that answers
        client.read("GET", key)                    # Unavailable or Rejected
        client.write("SET", key, value)            # ... or OutcomeUnknown

Thin on redis-py's Connection: it does the parsing, AUTH and the socket; retries are
left to whoever gave the command, because only they know whether it is safe.

Invariants:
  Before the request is on its way, every failure is Unavailable: certainly not applied.
  After that, a write whose answer is lost is OutcomeUnknown, never anything else.
  MOVED is followed a few times (on_follower = "redirect"), and only while nothing was applied.

A crash leaves nothing behind: nothing is written here.

Does not do: pool, pipeline, retry, cache the leader.

Proved by: tests/node/test_client.py, tests/node/test_cli.py
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from node.config_members import Address
from node.errors import NotLeader, OutcomeUnknown, Rejected, Unavailable

__all__ = ["CONNECT_TIMEOUT_S", "Client", "can_listen", "failure", "unreachable"]

CONNECT_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 10.0
"""Well above the time for which a node parks a command when there is no leader."""
REDIRECTS_MAX: Final = 3

# It has annotations only here and there, other ones in each version.
_Connection: Any = Connection


def can_listen(address: Address) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of an earlier run in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


class Client:
    """One connection to one node. For one thread. Make it with `connect`."""

    def __init__(self, connection: Any, address: Address, password: str) -> None:
        self._connection = connection
        self._password = password
        self.address = address
        """Where it is connected to: another node after a redirect."""

    @classmethod
    def connect(
        cls,
        addresses: Sequence[Address],
        password: str = "",
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Client:
        """Connect to the first of `addresses` that answers.

        Raises:
            Unavailable: none does; the text says why, of each.
            Rejected: one does, and does not take the password.
        """
        reasons = []
        for address in addresses:
            try:
                return cls(_open(address, password, timeout_s), address, password)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Closing twice is harmless."""
        self._connection.disconnect()

    def set_consistency(self, level: str) -> None:
        """Reads on this connection are `level` from now on."""
        self.read("TRI.CONSISTENCY", level)

    def read(self, *words: bytes | str | int) -> Any:
        """Send a command that changes nothing; its reply, bytes where it is text.

        Raises:
            Unavailable: no answer, or the node has none now.
            Rejected: the command is wrong.
        """
        try:
            return self._call(words)
        except OutcomeUnknown as error:  # Nothing can have been applied.
            raise Unavailable(str(error)) from error

    def write(self, *words: bytes | str | int) -> Any:
        """Send a command that changes something; its reply.

        Raises:
            Unavailable: certainly not applied.
            OutcomeUnknown: it may or may not have been applied.
            Rejected: the command is wrong.
        """
        return self._call(words)

    def write_all(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Any]:
        """Send several commands at once; their replies, in order.

        Raises: as `write`, for the first that fails; what became of the others is not told, so
            send only what may be sent again. NotLeader is raised and not followed.
        """
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise OutcomeUnknown(f"{self.address}: the connection broke: {error}") from error
        answers: list[Any] = []
        failure: Exception | None = None
        for _ in commands:
            try:
                answers.append(self._answer())
            except (OutcomeUnknown, Rejected, Unavailable, NotLeader) as error:
                failure = failure or error
                if isinstance(error, OutcomeUnknown):
                    break
        if failure is not None:
            raise failure
        return answers

    def ask(self, *words: bytes | str | int) -> Any:
        """As `write`, but never at another node than this one.

        Raises: NotLeader too: certainly not applied, ask there.
        """
        return self._exchange(words)

    def receive(self, timeout_s: float) -> Any:
        """What the node says unasked (a watch).

        Raises: Unavailable: nothing within `timeout_s`, or the connection broke.
        """
        try:
            return self._connection.read_response(timeout=timeout_s)
        except exceptions.RedisError as error:
            raise Unavailable(f"{self.address}: {error}") from error

    def _call(self, words: Sequence[bytes | str | int]) -> Any:
        for _ in range(REDIRECTS_MAX):
            try:
                return self._exchange(words)
            except NotLeader as error:
                leader = Address.parse(error.address)
            timeout_s = self._connection.socket_timeout or ANSWER_TIMEOUT_S
            self.close()
            self._connection = _open(leader, self._password, timeout_s)
            self.address = leader
        raise Unavailable(f"sent from node to node {REDIRECTS_MAX} times: no leader yet")

    def _exchange(self, words: Sequence[bytes | str | int]) -> Any:
        try:
            self._connection.send_command(*words)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise OutcomeUnknown(f"{self.address}: the connection broke: {error}") from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except exceptions.RedisError as error:
            raise failure(self.address, error) from error


def failure(address: Address, error: exceptions.RedisError) -> Exception:
    """What it means for the caller that a request which was sent ended in this."""
    if isinstance(error, exceptions.ResponseError):
        return _translated(error)
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        # NB: to redis-py these are lost connections; they are answers.
        return Rejected(f"{address}: {error}")
    # These two are answers, though redis-py files them under lost connections.
    if "max number of clients" in str(error) or isinstance(error, exceptions.BusyLoadingError):
        return Unavailable(f"{address}: {error}")
    if isinstance(error, exceptions.TimeoutError):
        return OutcomeUnknown(f"{address}: no answer in time")
    return OutcomeUnknown(f"{address}: the connection broke: {error}")


def unreachable(address: Address, error: Exception) -> Exception:
    """The same of connecting: nothing was sent."""
    if isinstance(error, (exceptions.AuthenticationError, exceptions.ResponseError)):
        return Rejected(f"{address}: {error}")
    # redis-py's own text repeats the address; the cause says what the system said.
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reason = getattr(cause, "strerror", None) or cause
    return Unavailable(f"{address}: {reason}")


def _open(address: Address, password: str, timeout_s: float) -> Any:
    """A connection that is ready. Unavailable, or Rejected when the password is refused."""
    connection = _Connection(
        host=address.host,
        port=address.port,
        password=password or None,
        protocol=2,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        connection.connect()
    except exceptions.RedisError as error:
        raise unreachable(address, error) from error
    return connection


def _translated(error: exceptions.ResponseError) -> Exception:
    """An error reply as one of the families."""
    text = str(error)
    if isinstance(error, exceptions.MovedError):
        return NotLeader(f"{error.host}:{error.port}")
    if isinstance(error, exceptions.ClusterDownError):
        return Unavailable(text)
    code = text.partition(" ")[0]
    if code in ("BUSY", "LOADING", "CLUSTERDOWN", "MASTERDOWN"):
        return Unavailable(text)
    if code == "UNKNOWN":
        return OutcomeUnknown(text.removeprefix("UNKNOWN "))
    return Rejected(text)
