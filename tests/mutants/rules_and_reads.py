"""Bugs in what commands do and what reads answer: rules, commands, columns, reads, terms, dump."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["RULES_AND_READS"]

_RULES = "statemachine/rules.py"
_STRINGS = "statemachine/rules_strings.py"
_KEYS = "statemachine/rules_keys.py"
_COMMANDS = "statemachine/commands.py"
_TERMS = "statemachine/terms.py"
_READS = "statemachine/reads.py"
_TEST_RULES = "tests/statemachine/test_rules.py::"
_TEST_RULES_LEASES = "tests/statemachine/test_rules_leases.py::"
_TEST_COMMANDS = "tests/statemachine/test_commands.py::"
_TEST_MACHINE = "tests/statemachine/test_machine.py::"
_CONFORMANCE = "tests/statemachine/test_conformance.py::"
_CONFORMANCE_LEASES = "tests/statemachine/test_conformance_leases.py::"

RULES_AND_READS = [
    Mutant(
        "a swap that expects nothing swaps anything",
        _STRINGS,
        "    if keys.live(swap.key) != expected:",
        "    if expected is not None and keys.live(swap.key) != expected:",
        _CONFORMANCE + "test_cas_none_on_existing_key",
    ),
    Mutant(
        "seconds are taken for milliseconds",
        _STRINGS,
        "ttl_ms or ttl_secs * 1000,",
        "ttl_ms or ttl_secs,",
        _CONFORMANCE_LEASES + "test_register_and_get_expired",
    ),
    Mutant(
        "a TTL counts from the beginning of time",
        _STRINGS,
        "expire_at_ms or keys.clock_ms + ttl_ms",
        "expire_at_ms or ttl_ms",
        _TEST_RULES_LEASES + "test_insert_sets_the_deadline_that_it_names",
    ),
    Mutant(
        "a TTL beyond the clock is taken",
        _STRINGS,
        "    return deadline_ms if deadline_ms <= TIME_MS_MAX else BAD_SET_TIME",
        "    return deadline_ms",
        _TEST_RULES_LEASES
        + "test_a_ttl_too_large_for_the_clock_is_refused_before_anything_changes",
    ),
    Mutant(
        "a sum may be one too large",
        _STRINGS,
        "    if not INTEGER_MIN <= total <= INTEGER_MAX:",
        "    if not INTEGER_MIN <= total <= INTEGER_MAX + 1:",
        _TEST_RULES + "test_add_reads_integers_as_redis_does",
    ),
    Mutant(
        "whatever int() takes is an integer",
        _STRINGS,
        '    if b"%d" % number != value or not INTEGER_MIN',
        "    if not INTEGER_MIN",
        _TEST_RULES + "test_add_reads_integers_as_redis_does",
    ),
    Mutant(
        "the old value is read after the write",
        _STRINGS,
        "    return old if insert.return_old else holds",
        "    return keys.live(key) if insert.return_old else holds",
        _TEST_RULES + "test_insert_goes_through_when_its_condition_holds",
    ),
    Mutant(
        "an absent key is not different",
        _STRINGS,
        "        return old != expected\n",
        "        return old is not None and old != expected\n",
        _TEST_RULES + "test_insert_goes_through_when_its_condition_holds",
    ),
    Mutant(
        "deleting answers how many were named",
        _KEYS,
        "    return sum(_take(keys, key) for key in delete.keys)",
        "    return len([_take(keys, key) for key in delete.keys])",
        _TEST_RULES + "test_delete_answers_whether_the_key_was_there_and_delete_keys_how_many",
    ),
    Mutant(
        "the same deadline is a later one",
        _KEYS,
        "current_ms is not None and deadline_ms > current_ms",
        "current_ms is not None and deadline_ms >= current_ms",
        _TEST_RULES_LEASES + "test_expire_goes_through_when_its_condition_holds",
    ),
    Mutant(
        "uneven columns are set as far as they go",
        _RULES,
        "    if len(names) != len(values):\n",
        "    names = names[: len(values)]\n    if len(names) > len(values):\n",
        _TEST_RULES + "test_put_of_uneven_columns_is_refused_for_every_key_and_changes_nothing",
    ),
    Mutant(
        "a transaction runs although a watched key has changed",
        _RULES,
        "        if not keys.is_unchanged(watch.key, watch.revision, _seen(watch)):",
        "        if not keys.exists(watch.key) and watch.revision:",
        "tests/statemachine/test_rules_transactions.py::"
        "test_a_watched_key_that_changed_stops_the_transaction_before_anything",
    ),
    Mutant(
        "a put moves past the command in front of it",
        _COMMANDS,
        "        if self._keys:\n            self._close_columns()\n"
        "        self._done += command_parts",
        "        self._done += command_parts",
        _TEST_COMMANDS + "test_neighbouring_puts_travel_as_one_and_never_pass_another_command",
    ),
    Mutant(
        "a newer program's batch is refused like nonsense: the replicas part",
        _COMMANDS,
        '        raise Fatal(\n            f"a batch of version',
        '        raise Rejected(\n            f"a batch of version',
        _TEST_COMMANDS + "test_a_batch_of_a_newer_program_is_fatal_because_others_may_apply_it",
    ),
    Mutant(
        "a cut origin is another origin",
        _COMMANDS,
        "    if len(origin) < origin_bytes:",
        "    if len(origin) > origin_bytes:",
        _TEST_COMMANDS + "test_nonsense_is_rejected",
    ),
    Mutant(
        "index and term change places in the metadata",
        _COMMANDS,
        "LogId(index=message.last_included.index, term=message.last_included.term)",
        "LogId(index=message.last_included.term, term=message.last_included.index)",
        _TEST_COMMANDS + "test_snapshot_metadata_survives_its_bytes",
    ),
    Mutant(
        "a length of 127 takes two bytes",
        "statemachine/columns.py",
        "    while number > 0x7F:",
        "    while number >= 0x7F:",
        _TEST_COMMANDS + "test_puts_are_encoded_as_protobuf_does_it",
    ),
    Mutant(
        "the term of an entry that was jumped over is guessed",
        _TERMS,
        "            if index != self.last_index + 1:\n"
        "                self._runs.append((self.last_index + 1, 0))\n",
        "",
        _TEST_MACHINE + "test_the_term_of_an_entry_is_right_or_unknown_also_after_a_restart",
    ),
    Mutant(
        "an entry that was not applied yet has a term",
        _TERMS,
        "        if index > self.last_index:\n            return None\n",
        "",
        _CONFORMANCE + "test_last_applied_detection",
    ),
    Mutant(
        "term runs pile up for ever",
        _TERMS,
        "            del self._runs[:-RUNS_MAX]\n",
        "",
        _TEST_MACHINE + "test_old_term_runs_are_forgotten_and_then_unknown",
    ),
    Mutant(
        "a stopped machine answers",
        _READS,
        "        if self._refusal is not None:\n            self._check()\n"
        "        return self._store.get(key)",
        "        return self._store.get(key)",
        _CONFORMANCE + "test_get_rejected_when_not_serving",
    ),
    Mutant(
        "a scan is of the next entry",
        _READS,
        "after=after)\n        return Scan(self._terms.last_index,",
        "after=after)\n        return Scan(self._terms.last_index + 1,",
        _CONFORMANCE + "test_file_sm_scan_prefix_revision_reflects_applied_index",
    ),
    Mutant(
        "an empty machine is false",
        _READS,
        "        return True\n",
        "        return len(self) > 0\n",
        _TEST_MACHINE + "test_an_empty_machine_is_still_true",
    ),
    Mutant(
        "a dump leaves the leases out",
        "statemachine/dump.py",
        '            line += f" deadline_ms={due}" if due >= 0 else',
        '            line += "" if due >= 0 else',
        "tests/statemachine/test_dump.py::test_an_image_and_its_metadata_are_shown_in_key_order",
    ),
    Mutant(
        "verify does not read the snapshots",
        "statemachine/dump.py",
        "            check_snapshot(disk, directory / SNAPSHOT_NAME, metadata)\n",
        "",
        "tests/statemachine/test_dump.py::test_every_damaged_file_is_named",
    ),
]
