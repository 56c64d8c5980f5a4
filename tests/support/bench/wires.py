"""What clients of three kinds of server say and hear, as bytes. No sockets.

    wire = WIRES["etcd"]("set", value_bytes=256)
    wire.hello()             what a connection begins with
    wire.ask(key)            one request
    wire.take(bytearray)     (replies, refusals) that are whole in it; they are removed from it
    wire.owed                bytes that the server is owed now (pings, settings)

    resp    RESP2: SET, GET of redis-benchmark's keys           redis-server, Trimaran
    etcd    gRPC over HTTP/2 without a library: KV.Put, KV.Range; one stream for each request.
            Headers are sent as literals and never read: a reply is DATA, then HEADERS that end
            the stream; a stream that ends without DATA was refused
    nats    PUB to a subject of a key-value bucket with an inbox, whose MSG is the acknowledgement

All are as cheap to speak as they can be in Python, so that one generator suits all of them.

Invariants: values are one letter, so that nothing in a value looks like a reply.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import json
import struct
from typing import Final, Protocol

__all__ = ["TESTS", "WIRES", "EtcdWire", "NatsWire", "RespWire", "Wire", "create_bucket"]

TESTS: Final = ("set", "get", "get_eventual")


class Wire(Protocol):
    """One connection's protocol."""

    owed: bytes

    def hello(self) -> bytes: ...
    def ask(self, key: int) -> bytes: ...
    def take(self, heard: bytearray) -> tuple[int, int]: ...


class RespWire:
    """RESP2."""

    def __init__(self, test: str, *, value_bytes: int) -> None:
        value = b"x" * value_bytes
        self.owed = b""
        self._eventual = test == "get_eventual"
        if test == "set":
            self._form = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n" + b"$%d\r\n%b\r\n" % (
                value_bytes,
                value,
            )
            self._good = b"+OK\r\n"
        else:
            self._form = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n"
            self._good = b"$%d\r\n%b\r\n" % (value_bytes, value)
        self._skip = b""

    def hello(self) -> bytes:
        """Ask for the level. Its answer is an OK that `take` skips."""
        if not self._eventual:
            return b""
        self._skip = b"+OK\r\n"
        return b"*2\r\n$15\r\nTRI.CONSISTENCY\r\n$8\r\neventual\r\n"

    def ask(self, key: int) -> bytes:
        return self._form % key

    def take(self, heard: bytearray) -> tuple[int, int]:
        if self._skip:
            if len(heard) < len(self._skip):
                return 0, 0
            if not heard.startswith(self._skip):  # a server without levels has one only
                line = heard.find(b"\r\n") + 2
                if line < 2:
                    return 0, 0
                del heard[:line]
            else:
                del heard[: len(self._skip)]
            self._skip = b""
        size = len(self._good)
        whole = len(heard) // size
        if whole and heard.count(self._good, 0, whole * size) == whole:  # nothing between them
            del heard[: whole * size]
            return whole, 0
        return self._take_slowly(heard)

    def _take_slowly(self, heard: bytearray) -> tuple[int, int]:
        """Where something else than the usual answer stands."""
        replies = refusals = 0
        while heard:
            if heard.startswith(self._good):
                del heard[: len(self._good)]
                replies += 1
                continue
            end = heard.find(b"\r\n")
            if end < 0 or (heard[:1] == b"$" and heard[:3] != b"$-1"):
                break  # not whole yet
            del heard[: end + 2]
            refusals += 1
        return replies, refusals


_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_FRAME: Final = struct.Struct(">HBBBI")  # length (u24: u16 and u8), type, flags, stream


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _FRAME.pack(len(body) >> 8, len(body) & 0xFF, kind, flags, stream) + body


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return found + bytes((number,))


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _literal(text: bytes) -> bytes:
    assert len(text) < 127  # one byte of HPACK length
    return bytes((len(text),)) + text


class EtcdWire:
    """gRPC to etcd's KV service. See the top of the file; RFC 7540, RFC 7541 6.2.2."""

    def __init__(self, test: str, *, value_bytes: int) -> None:
        self.path = "/etcdserverpb.KV/" + ("Put" if test == "set" else "Range")
        self._headers = (
            b"\x83\x86"  # :method POST, :scheme http
            + b"\x04" + _literal(self.path.encode())
            + b"\x01" + _literal(b"127.0.0.1")
            + b"\x0f\x10" + _literal(b"application/grpc")
            + b"\x00" + _literal(b"te") + _literal(b"trailers")
        )  # fmt: skip
        self._tail = _field(2, b"x" * value_bytes) if test == "set" else b""
        if test == "get_eventual":
            self._tail = b"\x38\x01"  # serializable = true
        self._stream = -1
        self._has_data: set[int] = set()
        self.owed = b""

    def hello(self) -> bytes:
        """The preface, and windows that no benchmark fills."""
        settings = struct.pack(">HI", 4, (1 << 31) - 1)
        return (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, struct.pack(">I", 1 << 30))
        )

    def ask(self, key: int) -> bytes:
        self._stream += 2
        return _frame(_HEADERS, _END_HEADERS, self._stream, self._headers) + _frame(
            _DATA, _END_STREAM, self._stream, self.message(key)
        )

    def message(self, key: int) -> bytes:
        """The body of one request, with gRPC's five bytes before it."""
        body = _field(1, b"key:%012d" % key) + self._tail
        return b"\0" + struct.pack(">I", len(body)) + body

    def take(self, heard: bytearray) -> tuple[int, int]:
        replies = refusals = at = 0
        while len(heard) - at >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(heard, at)
            end = at + 9 + (high << 8 | low)
            if len(heard) < end:
                break
            if kind == _DATA:
                self._has_data.add(stream)
            elif kind == _HEADERS and flags & _END_STREAM:
                if stream in self._has_data:
                    self._has_data.discard(stream)
                    replies += 1
                else:
                    refusals += 1
            elif kind == _SETTINGS and not flags & _ACK:
                self.owed += _frame(_SETTINGS, _ACK, 0, b"")
            elif kind == _PING and not flags & _ACK:
                self.owed += _frame(_PING, _ACK, 0, bytes(heard[at + 9 : end]))
            elif kind == _GOAWAY:
                raise ConnectionError("etcd said goodbye")
            at = end
        del heard[:at]
        return replies, refusals


_CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false}\r\n'


class NatsWire:
    """NATS: puts to a JetStream key-value bucket, and direct gets from it."""

    def __init__(self, test: str, *, value_bytes: int) -> None:
        if test == "set":
            tail = b"%d\r\n%b\r\n" % (value_bytes, b"x" * value_bytes)
            self._form = b"PUB $KV.bench.key-%08d _INBOX.b.r " + tail
        else:
            self._form = b"PUB $JS.API.DIRECT.GET.KV_bench.$KV.bench.key-%08d _INBOX.b.r 0\r\n\r\n"
        self._heads = (b"MSG _INBOX.", b"HMSG _INBOX.")
        self.owed = b""
        self._inbox = b""

    def hello(self) -> bytes:
        # An inbox of this connection's own: others would hear its acknowledgements.
        self._inbox = b"%x" % id(self)
        self._form = self._form.replace(b"_INBOX.b.r", b"_INBOX." + self._inbox)
        return _CONNECT + b"SUB _INBOX.%b 1\r\n" % self._inbox

    def ask(self, key: int) -> bytes:
        return self._form % key

    def take(self, heard: bytearray) -> tuple[int, int]:
        replies = refusals = 0
        while (end := heard.find(b"\r\n")) >= 0:
            line = bytes(heard[:end])
            if line.startswith(self._heads):
                size = int(line.rsplit(b" ", 1)[1])
                if len(heard) < end + 2 + size + 2:
                    break
                body = bytes(heard[end + 2 : end + 2 + size])
                end += 2 + size
                if b'"error"' in body or b"NATS/1.0 4" in body or b"NATS/1.0 5" in body:
                    refusals += 1
                else:
                    replies += 1
            elif line == b"PING":
                self.owed += b"PONG\r\n"
            elif line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())
            del heard[: end + 2]
        return replies, refusals


def create_bucket(replicas: int) -> bytes:
    """What a connection says to make the bucket; the answer holds `"config"` when it is made."""
    stream = {
        "name": "KV_bench",
        "subjects": ["$KV.bench.>"],
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "storage": "file",
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }
    body = json.dumps(stream).encode()
    ask = b"PUB $JS.API.STREAM.CREATE.KV_bench _INBOX.made %d\r\n%b\r\n" % (len(body), body)
    return _CONNECT + b"SUB _INBOX.made 1\r\n" + ask


WIRES: Final[dict[str, type[RespWire] | type[EtcdWire] | type[NatsWire]]] = {
    "resp": RespWire,
    "etcd": EtcdWire,
    "nats": NatsWire,
}
