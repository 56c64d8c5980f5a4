"""Log lines: one for each event, no value of a key in them, libraries in the same shape."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from node.config_sections import LogSection
from node.logs import EventLog, configure


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("trimaran")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines_of(section: LogSection) -> io.StringIO:
    stream = io.StringIO()
    configure(section, "n1", stream)
    return stream


def test_an_event_is_one_line_of_key_value_words() -> None:
    stream = lines_of(LogSection())
    EventLog("n2").info("leader elected", term=7, leader="n1", after_ms=1.5, mine=True, was=None)
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info node=n2 "
        r'event="leader elected" term=7 leader=n1 after_ms=1\.5 mine=true was=none\n',
        stream.getvalue(),
    )


def test_bytes_are_never_written_only_how_many_they_are() -> None:
    for form in ("text", "json"):
        stream = lines_of(LogSection(format=form))
        EventLog("n1").error("odd", value=b"secret", more=memoryview(b"secret"))
        assert "secret" not in stream.getvalue()
        assert stream.getvalue().count("<6 bytes>") == 2


def test_whatever_is_in_an_event_it_stays_one_line() -> None:
    for form in ("text", "json"):
        stream = lines_of(LogSection(format=form))
        EventLog("n1").warning("two\nlines", text='a\r\nb " \u2028 \x85', empty="")
        assert len(stream.getvalue().splitlines()) == 1


def test_json_lines_are_json() -> None:
    stream = lines_of(LogSection(format="json"))
    EventLog("n1").info("leader elected", term=7)
    fields = json.loads(stream.getvalue())
    assert fields["event"] == "leader elected"
    assert fields["term"] == 7


def test_the_level_of_the_config_holds() -> None:
    stream = lines_of(LogSection(level="warning"))
    EventLog("n1").info("not said")
    EventLog("n1").warning("said")
    assert "not said" not in stream.getvalue()
    assert "event=said" in stream.getvalue()


def test_a_line_of_another_library_comes_out_in_the_same_shape() -> None:
    stream = lines_of(LogSection())
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("pysyncobj").exception("failed to do it")
    line = stream.getvalue()
    head = r'event="failed to do it" logger=pysyncobj traceback="test_logs.py:\d+ test_a_line'
    assert re.search(head, line)
    assert "reason=ValueError\n" in line
    assert "broken" not in line  # Of a foreign error what it says may be somebody's value.
    assert len(line.splitlines()) == 1
    logging.getLogger("pysyncobj").info("chatter about itself")
    assert "chatter" not in stream.getvalue()


def test_the_page_is_told_what_is_not_written_and_never_bytes() -> None:
    stream = lines_of(LogSection(level="error"))
    told: list[tuple[str, str, dict[str, object]]] = []
    log = EventLog("n1", lambda *words: told.append(words))
    log.place = lambda: (3, 17)
    log.debug("chatter")
    log.info("odd", value=b"secret")
    assert told == [("info", "odd", {"term": 3, "index": 17, "value": "<6 bytes>"})]
    assert stream.getvalue() == ""


def test_a_line_says_where_the_node_stands_unless_it_says_so_itself() -> None:
    stream = lines_of(LogSection())
    log = EventLog("n1")
    log.place = lambda: (3, 17)
    log.info("a")
    log.info("b", term=2, index=9)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(" level=info node=n1 event=a term=3 index=17")
    assert second.endswith(" level=info node=n1 event=b term=2 index=9")


def test_whoever_has_a_node_inside_hears_events_as_records_without_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the program has made of structlog for itself has no part in it."""
    with structlog.testing.capture_logs() as captured, caplog.at_level(logging.INFO, "trimaran"):
        EventLog("n1").info("100 % odd", value=b"secret")
    assert captured == []
    (record,) = caplog.records
    assert record.getMessage() == "100 % odd"
    assert record.__dict__["trimaran_fields"] == {"node": "n1", "value": "<6 bytes>"}


def test_an_event_that_nobody_hears_is_not_made() -> None:
    lines_of(LogSection(level="info"))
    log = EventLog("n1")
    log.place = lambda: pytest.fail("nobody hears it")
    log.debug("chatter", value=b"v")
