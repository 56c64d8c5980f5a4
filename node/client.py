"""The command line's way to a node: one connection, and errors that say what to do next.

    with Client.connect(addresses) as client:      # the first address that answers
        client.read("GET", key)                    # Unavailable or Rejected
        client.write("SET", key, value)            # ... or OutcomeUnknown
    statuses(addresses) -> [NodeStatus, ...]       # asks every member that any node names

Thin on redis-py's Connection: it does the parsing, AUTH and the socket; retries are
left to the person who typed the command, because only they know whether it is safe.

Invariants:
  Before the request is on its way, every failure is Unavailable: certainly not applied.
  After that, a write whose answer is lost is OutcomeUnknown, never anything else.
  MOVED is followed a few times (on_follower = "redirect"), and only while nothing was applied.

A crash leaves nothing behind: nothing is written here.

Does not do: pool, pipeline, retry, cache the leader.

Proved by: tests/node/test_client.py, tests/node/test_cli.py
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from node.config_members import MEMBERS_MAX, Address
from node.errors import NotLeader, OutcomeUnknown, Rejected, Unavailable

__all__ = ["Client", "NodeStatus", "can_listen", "find_leader", "statuses"]

CONNECT_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 10.0
"""Well above the time for which a node parks a command when there is no leader."""
STATUS_TIMEOUT_S: Final = 2.0
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
        except exceptions.ResponseError as error:
            raise _translated(error) from error
        except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
            # NB: to redis-py these are lost connections; they are answers.
            raise Rejected(f"{self.address}: {error}") from error
        except exceptions.ConnectionError as error:
            # These two are answers, though redis-py files them here.
            refused = "max number of clients" in str(error)
            if refused or isinstance(error, exceptions.BusyLoadingError):
                raise Unavailable(f"{self.address}: {error}") from error
            raise OutcomeUnknown(f"{self.address}: the connection broke: {error}") from error
        except exceptions.TimeoutError as error:
            raise OutcomeUnknown(f"{self.address}: no answer in time") from error


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
    except (exceptions.AuthenticationError, exceptions.ResponseError) as error:
        raise Rejected(f"{address}: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        # redis-py's own text repeats the address; the cause says what the system said.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = getattr(cause, "strerror", None) or cause
        raise Unavailable(f"{address}: {reason}") from error
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


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one member says of itself; all but `id` and `alive` is missing when it is silent."""

    address: Address
    fields: dict[str, Any]
    problem: str = ""

    @property
    def id(self) -> str:
        """The member's id; its address when nobody who answers can tell."""
        return str(self.fields.get("id", self.address))

    @property
    def alive(self) -> bool:
        """Whether it answered."""
        return bool(self.fields.get("alive", False))


def statuses(addresses: Sequence[Address], password: str = "") -> list[NodeStatus]:
    """The status of every member that is known to any node that answers, by id.

    Raises:
        Unavailable: no node answers at all.
        Rejected: the password is refused.
    """
    known: dict[Address, NodeStatus] = {}
    hashes: dict[Address, str] = {}
    ask = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(max_workers=8) as pool:
        while ask:
            # A member may name members that the first one does not know: ask until none is new.
            for status, named in pool.map(lambda address: _status(address, password), ask):
                known[status.address] = status
                hashes |= named
            ask = sorted(hashes.keys() - known.keys())
    if not any(status.alive for status in known.values()):
        raise Unavailable("; ".join(status.problem for status in known.values()))
    # What members call themselves, and not what was typed: `localhost:7001` is 127.0.0.1:7001.
    names = _names([known[address] for address in hashes])
    found = []
    for address, node_hash in hashes.items():
        status = known[address]
        if not status.alive:
            fields = {"id": names.get(node_hash, str(address)), "alive": False}
            status = NodeStatus(address, fields, status.problem)
        found.append(status)
    return sorted(found, key=lambda status: status.id)


def _names(found: Sequence[NodeStatus]) -> dict[str, str]:
    """Ids by the hash that CLUSTER NODES shows of them.

    A member that is down is named by the others only as a hash. Those that live, the leader
    they remember and the ids that `trimaran cluster` gives are tried against it.
    """
    ids = {f"n{number}" for number in range(1, MEMBERS_MAX + 1)}
    for status in found:
        ids |= {str(status.fields.get(field) or "") for field in ("id", "leader")}
    return {hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(): name for name in ids}


def _status(address: Address, password: str) -> tuple[NodeStatus, dict[Address, str]]:
    """One node's own status, and the client addresses and hashes of all members it knows."""
    try:
        with Client.connect([address], password, STATUS_TIMEOUT_S) as client:
            reply = json.loads(client.read("TRI.STATUS"))
            fields = reply["nodes"][0] if "nodes" in reply else reply
            return NodeStatus(address, fields), _members(client.read("CLUSTER", "NODES"))
    except Unavailable as error:
        return NodeStatus(address, {}, str(error)), {}


def _members(text: bytes) -> dict[Address, str]:
    """What a reply to CLUSTER NODES names: `hash host:port@cport flags ...` lines."""
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) > 1:
            try:
                found[Address.parse(words[1].partition("@")[0])] = words[0]
            except ValueError:
                continue  # A node that does not know its own address yet writes ":0".
    return found


def find_leader(found: Sequence[NodeStatus]) -> NodeStatus | None:
    """The leader of the highest term among those that answered."""
    leaders = [status for status in found if status.fields.get("role") == "leader"]
    return max(leaders, key=lambda status: int(status.fields.get("term", 0)), default=None)
