"""hashing.py: the hash is that of the bytes, in order, and no thread is left behind."""

from __future__ import annotations

import hashlib
import threading

import pytest

from statemachine.hashing import WAITING_MAX, Sha256Beside

LARGE_BYTES = 1024 * 1024
PIECES = [bytes([number % 251]) * (number % 7000) for number in range(4 * WAITING_MAX)]


def hashing_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "trimaran-sha256"]


@pytest.mark.parametrize("size_bytes", [0, LARGE_BYTES - 1, LARGE_BYTES])
def test_it_is_the_hash_of_all_pieces_in_order_however_large(size_bytes: int) -> None:
    found = Sha256Beside(size_bytes)
    assert bool(hashing_threads()) == (size_bytes == LARGE_BYTES)
    for head, body in zip(PIECES[::2], PIECES[1::2], strict=True):
        found.update(head, body)
    assert found.digest() == hashlib.sha256(b"".join(PIECES)).digest()
    assert not hashing_threads()
    # A footer follows its own hash.
    found.update(b"and ", b"more")
    assert found.digest() == hashlib.sha256(b"".join(PIECES) + b"and more").digest()


def test_what_is_given_up_leaves_no_thread() -> None:
    for _ in range(3):
        found = Sha256Beside(LARGE_BYTES)
        found.update(bytes(LARGE_BYTES))
        found.close()
        found.close()
        assert not hashing_threads()


def test_no_more_waits_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, waiting = threading.Event(), []
    hash_it = Sha256Beside._hash

    def slowly(self: Sha256Beside, parts: tuple[bytes, ...]) -> None:
        assert goes_on.wait(60)
        waiting.append(self._queue.qsize())
        hash_it(self, parts)

    monkeypatch.setattr(Sha256Beside, "_hash", slowly)
    found = Sha256Beside(LARGE_BYTES)

    def hand_over() -> None:
        for piece in PIECES:
            found.update(piece)

    owner = threading.Thread(target=hand_over)
    owner.start()
    while owner.is_alive() and found._queue.qsize() < WAITING_MAX - 1:
        owner.join(0.001)
    goes_on.set()
    owner.join(60)
    assert found.digest() == hashlib.sha256(b"".join(PIECES)).digest()
    assert len(waiting) == len(PIECES)
    assert max(waiting) <= WAITING_MAX
