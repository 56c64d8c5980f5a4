r"""RESP requests from a byte stream. No sockets, no commands, no replies (node.replies).

    *3\r\n $3\r\nSET\r\n $1\r\nk\r\n $2\r\nv1\r\n   an array of bulk strings: what clients send
    SET k "v 1"\r\n                                 an inline command: what people type

    feed(bytes) -> requests that are complete, oldest first; each a list of its arguments
    error       -> the stream cannot be read on: reply it once, after the requests, then close

Two readers, one language. `_step` is exact: Redis's limits and Redis's words, each checked
before memory is taken, and it may be cut anywhere. `_read` is fast: it gives hiredis a piece that
looks like whole requests, with a sentinel behind it. hiredis alone would not do: it makes
the list for `*999999999` before it has one element, takes `+text` for an argument, and does
not say where in the stream it stands when a person's inline command follows. So its
answer counts only when
  no count in the piece has five digits (checked before it sees a byte),
  the last thing it returns is the sentinel: the piece ended exactly where a request ended,
  all it returned are lists of bytes, in no fewer bytes than such lists take;
and otherwise it is thrown away and `_step` reads the same bytes again. The sentinel is random:
no client can send it. (One leniency is left: `+text` may be taken for `$4\r\ntext`, and a set `~n`
for `*n`, among requests with longer headers. No client sends that, and it harms nobody.)

Invariants:
  Where the stream is cut makes no difference to requests and error.
  Unparsed bytes are bounded: a request of more than request_bytes_max is read over, not
  kept, and comes out as an OversizedRequest in its place; what follows it is read as ever.
  Before AUTH a request has at most 10 arguments of 16 KiB, as in Redis.

Does not do: pick out requests behind a protocol error, look at command names.

Proved by: tests/node/test_resp.py
"""

from __future__ import annotations

import re
import secrets
from itertools import chain
from typing import Any, Final

try:
    import hiredis
except ImportError:  # A platform without a wheel: everything goes through `_step`, more slowly.
    hiredis = None  # type: ignore[assignment,unused-ignore]

from node.inline import split_inline

__all__ = [
    "ARGUMENTS_MAX",
    "BULK_BYTES_MAX",
    "INLINE_BYTES_MAX",
    "OversizedRequest",
    "Request",
    "RequestParser",
]

ARGUMENTS_MAX: Final = 1024 * 1024
BULK_BYTES_MAX: Final = 512 * 1024 * 1024
"""Redis's proto-max-bulk-len. Larger than any request that is kept; the rest is read over."""
INLINE_BYTES_MAX: Final = 64 * 1024
_ARGUMENTS_BEFORE_AUTH_MAX: Final = 10
_BULK_BEFORE_AUTH_BYTES_MAX: Final = 16 * 1024

_ARRAY: Final = ord("*")
_BULK: Final = ord("$")
_LARGE_COUNT: Final = re.compile(rb"\*\d{5}")
_INTEGER: Final = re.compile(rb"0|-?[1-9]\d{0,18}")

_ONLY_LISTS: Final = {list}
_flatten: Final = chain.from_iterable

_SENTINEL: Final = [secrets.token_bytes(16)]
_SENTINEL_WIRE: Final = b"*1\r\n$16\r\n%b\r\n" % _SENTINEL[0]

Request = list[bytes]


class OversizedRequest(list[bytes]):
    """Stands in the place of a request that was too large to keep. Holds one empty name."""

    def __init__(self) -> None:
        super().__init__((b"",))


class RequestParser:
    """The requests of one connection.

    Args:
        request_bytes_max: the most that one request may have in arguments and their headers.
        authenticated: False until AUTH, where a password is asked for; then set it True.
    """

    __slots__ = (
        "_arguments",
        "_at",
        "_buffer",
        "_bulk_bytes",
        "_missing",
        "_open_bytes",
        "_reader",
        "_skip_bytes",
        "authenticated",
        "error",
        "request_bytes_max",
    )

    def __init__(self, request_bytes_max: int, *, authenticated: bool = True) -> None:
        self.request_bytes_max = request_bytes_max
        self.authenticated = authenticated
        self.error: str | None = None
        """Why the stream ended, in Redis's words. Nothing is read after it."""
        self._buffer = bytearray()
        self._arguments: list[bytes] | None = []  # Of the open request. None: it is oversized.
        self._at = 0  # Where `_step` stands in the buffer.
        self._missing = 0  # How many arguments the open request still lacks. 0: none is open.
        self._bulk_bytes = -1  # The length that the next argument has. -1: not read yet.
        self._open_bytes = 0  # What the open request has declared so far.
        self._skip_bytes = 0  # What is left of an argument that is read over.
        self._reader: Any = None  # A hiredis.Reader that is between two requests.

    def feed(self, data: bytes) -> list[Request]:
        """Add bytes; return the requests they complete, oldest first. Then look at `error`.

        Before AUTH it returns one at a time, as that one may be the AUTH after which other
        limits hold; while `has_rest`, feed(b"") goes on with what is there already.
        """
        requests: list[Request] = []
        if self.error is not None:
            return requests
        buffer = self._buffer
        if self._missing:
            buffer += data
            self._step(requests, until_request_end=True)
            if self._missing or self.error is not None or not self.authenticated:
                return requests
            data = bytes(buffer)
            buffer.clear()
        elif buffer:
            data = bytes(buffer) + data
            buffer.clear()
        if data and data[0] == _ARRAY and self.authenticated and hiredis is not None:
            data = self._read_whole(data, requests)
        if data:
            buffer += data
            self._step(requests, until_request_end=not self.authenticated)
        return requests

    @property
    def held_bytes(self) -> int:
        """At most what the request that is open has had, or said it will have, so far."""
        return self._open_bytes if self._missing else len(self._buffer)

    @property
    def has_rest(self) -> bool:
        """Whether bytes are there that have not been looked at, or not to the end."""
        return bool(self._buffer) and not self._missing and self.error is None

    def _read_whole(self, data: bytes, requests: list[Request]) -> bytes:
        """Read as much of `data` as hiredis can be trusted with. Returns the rest."""
        if len(data) > self.request_bytes_max or _LARGE_COUNT.search(data):
            return data
        if data.endswith(b"\r\n"):
            found = self._read(data)
            if found is not None:
                requests += found
                return b""
        # The piece ends inside a request. Most likely that one begins at the last "*" that
        # begins a line; if that "*" is data, the sentinel will say so.
        cut = data.rfind(b"\r\n*") + 2
        if cut < 2:
            return data
        found = self._read(data[:cut])
        if found is None:
            return data
        requests += found
        return data[cut:]

    def _read(self, piece: bytes) -> list[Request] | None:
        """The requests of a piece that ends where a request ends. None: it does not, or is odd."""
        reader = self._reader
        if reader is None:
            reader = hiredis.Reader()
        self._reader = None
        found: list[Request] = []
        try:
            reader.feed(piece)
            reader.feed(_SENTINEL_WIRE)
            found.extend(iter(reader.gets, False))
            if not found or found.pop() != _SENTINEL:
                return None  # The reader is inside a request now: it is dropped.
            self._reader = reader
            if found and set(map(type, found)) != _ONLY_LISTS:
                return None
            payload_bytes = len(b"".join(_flatten(found)))  # Refuses everything but bytes.
        except (hiredis.ProtocolError, TypeError):
            return None
        # "*n" and CRLF are 4 bytes at least, "$n" and two CRLFs 6.
        framing_bytes = 4 * len(found) + 6 * sum(map(len, found))
        if len(piece) < framing_bytes + payload_bytes:
            return None
        return found if all(found) else [request for request in found if request]

    def _step(self, requests: list[Request], *, until_request_end: bool) -> None:
        """Read on from the buffer, byte for byte as Redis does, and drop what was read."""
        buffer = self._buffer
        self._at = 0
        with memoryview(buffer) as view:
            while self.error is None:
                if self._missing:
                    if not self._argument(view):
                        break
                    if not self._missing:
                        requests.append(self._take())
                        if until_request_end:
                            break
                elif self._at == len(buffer):
                    break
                elif buffer[self._at] == _ARRAY:
                    if not self._array_header():
                        break
                elif not self._inline(requests) or (until_request_end and requests):
                    break
        del buffer[: self._at]

    def _take(self) -> Request:
        """The open request, which is complete."""
        arguments = self._arguments
        self._arguments = []
        return OversizedRequest() if arguments is None else arguments

    def _array_header(self) -> bool:
        """Read `*n`. False: it is not all there."""
        end = self._line_end(b"\r\n", "too big mbulk count string")
        if end < 0:
            return False
        count = _integer(self._buffer[self._at + 1 : end])
        if count is None or count > ARGUMENTS_MAX:
            self.error = "Protocol error: invalid multibulk length"
        elif count > _ARGUMENTS_BEFORE_AUTH_MAX and not self.authenticated:
            self.error = "Protocol error: unauthenticated multibulk length"
        elif count > 0:
            self._missing = count
            self._open_bytes = 0
        self._at = end + 2
        return True

    def _argument(self, view: memoryview) -> bool:
        """Read `$n` and n bytes, or as much as is there. False: the rest has to be waited for."""
        if self._bulk_bytes < 0 and not self._skip_bytes and not self._bulk_header():
            return False
        if self._skip_bytes:
            # Dropped as it comes, never kept until it is whole.
            skipped = min(self._skip_bytes, len(view) - self._at)
            self._skip_bytes -= skipped
            self._at += skipped
            if self._skip_bytes:
                return False
        else:
            end = self._at + self._bulk_bytes
            if end + 2 > len(view):
                return False
            if self._arguments is not None:
                self._arguments.append(bytes(view[self._at : end]))
            self._at = end + 2
            self._bulk_bytes = -1
        self._missing -= 1
        return True

    def _bulk_header(self) -> bool:
        """Read `$n`. False: it is not all there, or is wrong (then `error` says so)."""
        end = self._line_end(b"\r\n", "too big bulk count string")
        if end < 0:
            return False
        if self._buffer[self._at] != _BULK:
            self.error = f"Protocol error: expected '$', got '{chr(self._buffer[self._at])}'"
            return False
        length = _integer(self._buffer[self._at + 1 : end])
        if length is None or not 0 <= length <= BULK_BYTES_MAX:
            self.error = "Protocol error: invalid bulk length"
            return False
        if length > _BULK_BEFORE_AUTH_BYTES_MAX and not self.authenticated:
            self.error = "Protocol error: unauthenticated bulk length"
            return False
        self._open_bytes += end + 4 - self._at + length
        self._at = end + 2
        if self._open_bytes > self.request_bytes_max:
            self._arguments = None
            self._skip_bytes = length + 2
        else:
            self._bulk_bytes = length
        return True

    def _inline(self, requests: list[Request]) -> bool:
        """Read a line that a person typed. False: it is not all there, or is wrong."""
        end = self._line_end(b"\n", "too big inline request")
        if end < 0:
            return False
        arguments = split_inline(bytes(self._buffer[self._at : end]).removesuffix(b"\r"))
        self._at = end + 1
        if arguments is None:
            self.error = "Protocol error: unbalanced quotes in request"
        elif arguments:
            requests.append(arguments)
        return True

    def _line_end(self, ending: bytes, too_long: str) -> int:
        """Where the line at the cursor ends; -1: not there yet, and an error past 64 KiB."""
        end = self._buffer.find(ending, self._at, self._at + INLINE_BYTES_MAX + len(ending))
        if end < 0 and len(self._buffer) - self._at > INLINE_BYTES_MAX:
            self.error = f"Protocol error: {too_long}"
        return end


def _integer(text: bytes | bytearray) -> int | None:
    """A number as Redis reads it: no sign but "-", no leading zeros, no spaces, 64 bits."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
