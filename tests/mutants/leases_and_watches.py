"""Bugs in leases of many keys, in what is remembered of changes, and in telling of them."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["LEASES_AND_WATCHES"]

_GRANTS = "statemachine/grants.py"
_HISTORY = "statemachine/history.py"
_KEYSPACE = "statemachine/keyspace.py"
_WATCHES = "node/watches.py"
_TEST = "tests/statemachine/test_"
_TEST_WATCHES = "tests/node/test_watches.py::test_"
_TEST_LEASES = "tests/node/test_commands_leases.py::test_"

LEASES_AND_WATCHES = [
    Mutant(
        "a lease that has ended is still there until it is swept",
        _GRANTS,
        "        if serial is None or self._by_serial[serial].deadline_ms <= clock_ms:\n",
        "        if serial is None:\n",
        _TEST + "grants.py::test_an_id_may_come_back_while_the_keys_of_the_old_one_are_being_swept",
    ),
    Mutant(
        "sweeping an old lease takes the new one of its id along",
        _GRANTS,
        "        if self._serials[grant.id] == serial:\n",
        "        if grant.id in self._serials:\n",
        _TEST + "grants.py::test_an_id_may_come_back_while_the_keys_of_the_old_one_are_being_swept",
    ),
    Mutant(
        "a lease with many keys goes in one batch",
        _GRANTS,
        "entries[start : min(stop, start + steps_max)]",
        "entries[start:stop]",
        _TEST + "grants.py::test_a_lease_of_many_keys_goes_at_one_moment_and_in_bounded_batches",
    ),
    Mutant(
        "the keys of a revoked lease are seen until the next batch",
        _KEYSPACE,
        "        found = self.grants.revoke(lease_id, self.clock_ms)\n"
        "        self._find_backlog()\n",
        "        found = self.grants.revoke(lease_id, self.clock_ms)\n",
        _TEST + "grants.py::test_a_revoked_lease_is_gone_in_the_same_batch",
    ),
    Mutant(
        "INCR takes a key off its lease",
        "statemachine/rules_strings.py",
        'b"%d" % total, keys.due(key))',
        'b"%d" % total, keys.deadline_ms(key))',
        _TEST_LEASES + "what_a_command_does_to_a_key_on_a_lease",
    ),
    Mutant(
        "the leases are not in the image",
        "statemachine/image.py",
        "        yield from _lease_blocks(grants)\n",
        "",
        _TEST + "image.py::test_an_image_is_read_as_it_was_written",
    ),
    Mutant(
        "a key that came and went looks as if it had not been there",
        _KEYSPACE,
        "return revision == 0 and (seen is None or not",
        "return revision == 0 and (seen is not None or not",
        "tests/node/test_transactions.py::test_a_key_that_came_and_went_has_changed",
    ),
    Mutant(
        "what was removed is remembered by when it was removed",
        _KEYSPACE,
        "        for key in keys:\n            self.removals.note(key, records.modified(key))\n",
        "        for key in keys:\n            self.removals.note(key, self.revision)\n",
        "tests/node/test_transactions.py::test_a_key_that_came_and_went_has_changed",
    ),
    Mutant(
        "the history keeps half of a revision",
        _HISTORY,
        "            while rows[start][0] == revision:\n",
        "            for _ in range(1):\n",
        _TEST + "history.py::test_the_oldest_revisions_go_whole",
    ),
    Mutant(
        "the history tells of a key twice in a batch with the old previous value",
        _HISTORY,
        "between.get(key, previous)",
        "previous",
        _TEST
        + "history.py::test_a_key_that_is_written_twice_in_a_batch_has_its_first_value_between",
    ),
    Mutant(
        "an installed snapshot leaves the history as it was",
        "statemachine/machine.py",
        "        self._history.restart(terms.last_index + 1)\n",
        "",
        _TEST + "history.py::test_replay_fills_it_and_an_image_or_an_install_begins_it_anew",
    ),
    Mutant(
        "a watch that begins in the past is told one revision twice",
        _WATCHES,
        "history.since(watch.told + 1)",
        "history.since(watch.told)",
        _TEST_WATCHES + "from_a_revision_on_everything_is_told_once",
    ),
    Mutant(
        "a client that does not read is sent everything all the same",
        _WATCHES,
        "                if connection.is_full or sizes",
        "                if sizes",
        _TEST_WATCHES + "a_client_that_does_not_read_is_told_the_rest_when_it_does",
    ),
    Mutant(
        "who fell out of the history goes on with a gap",
        _WATCHES,
        "        if watch.told + 1 < history.first:\n"
        "            self._end(watch)\n            return\n",
        "",
        _TEST_WATCHES + "a_client_that_never_reads_is_told_that_its_watch_is_over",
    ),
    Mutant(
        "a cache is not told of a snapshot in place of the log",
        "node/tracking.py",
        "            self._invalidate_all()\n            self._revision = history.first - 1\n",
        "            self._revision = history.first - 1\n",
        "tests/node/test_tracking.py::test_a_snapshot_in_place_of_the_log_ends_every_cache",
    ),
]
