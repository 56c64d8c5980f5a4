"""The chaos run's own instruments: a checker that finds what is wrong, a network that is cut."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.chaos.proxy import Network
from tests.support.chaos.registers import NEVER, Operation, is_linearizable


def write(called_s: float, back_s: float, value: str) -> Operation:
    return Operation("write", called_s, back_s, value.encode())


def read(called_s: float, back_s: float, value: str | None) -> Operation:
    return Operation("read", called_s, back_s, value.encode() if value else None)


def cas(called_s: float, back_s: float, old: str, new: str, done: bool = True) -> Operation:
    return Operation("cas", called_s, back_s, new.encode(), old.encode(), done)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="nothing happened"),
        pytest.param([read(0, 1, None)], id="nothing was there"),
        pytest.param([write(0, 1, "a"), read(2, 3, "a")], id="one after the other"),
        pytest.param([write(0, 9, "a"), read(1, 2, None), read(3, 4, "a")], id="within the write"),
        pytest.param(
            [write(0, 3, "a"), write(1, 2, "b"), read(4, 5, "a")], id="either may be last"
        ),
        pytest.param([write(0, NEVER, "a"), read(5, 6, None), read(7, 8, "a")], id="unknown, late"),
        pytest.param([write(0, NEVER, "a"), read(5, 6, None)], id="unknown, never"),
        pytest.param([write(0, 1, "a"), cas(2, 3, "a", "b"), read(4, 5, "b")], id="cas"),
        pytest.param([write(0, 1, "a"), cas(2, 3, "x", "b", False), read(4, 5, "a")], id="no cas"),
        pytest.param(
            [write(0, 1, "a"), cas(2, NEVER, "a", "b"), read(4, 5, "b")], id="unknown cas"
        ),
    ],
)
def test_what_can_have_happened_is_found_to_be_possible(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([write(0, 1, "a"), read(2, 3, None)], id="a lost write"),
        pytest.param([write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")], id="a stale read"),
        pytest.param([write(0, 9, "a"), read(1, 2, "a"), read(3, 4, None)], id="back in time"),
        pytest.param([read(0, 1, "a")], id="out of nowhere"),
        pytest.param([write(2, NEVER, "a"), read(0, 1, "a")], id="read before it was asked for"),
        pytest.param(
            [write(0, 1, "a"), cas(2, 3, "a", "b"), cas(2, 3, "a", "c")], id="two cas of one value"
        ),
        pytest.param([write(0, 1, "a"), cas(2, 3, "a", "b", False)], id="a cas was due"),
        pytest.param(
            [write(0, 1, "a"), write(2, NEVER, "b"), read(3, 4, "b"), write(5, 6, "c"),
             read(7, 8, "c"), read(9, 10, "b")],
            id="an unknown write twice",
        ),
    ],
)  # fmt: skip
def test_what_cannot_have_happened_is_found_out(history: list[Operation]) -> None:
    assert not is_linearizable(history)


def _random_history(seed: int) -> list[Operation]:
    """Of a true register, by clients whose calls overlap: linearizable by making."""
    rng = random.Random(seed)
    value: bytes | None = None
    history = []
    for number in range(7):
        at_s = float(number)
        called_s, back_s = at_s - rng.uniform(0, 2.5), at_s + rng.uniform(0, 2.5)
        kind = rng.choice(["read", "write", "cas"])
        new = b"%d" % number
        if kind == "read":
            history.append(Operation("read", called_s, back_s, value))
        elif kind == "write":
            history.append(Operation("write", called_s, back_s, new))
            value = new
        else:
            expected = rng.choice([value, b"0"])
            history.append(Operation("cas", called_s, back_s, new, expected, expected == value))
            value = new if expected == value else value
    return history


def _by_brute_force(history: list[Operation]) -> bool:
    for order in itertools.permutations(history):
        if any(
            later.back_s < earlier.called_s for earlier, later in itertools.combinations(order, 2)
        ):
            continue
        value: bytes | None = None
        for each in order:
            if each.kind == "read" and each.value != value:
                break
            if each.kind == "cas" and each.told != (each.expected == value):
                break
            if each.kind == "write" or (each.kind == "cas" and each.told):
                value = each.value
        else:
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_it_agrees_with_trying_every_order(seed: int) -> None:
    history = _random_history(seed)
    assert is_linearizable(history)
    rng = random.Random(seed)
    at = rng.randrange(len(history))
    spoilt = history[at]
    history[at] = Operation(
        spoilt.kind, spoilt.called_s, spoilt.back_s, b"3", spoilt.expected, not spoilt.told
    )
    assert is_linearizable(history) == _by_brute_force(history)


def test_a_long_history_of_many_clients_is_checked_in_no_time() -> None:
    rng = random.Random(5)
    value: bytes | None = None
    history = []
    for number in range(1_500):
        at_s = number / 10
        called_s, back_s = at_s - rng.uniform(0, 0.3), at_s + rng.uniform(0, 0.3)
        if rng.random() < 0.5:
            value = b"%d" % number
            history.append(Operation("write", called_s, back_s, value))
        else:
            history.append(Operation("read", called_s, back_s, value))
    begun_s = time.monotonic()
    assert is_linearizable(history)
    assert time.monotonic() - begun_s < 5


# -- the network --------------------------------------------------------------------------------


class Echo:
    """Answers every byte; what it was sent."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.got = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(100):
                self.got += data
                connection.sendall(data)


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[Network, Echo, int]]:
    echo = Echo()
    port = echo.server.getsockname()[1]
    nodes = []
    for name in ("n1", "n2"):
        path = tmp_path / name
        path.write_text(f'peer = "127.0.0.1:{port}"\n')
        nodes.append(SimpleNamespace(id=name, peer_port=port, path=path))
    with Network() as network:
        cluster: Any = nodes
        network.join(cluster)
        yield network, echo, network._ports["n1", "n2"]
    echo.server.close()


def test_a_cut_holds_one_direction_and_the_other_goes_on(wired: tuple[Network, Echo, int]) -> None:
    network, echo, port = wired
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"a")
        assert client.recv(10) == b"a"
        network.cut("n2", "n1")
        client.sendall(b"b")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        assert echo.got == b"ab"
        network.cut("n1", "n2")
        client.sendall(b"c")
        time.sleep(0.1)
        assert echo.got == b"ab"
        network.heal()
        client.settimeout(5)
        received = b""
        while len(received) < 2:
            received += client.recv(10)
        assert received == b"bc"  # Sent again when it is whole, as TCP does.


def test_nothing_new_is_connected_through_a_cut(wired: tuple[Network, Echo, int]) -> None:
    network, echo, port = wired
    network.cut("n2", "n1")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"a")
        time.sleep(0.1)
        assert echo.got == b""
        network.heal()
        assert client.recv(10) == b"a"
