"""What a node and its workers say to each other: pure bytes.

    0        1            5            9
    +--------+------------+------------+-- - - - -+
    | kind   | number     | n          | payload  |       little-endian; number: of the connection,
    | u8     | u32        | u32        | n bytes  |       given by the worker, never used again
    +--------+------------+------------+-- - - - -+

    worker to node                               node to worker
    OPEN   a client came: its names, as JSON     DATA    send this
    DATA   it sent this                          END     send no more after this: half-close
    END    it will send no more                  CLOSE   as END, then close
    LOST   it has gone; the number is dead       ABORT   close now; the number is dead
    ACK    u64: so much of DATA is sent          PAUSE   read no more from it
                                                 RESUME  read again
                                                 DEAF    accept nobody any more (number 0)

Invariants: n <= PAYLOAD_BYTES_MAX, so that what is held of a frame that is not whole is bounded;
longer data is cut into several. Both ends are of one version, started from the same files.

Does not do: sockets.

Proved by: tests/node/test_front.py
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["HEADER_BYTES", "KIND", "PAYLOAD_BYTES_MAX", "Frames", "frame"]

_HEADER: Final = struct.Struct("<BII")
HEADER_BYTES: Final = _HEADER.size
assert HEADER_BYTES == 9  # the picture above
PAYLOAD_BYTES_MAX: Final = 256 * 1024


class KIND:
    """Of a frame."""

    OPEN: Final = 1
    DATA: Final = 2
    END: Final = 3
    LOST: Final = 4
    ACK: Final = 5
    CLOSE: Final = 6
    ABORT: Final = 7
    PAUSE: Final = 8
    RESUME: Final = 9
    DEAF: Final = 10


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """One frame, or as many as DATA needs."""
    size = len(payload)
    if size <= PAYLOAD_BYTES_MAX:
        return _HEADER.pack(kind, number, size) + payload
    return b"".join(
        frame(kind, number, payload[start : start + PAYLOAD_BYTES_MAX])
        for start in range(0, size, PAYLOAD_BYTES_MAX)
    )


class Frames:
    """Frames from a byte stream. Where it is cut makes no difference."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """(kind, number, payload) of each that is whole now.

        Raises:
            ValueError: a payload that is too long; nothing can be read after it.
        """
        if self._rest:
            data = self._rest + data
        found, at, end = [], 0, len(data)
        unpack = _HEADER.unpack_from
        while end - at >= HEADER_BYTES:
            kind, number, size = unpack(data, at)
            if size > PAYLOAD_BYTES_MAX:
                raise ValueError(f"a frame of {size} bytes")
            stop = at + HEADER_BYTES + size
            if stop > end:
                break
            found.append((kind, number, data[at + HEADER_BYTES : stop]))
            at = stop
        self._rest = data[at:]
        return found
