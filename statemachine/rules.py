"""What each command does to the keys, and what it answers. The rules, and no others.

    rules_strings   insert, add, append ...      values
    rules_keys      delete, expire, move ...     keys, whatever they hold
    rules_leases    grant, keep alive, revoke    leases that hold many keys
    here            put, read, publish, transaction, and who is asked for what

    put           True for each pair             read          Fetched: what was there
    transaction   a list of results, one for each slot of its commands; None: a watched key changed
    publish       0: it reaches whoever listens to the changes of this replica

A refusal is a value, never an exception: what one replica refuses, all refuse,
and the entry counts as applied. Texts and the order of the checks are Redis's.

Invariants: a rule sees the keys, the command and the replicated clock, nothing else,
so the same command on the same keys has the same result everywhere and at every
replay. What is noted in `keys.changes` is for this replica's listeners: no rule reads it.

Does not: know Redis's commands (the node translates), or check sizes: their limits are
configured per node, so a rule about them would not be the same on every replica.

Proved by: tests/statemachine/test_rules.py, test_rules_leases.py, test_rules_strings.py,
test_rules_keys.py, test_rules_transactions.py, test_store_model.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from statemachine import rules_keys, rules_leases, rules_strings
from statemachine.commands import WriteCommand
from statemachine.keyspace import Keyspace
from statemachine.refusals import (
    UNEVEN_COLUMNS,
    UNKNOWN_OPERATION,
    Fetched,
    Refusal,
    Result,
)

__all__ = ["Fetched", "Refusal", "Result", "run"]


def run(keys: Keyspace, command: WriteCommand, results: list[Result]) -> None:
    """Carry the command out; append a result for each of its slots (commands.slots_of)."""
    operation = command.WhichOneof("operation")
    if operation == "put":
        _put(keys, command.put, results)
    elif operation is None:
        results.append(UNKNOWN_OPERATION)
    else:
        results.append(_RULES[operation](keys, getattr(command, operation)))


def _put(keys: Keyspace, put: WriteCommand.Put, results: list[Result]) -> None:
    names, values = put.keys[:], put.values[:]
    if len(names) != len(values):
        results.extend([UNEVEN_COLUMNS] * len(names))
        return
    keys.assign_many(names, values)
    if keys.changes is not None:
        keys.changes.append(("set", tuple(names)))
    results.extend([True] * len(names))


def _read(keys: Keyspace, read: WriteCommand.Read) -> Result:
    facts = {name: keys.facts(name) for name in read.keys}
    page: tuple[bytes, ...] = ()
    if read.page_count:
        page = tuple(keys.keys_page(read.page_after or None, read.page_count)[0])
    return Fetched(
        clock_ms=keys.clock_ms,
        count=len(keys),
        records={name: record for name, record in facts.items() if record is not None},
        page=page,
    )


def _transaction(keys: Keyspace, transaction: WriteCommand.Transaction) -> Result:
    for watch in transaction.watches:
        if not keys.is_unchanged(watch.key, watch.revision, _seen(watch)):
            return None
    results: list[Result] = []
    for command in transaction.commands.commands:
        if command.HasField("transaction"):
            results.append(UNKNOWN_OPERATION)  # They are not nested: this would have no bound.
        else:
            run(keys, command, results)
    return results


def _seen(watch: WriteCommand.Watch) -> int | None:
    """None: written by a program that did not say."""
    return watch.seen if watch.HasField("seen") else None


def _publish(keys: Keyspace, publish: WriteCommand.Publish) -> Result:
    if keys.changes is not None:
        event = "spublish" if publish.sharded else "publish"
        keys.changes.append((event, (publish.channel, publish.message)))
    return 0


# By the name of the field in the oneof. A test compares it with the .proto.
_RULES: Final[dict[str, Callable[[Keyspace, Any], Result]]] = {
    "insert": rules_strings.insert,
    "delete": rules_keys.delete,
    "compare_and_swap": rules_strings.compare_and_swap,
    "delete_keys": rules_keys.delete_keys,
    "add": rules_strings.add,
    "expire": rules_keys.expire,
    "persist": rules_keys.persist,
    "flush": rules_keys.flush,
    "insert_many": rules_strings.insert_many,
    "remove": rules_keys.remove,
    "get_and_expire": rules_keys.get_and_expire,
    "append": rules_strings.append,
    "set_range": rules_strings.set_range,
    "set_bit": rules_strings.set_bit,
    "add_float": rules_strings.add_float,
    "move": rules_keys.move,
    "read": _read,
    "transaction": _transaction,
    "publish": _publish,
    "grant_lease": rules_leases.grant_lease,
    "keep_lease_alive": rules_leases.keep_lease_alive,
    "revoke_lease": rules_leases.revoke_lease,
}
