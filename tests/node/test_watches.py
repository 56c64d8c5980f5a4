"""TRI.WATCH: what is told, in which order, from where on, and what becomes of slow clients.

Method: sessions over the fake service, whose history is the real one. Frames are read by hiredis.
"""

from __future__ import annotations

from typing import Any

import pytest

from node.commands import COMMANDS
from node.config import HistorySection
from node.connection import Frontend
from statemachine.history import HistoryConfig
from tests.support.fake_service import Client, FakeService, config, wire
from tests.support.listener import Listener


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def frontend(service: FakeService) -> Frontend:
    return Frontend(service, config(history=HistorySection(progress_ms=1000)), COMMANDS)


class Watcher(Listener):
    """A client that keeps what it is told."""

    def told(self) -> list[Any]:
        """Frames since the last call, without their first word."""
        found = []
        for frame in self.frames():
            assert isinstance(frame, list), frame
            found.append(frame[1:] if frame[0] == b"tri.watch" else frame)
        return found


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_watcher_is_told_what_happened_and_nobody_else_is(
    service: FakeService, frontend: Frontend, protocol: int
) -> None:
    prefix, key, other = Watcher(frontend, protocol), Watcher(frontend, protocol), Watcher(frontend)
    other.run("SET", "before", "1")
    assert prefix.ask("TRI.WATCH", "PREFIX", "a", "PREV") == [1, 1]
    assert key.ask("TRI.WATCH", "KEY", "ab") == [1, 1]
    other.run("SET", "ab", "1")
    other.run("MSET", "ab", "2", "b", "x", "ac", "3", "ab", "4")
    other.run("PEXPIRE", "ac", 1000)
    other.run("GET", "ab")
    other.run("DEL", "ab", "none")
    other.run("RENAME", "ac", "ad")
    service.clock_ms += 1000
    other.run("SET", "b", "y")
    assert prefix.told() == [
        [1, 2, [[b"set", b"ab", b"1", None]]],
        [1, 3, [[b"set", b"ab", b"2", b"1"], [b"set", b"ac", b"3", None],
                [b"set", b"ab", b"4", b"2"]]],
        [1, 4, [[b"deadline", b"ac", b"3", b"3"]]],
        [1, 5, [[b"del", b"ab", None, b"4"]]],
        [1, 6, [[b"del", b"ac", None, b"3"], [b"set", b"ad", b"3", None]]],
        [1, 7, [[b"expire", b"ad", None, b"3"]]],
    ]  # fmt: skip
    assert key.told() == [
        [1, 2, [[b"set", b"ab", b"1"]]],
        [1, 3, [[b"set", b"ab", b"2"], [b"set", b"ab", b"4"]]],
        [1, 5, [[b"del", b"ab", None]]],
    ]
    assert other.take() == b""
    other.run("FLUSHALL")
    assert prefix.told() == [[1, 8, [[b"flush", b"", None, None]]]]
    assert key.told() == [[1, 8, [[b"flush", b"", None]]]]


def test_frames_are_pushes_in_resp3_and_arrays_in_resp2(
    service: FakeService, frontend: Frontend
) -> None:
    two, three = Watcher(frontend, 2), Watcher(frontend, 3)
    for watcher in (two, three):
        watcher.run("TRI.WATCH", "KEY", "k")
    three.run("SET", "k", "v")
    frame = b"$9\r\ntri.watch\r\n:1\r\n:1\r\n*1\r\n*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n"
    assert two.take() == b"*4\r\n" + frame


def test_a_writer_that_watches_is_told_before_it_is_answered(
    service: FakeService, frontend: Frontend
) -> None:
    watcher = Watcher(frontend)
    watcher.run("TRI.WATCH", "KEY", "k")
    said = watcher.run("SET", "k", "v")
    assert said.startswith(b">4\r\n")
    assert said.endswith(b"+OK\r\n")


def test_in_resp2_a_watcher_may_do_little_else(service: FakeService, frontend: Frontend) -> None:
    watcher = Watcher(frontend, 2)
    watcher.run("TRI.WATCH", "KEY", "k")
    assert watcher.run("GET", "k").startswith(b"-ERR Can't execute 'get'")
    assert watcher.ask("TRI.WATCH", "PREFIX", "") == [2, 0]
    assert watcher.ask("TRI.UNWATCH", 1, 9) == 1
    assert watcher.run("GET", "k").startswith(b"-ERR Can't execute 'get'")
    assert watcher.ask("TRI.UNWATCH") == 1
    assert watcher.run("GET", "k") == b"$-1\r\n"
    watcher.run("TRI.WATCH", "KEY", "k")
    assert watcher.run("RESET") == b"+RESET\r\n"
    watcher.run("SET", "k", "1")
    assert watcher.told() == []


def test_what_stands_behind_a_watch_in_the_pipeline_is_looked_at_anew(
    service: FakeService, frontend: Frontend
) -> None:
    watcher = Watcher(frontend, 2)
    watcher.send(wire("GET", "k") + wire("TRI.WATCH", "KEY", "k") + wire("GET", "k"))
    service.settle_all()
    said = watcher.take()
    assert said.startswith(b"$-1\r\n*2\r\n:1\r\n:0\r\n-ERR Can't execute 'get'")


def test_what_ends_is_told_nothing_more_and_nothing_is_left_behind(
    service: FakeService, frontend: Frontend
) -> None:
    first, second = (Watcher(frontend) for _ in "12")
    writer = Client(service, frontend)
    for watcher in (first, second):
        watcher.run("TRI.WATCH", "PREFIX", "k")
    writer.run("SET", "k", "1")
    assert [frame[1] for frame in first.told() + second.told()] == [1, 1]
    first.session.lost()
    second.run("TRI.UNWATCH")
    writer.run("SET", "k", "2")
    assert first.told() + second.told() == []
    assert len(frontend.watches) == 0
    assert service.followers == {}, "the service still calls"


def test_from_a_revision_on_everything_is_told_once(
    service: FakeService, frontend: Frontend
) -> None:
    writer = Client(service, frontend)
    for number in range(1, 6):
        writer.run("SET", "k", number)
    for start in range(1, 8):
        watcher = Watcher(frontend)
        assert watcher.ask("TRI.WATCH", "KEY", "k", "FROM", start, "PREV") == [1, start - 1]
        writer.run("SET", "other", "x")
        assert [frame[1] for frame in watcher.told()] == list(range(start, 6)), start
        watcher.run("TRI.UNWATCH")
    watcher = Watcher(frontend)
    watcher.ask("TRI.WATCH", "KEY", "k", "FROM", service.index + 3)  # As a node that lags has it.
    for number in range(5):
        writer.run("SET", "k", number)
    assert [frame[1] for frame in watcher.told()] == list(
        range(service.index - 2, service.index + 1)
    )


def test_a_past_that_is_gone_is_refused_and_says_what_is_left() -> None:
    service = FakeService(history=HistoryConfig(bytes_max=1000, entries_max=4))
    frontend = Frontend(service, config(), COMMANDS)
    writer, watcher = Client(service, frontend), Watcher(frontend)
    for number in range(10):
        writer.run("SET", "k", number)
    assert watcher.ask("TRI.WATCH", "KEY", "k", "FROM", 6) == (
        "COMPACTED history begins at revision 7"
    )
    assert service.followers == {}
    assert watcher.ask("TRI.WATCH", "KEY", "k", "FROM", 7) == [1, 6]
    assert [frame[1] for frame in watcher.told()] == [7, 8, 9, 10]


def test_a_client_that_does_not_read_is_told_the_rest_when_it_does(
    service: FakeService, frontend: Frontend
) -> None:
    writer, watcher = Client(service, frontend), Watcher(frontend)
    watcher.run("TRI.WATCH", "PREFIX", "")
    watcher.run("TRI.WATCH", "KEY", "k")
    watcher.session.pause_writing()
    for _ in range(20):
        writer.run("SET", "k", "x" * 20_000)
    assert watcher.take() == b""
    watcher.session.resume_writing()
    writer.run("SET", "k", "last")
    told = watcher.told()
    for watch_id in (1, 2):
        assert [frame[1] for frame in told if frame[0] == watch_id] == list(range(1, 22))
    assert watcher.connection.watches_behind == {}


def test_a_client_that_never_reads_is_told_that_its_watch_is_over() -> None:
    service = FakeService(history=HistoryConfig(bytes_max=10_000, entries_max=8))
    frontend = Frontend(service, config(), COMMANDS)
    writer, watcher = Client(service, frontend), Watcher(frontend)
    watcher.run("TRI.WATCH", "KEY", "k")
    writer.run("SET", "k", "0")
    watcher.session.pause_writing()
    for number in range(20):
        writer.run("SET", "k", number)
    watcher.session.resume_writing()
    assert watcher.told() == [
        [1, 1, [[b"set", b"k", b"0"]]],
        [b"tri.watch-end", 1, 1, b"COMPACTED history begins at revision 14"],
    ]
    writer.run("SET", "k", "x")
    assert watcher.told() == []


def test_a_snapshot_in_place_of_the_log_ends_the_watches(
    service: FakeService, frontend: Frontend
) -> None:
    writer, watcher = Client(service, frontend), Watcher(frontend)
    watcher.run("TRI.WATCH", "KEY", "k")
    writer.run("SET", "k", "0")
    service.machine.revision = 50
    service.history.restart(51)
    writer.run("SET", "k", "1")
    assert watcher.told()[1:] == [
        [b"tri.watch-end", 1, 1, b"COMPACTED history begins at revision 51"]
    ]
    assert watcher.ask("TRI.WATCH", "KEY", "k", "FROM", 51) == [1 + 1, 50]
    assert [frame[1] for frame in watcher.told()] == [51]


def test_who_is_told_nothing_hears_how_far_it_has_got(
    service: FakeService, frontend: Frontend
) -> None:
    watcher, writer = Watcher(frontend), Client(service, frontend)
    watcher.run("TRI.WATCH", "KEY", "k")
    writer.run("SET", "other", "1")
    frontend.tick()
    assert watcher.told() == []
    service.clock_ms += 1000
    frontend.tick()
    frontend.tick()
    assert watcher.told() == [[1, 1, []]]
    writer.run("SET", "k", "1")
    service.clock_ms += 1000
    frontend.tick()
    assert watcher.told() == [[1, 2, [[b"set", b"k", b"1"]]]]
    service.clock_ms += 1000
    frontend.tick()
    assert watcher.told() == [[1, 2, []]]


def test_a_long_past_is_told_in_slices(service: FakeService, frontend: Frontend) -> None:
    calls: list[Any] = []
    frontend.watches.call_soon = calls.append
    writer, watcher = Client(service, frontend), Watcher(frontend)
    for _ in range(40):
        writer.run("SET", "k", "x" * 50_000)
    watcher.ask("TRI.WATCH", "KEY", "k", "FROM", 1)
    told = watcher.told()
    slices = 1
    while calls:
        writer.run("SET", "k", "new")
        calls.pop(0)()
        told += watcher.told()
        slices += 1
    assert slices > 5
    assert [frame[1] for frame in told] == list(range(1, service.index + 1))


@pytest.mark.parametrize(
    ("command", "want"),
    [
        (("KIND", "k"), "ERR syntax error"),
        (("KEY", "k", "FROM"), "ERR value is not an integer or out of range"),
        (("KEY", "k", "FROM", 0), "ERR value is not an integer or out of range"),
        (("KEY", "k", "SINCE", 1), "ERR syntax error"),
        (("KEY", "k" * 70_000), "ERR key or prefix is longer than limits.key_bytes_max"),
    ],
)
def test_mistakes_are_told(frontend: Frontend, command: tuple[str | int, ...], want: str) -> None:
    assert Watcher(frontend).ask("TRI.WATCH", *command) == want


def test_a_client_has_so_many_watches(service: FakeService, frontend: Frontend) -> None:
    watcher = Watcher(frontend)
    for _ in range(1000):
        watcher.run("TRI.WATCH", "KEY", "k")
    assert watcher.ask("TRI.WATCH", "KEY", "k") == "ERR more than 1000 watches"
