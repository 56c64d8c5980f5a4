"""Pipelines keep their order: whatever is sent, however it is cut, whenever it is answered.

Goal: the replies of a pipeline are those of the same commands sent one by one, each after the
reply to the one before. Method: hypothesis makes pipelines of writes, reads, local commands and
mistakes, cuts their bytes anywhere, and lets the service answer between the cuts, or not.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_service import Client, FakeService, wire

KEYS = st.sampled_from(["a", "b", "n"])
COMMANDS = st.one_of(
    st.tuples(st.just("SET"), KEYS, st.sampled_from(["1", "22", "x"])),
    st.tuples(st.just("INCR"), KEYS),
    st.tuples(st.just("DEL"), KEYS, KEYS),
    st.tuples(st.just("SET"), KEYS, st.just("7"), st.sampled_from(["NX", "XX", "GET", "BAD"])),
    st.tuples(st.just("GET"), KEYS),
    st.tuples(st.just("MGET"), KEYS, KEYS),
    st.tuples(st.just("EXISTS"), KEYS),
    st.tuples(st.just("ECHO"), st.sampled_from(["p", "q"])),
    st.tuples(st.just("GET")),
    st.tuples(st.just("NOSUCH"), KEYS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=30), st.data())
def test_a_pipeline_is_answered_as_its_commands_one_by_one(
    commands: list[tuple[str, ...]], data: st.DataObject
) -> None:
    alone = Client(FakeService())
    expected = b"".join(alone.run(*command) for command in commands)

    service = FakeService()
    client = Client(service)
    rest = b"".join(wire(*command) for command in commands)
    answers = b""
    while rest:
        cut = data.draw(st.integers(1, len(rest)), label="bytes of the next read")
        client.send(rest[:cut])
        rest = rest[cut:]
        if data.draw(st.booleans(), label="the service answers"):
            service.settle()
        answers += client.take()
        assert expected.startswith(answers)
    service.settle_all()
    assert answers + client.take() == expected
