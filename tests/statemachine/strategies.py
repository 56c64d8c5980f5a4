"""What hypothesis makes histories of: keys, values, times and commands of every kind.

Few keys and values, so that commands meet; those at the edges: empty, 0xff, prefixes of each
other, numbers at the ends of 64 bits, and times around the last moment there is.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from statemachine.commands import WriteCommand
from tests.statemachine import batches as make
from tests.statemachine.model import MAX

__all__ = ["KEYS", "VALUES", "commands", "keys", "odd_commands", "richer_commands", "values"]

KEYS = [b"", b"a", b"a\xff", b"ab", b"b", b"n", b"\xff", b"\xff\xff"]
VALUES = [b"", b"1", b"-7", b"x", b"01", str(MAX).encode(), str(-MAX - 1).encode()]

keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)
# Short ones, so that they fall due (the clock gets to about 100 ms); and those around the last
# moment there is. What one command in three or four does must not empty the store all the time.
soon = st.integers(1, 120)
times = st.one_of(soon, soon, st.sampled_from([MAX - 1, MAX, MAX + 1, 2**64 - 1]))
signed_times = st.one_of(soon, soon, st.sampled_from([0, -1, MAX, -MAX - 1]))
conditions = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4])
expiries = st.one_of(
    st.just({}),
    st.builds(lambda n: {"ttl_ms": n}, times),
    st.builds(lambda n: {"expire_at_ms": n}, times),
    st.builds(lambda n: {"ttl_secs": n}, st.sampled_from([1, MAX // 1000, MAX])),
    st.just({"keep_ttl": True}),
    st.just({"keep_ttl": True, "ttl_ms": 1}),
)
inserts = st.builds(
    lambda key, value, expiry, condition, expected, return_old: make.insert(
        key, value, condition=condition, expected=expected, return_old=return_old, **expiry
    ),
    *(keys, values, expiries, conditions, values, st.booleans()),
)
# Few ids, so that they meet; 0 asks for one that is free.
lease_ids = st.sampled_from([1, 1, 2, 3])
leased_inserts = st.builds(
    lambda key, value, lease, condition: make.insert(
        key, value, lease=lease, condition=condition, expected=value
    ),
    *(keys, values, lease_ids, conditions),
)
lease_commands = st.one_of(
    st.builds(make.grant, times, st.sampled_from([0, 0, 1, 2, 3, MAX + 1])),
    leased_inserts,
    leased_inserts,
    st.builds(make.keep_alive, lease_ids),
    st.builds(make.revoke, lease_ids),
)
"""Leases of many keys, and the keys on them."""
expires = st.builds(
    lambda key, name, time, condition: make.expire(key, **{name: time}, condition=condition),
    *(keys, st.sampled_from(["ttl_ms", "expire_at_ms"]), signed_times, conditions),
)
commands = st.one_of(
    inserts,
    inserts,
    lease_commands,
    expires,
    st.lists(st.tuples(keys, values), max_size=4).map(lambda pairs: make.put(*pairs)),
    keys.map(make.delete),
    st.lists(keys, max_size=4).map(lambda names: make.delete_keys(*names)),
    st.builds(make.swap, keys, st.none() | values, values),
    st.builds(make.add, keys, st.sampled_from([1, -1, MAX, -MAX - 1])),
    keys.map(make.persist),
)
odd_commands = st.sampled_from(
    [
        WriteCommand(),
        WriteCommand(put=WriteCommand.Put(keys=[b"a", b"b"], values=[b"1"])),
        WriteCommand(put=WriteCommand.Put(values=[b"1"])),
        make.insert(b"a", b"1", condition=9),
        make.expire(b"a", ttl_ms=5, condition=9),
        make.flush(),
    ]
)
"""What no client of ours sends: refused as values, alike on every replica. And FLUSHALL."""


def _richer(name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[WriteCommand]:
    """Commands of one kind, each field by its strategy; {} is a field that is left out."""
    kind = {"insert_many": WriteCommand.InsertMany, "remove": WriteCommand.Remove}
    kind |= {"get_and_expire": WriteCommand.GetAndExpire, "append": WriteCommand.Append}
    kind |= {"set_range": WriteCommand.SetRange, "set_bit": WriteCommand.SetBit}
    kind |= {"move": WriteCommand.Move, "publish": WriteCommand.Publish}
    made = st.fixed_dictionaries({}, optional=fields) | st.fixed_dictionaries(fields)
    return made.map(lambda chosen: WriteCommand(**{name: kind[name](**chosen)}))


_columns = st.lists(keys, min_size=2, max_size=2)
richer_commands = st.one_of(
    _richer(
        "insert_many",
        keys=_columns,
        values=st.just([b"1", b"x"]),
        ttl_ms=soon,
        condition=st.sampled_from([0, 1, 2]),
    ),
    _richer("insert_many", keys=_columns, values=st.just([b"7", b""]), keep_ttl=st.booleans()),
    _richer("remove", key=keys, condition=conditions, expected=values, return_old=st.booleans()),
    _richer("get_and_expire", key=keys, ttl_ms=signed_times),
    _richer("get_and_expire", key=keys, persist=st.booleans()),
    _richer("append", key=keys, value=values, bytes_max=st.sampled_from([0, 30, 1000])),
    _richer("set_range", key=keys, value=values, offset=st.integers(0, 9)),
    _richer("set_bit", key=keys, offset=st.integers(0, 40), bit=st.booleans()),
    _richer(
        "move", source=keys, destination=keys, if_absent=st.booleans(), keep_source=st.booleans()
    ),
    _richer("publish", channel=keys, message=values),
)
"""Those that the seed does not have."""
