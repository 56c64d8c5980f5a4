"""Bugs inside the machine: the log before memory, what a crash leaves, images, leases, origins."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["MEMORY_AND_LOGS"]

_ARCHIVE = "statemachine/archive.py"
_CHECKPOINT = "statemachine/checkpoint.py"
_KEYSPACE = "statemachine/keyspace.py"
_LEASES = "statemachine/leases.py"
_MACHINE = "statemachine/machine.py"
_RECORDS = "statemachine/records.py"
_RECOVERY = "statemachine/recovery.py"
_SEGMENT = "statemachine/segment.py"
_INCOMING = "statemachine/incoming.py"
_STORE = "statemachine/store.py"
_WAL = "statemachine/wal.py"

_TEST = "tests/statemachine/test_"
_BACKGROUND = _TEST + "background.py::"
_EVERY_CRASH = (
    _TEST + "crash.py::test_a_crash_after_any_step_leaves_a_prefix_with_all_that_was_acknowledged"
)
_EXPIRY = _TEST + "expiry.py::"
_REMAINS = _TEST + "remains.py::"
_LAYERS = _TEST + "records.py::TestRecordsAgainstDict::runTest"

MEMORY_AND_LOGS = [
    # The write-ahead log.
    Mutant(
        "an fsync is skipped: always means never",
        _WAL,
        "        if self._always or (self._policy == 1 and self._interval_passed()):",
        "        if self._policy == 1 and self._interval_passed():",
        _TEST + "wal.py::test_a_chunk_is_one_write_and_under_always_one_sync",
    ),
    Mutant(
        "a full segment is left behind unsynced",
        _WAL,
        "            self.sync()\n            before_bytes = self._log.size_bytes\n",
        "            before_bytes = self._log.size_bytes\n",
        _TEST + "wal.py::test_a_full_segment_is_synced_before_the_next_is_made",
    ),
    Mutant(
        "the name of a new segment is not synced",
        _WAL,
        "        log.sync()\n        self._disk.sync_dir(self._paths.wal)\n"
        "        self._durable_bytes = self._recorded_bytes",
        "        log.sync()\n        self._durable_bytes = self._recorded_bytes",
        _EVERY_CRASH,
    ),
    Mutant(
        "a frame claims what is only about to be synced",
        _WAL,
        "        durable_bytes, salt = self._durable_bytes, self._salt\n",
        "        durable_bytes, salt = log.size_bytes, self._salt\n",
        _TEST + "wal.py::test_no_frame_ever_claims_more_than_a_crash_would_leave",
    ),
    Mutant(
        "what was read at boot is answered from before it is synced",
        _WAL,
        "            log.truncate(good_bytes)\n        log.sync()\n",
        "            log.truncate(good_bytes)\n",
        _TEST + "recovery.py::test_what_was_read_is_synced_before_it_is_answered",
    ),
    Mutant(
        "the torn tail stays where the next frame goes",
        _WAL,
        "        if log.size_bytes > good_bytes:\n            log.truncate(good_bytes)\n",
        "",
        _TEST + "recovery.py::test_a_wal_cut_at_any_byte_gives_back_exactly_the_whole_entries",
    ),
    Mutant(
        "memory before the log, one batch",
        _MACHINE,
        "            self._wal.append_one(KIND_BATCH, index, term, batch)\n"
        "            outcome = self._store.apply_batch(batch, index)\n",
        "            outcome = self._store.apply_batch(batch, index)\n"
        "            self._wal.append_one(KIND_BATCH, index, term, batch)\n",
        _TEST
        + "machine.py::test_a_batch_of_a_newer_program_stops_the_machine_here_and_at_every_boot",
    ),
    Mutant(
        "a chunk is written frame by frame",
        _MACHINE,
        "            self._wal.append(frames)\n",
        "            for frame in frames:\n                self._wal.append([frame])\n",
        _TEST + "machine.py::test_a_chunk_is_one_write_before_memory_changes",
    ),
    Mutant(
        "a segment before the newest is not synced at boot",
        _RECOVERY,
        "        log = disk.open_log(path, create=False)\n        log.sync()\n",
        "        log = disk.open_log(path, create=False)\n",
        _BACKGROUND + "test_recovery_syncs_every_segment_before_it_vouches_for_it",
    ),
    Mutant(
        "the entry's index is ignored at replay",
        _RECOVERY,
        "    if frame.index <= terms.last_index:\n        state.skipped += 1\n        return\n",
        "",
        _TEST + "recovery.py::test_replay_skips_what_the_image_holds_and_never_goes_back",
    ),
    Mutant(
        "a bad frame is a torn tail whoever says that it had been synced",
        _SEGMENT,
        "find_frames(data, offset_bytes + 1, offset_bytes, contents.salt):",
        "find_frames(data, offset_bytes + 1, len(data), contents.salt):",
        _TEST
        + "segment.py::test_a_good_frame_behind_the_bad_one_proves_damage_when_its_mark_lies_above",
    ),
    # What is applied.
    Mutant(
        "the last entry is applied twice",
        _MACHINE,
        "        if index <= terms.last_index:\n            return ALREADY_APPLIED",
        "        if index < terms.last_index:\n            return ALREADY_APPLIED",
        _TEST + "machine.py::test_entries_that_were_applied_already_change_nothing",
    ),
    Mutant(
        "a machine goes on after a surprise",
        _MACHINE,
        "            self._fail(error)\n            raise\n",
        "            raise\n",
        _TEST + "machine.py::test_any_surprise_inside_apply_stops_the_machine",
    ),
    Mutant(
        "a batch that was sent again runs again",
        _STORE,
        "head.epoch == epoch and head.sequence <= last",
        "head.epoch == epoch and head.sequence < last",
        _TEST + "store.py::test_batches_of_one_origin_run_once_and_in_order",
    ),
    Mutant(
        "a gap is jumped over",
        _STORE,
        "        if head.sequence != expected:",
        "        if head.sequence < expected:",
        _TEST + "store.py::test_batches_of_one_origin_run_once_and_in_order",
    ),
    Mutant(
        "the digest leaves the leases out",
        _STORE,
        "created, modified, deadline_ms or 0)",
        "created, modified, 0)",
        _TEST + "store.py::test_the_digest_covers_all_that_is_stored",
    ),
    # Leases and the clock.
    Mutant(
        "the clock goes back",
        _KEYSPACE,
        "        self.clock_ms = max(self.clock_ms, now_ms)\n",
        "        self.clock_ms = now_ms\n",
        _EXPIRY + "test_the_clock_is_the_batches_and_never_goes_back",
    ),
    Mutant(
        "the backlog is visible to reads",
        _KEYSPACE,
        "return None if self._is_backlog(key) else self._records.get(key)",
        "return self._records.get(key)",
        _EXPIRY + "test_no_read_sees_what_the_bound_left_over_and_none_removes_it",
    ),
    Mutant(
        "the backlog is visible to commands",
        _KEYSPACE,
        "            self._expire([key])\n            return None\n",
        "            return self._records.get(key)\n",
        _EXPIRY + "test_no_command_sees_what_the_bound_left_over",
    ),
    Mutant(
        "the lease is kept on overwrite",
        _KEYSPACE,
        "        if self._dues.count or due is not None:\n",
        "        due = due or self._records.deadline_ms(key)\n"
        "        if self._dues.count or due is not None:\n",
        _TEST + "rules_leases.py::test_insert_without_ttl_frees_the_key_from_its_lease",
    ),
    Mutant(
        "the lease is dropped by an addition",
        "statemachine/rules_strings.py",
        'b"%d" % total, keys.due(key))',
        'b"%d" % total, None)',
        _TEST + "rules.py::test_add_keeps_the_deadline",
    ),
    Mutant(
        "a lease is due one millisecond late",
        _LEASES,
        "        end = _DEADLINE.pack(clock_ms + 1)\n",
        "        end = _DEADLINE.pack(clock_ms)\n",
        _TEST + "leases.py::test_a_lease_is_due_at_its_deadline_and_not_before",
    ),
    Mutant(
        "all that is due goes at once, however much it is",
        _KEYSPACE,
        "take_due(self.clock_ms, EXPIRE_PER_BATCH_MAX)",
        "take_due(self.clock_ms, 10**9)",
        _EXPIRY + "test_a_batch_expires_only_so_many_soonest_first_and_the_next_batches_the_rest",
    ),
    Mutant(
        "a prefix ends one byte too early",
        _KEYSPACE,
        '    stem = prefix.rstrip(b"\\xff")\n',
        "    stem = prefix if prefix[-1:] != b'\\xff' else prefix[:-1]\n",
        _TEST + "conformance.py::test_scan_prefix_all_0xff",
    ),
    # Views and images.
    Mutant(
        "a write goes into the view that an image is made of",
        _RECORDS,
        "        self._top = [{} for _ in range(_SHARDS)]\n        self.is_frozen = True\n",
        "        self._top = [{} for _ in range(_SHARDS)]\n",
        _LAYERS,
    ),
    Mutant(
        "reads go on as before a view: they do not see what is written beside it",
        _KEYSPACE,
        "are_due(self.clock_ms)\n        self._choose_get()\n",
        "are_due(self.clock_ms)\n",
        _TEST + "store.py::"
        "test_reads_are_right_before_beside_and_after_a_view_a_backlog_and_a_flush",
    ),
    Mutant(
        "a million keys that are flushed go at once",
        _KEYSPACE,
        "        self.remains.add(records, self._dues.leave_all())\n",
        "        self._dues.leave_all()\n",
        _REMAINS + "test_a_flush_frees_nothing_at_once_and_everything_by_and_by",
    ),
    Mutant(
        "a state goes at once when another is installed",
        _MACHINE,
        "        store.succeed(self._store)\n",
        "",
        _REMAINS + "test_a_state_that_gives_way_to_another_goes_by_and_by",
    ),
    Mutant(
        "what was flushed beside an image never goes",
        _STORE,
        "        self.remains.thaw()\n",
        "",
        _REMAINS + "test_what_an_image_reads_is_not_touched_until_it_is_done",
    ),
    Mutant(
        "a key that is removed beside an image comes back",
        _RECORDS,
        "        if key in self._base.values:\n            self._removed.add(key)\n",
        "",
        _LAYERS,
    ),
    Mutant(
        "a write on top forgets when a key was made",
        _RECORDS,
        "            created = row[1]\n",
        "            created = row[2]\n",
        _LAYERS,
    ),
    Mutant(
        "the origins are not in the image: duplicates run after a restart",
        _STORE,
        "parts = (self.clock_ms, self.origins.copy(), ",
        "parts = (self.clock_ms, {}, ",
        _TEST
        + "store.py::test_origins_survive_in_the_parts_so_that_a_restart_forgets_no_duplicate",
    ),
    Mutant(
        "the clock is not in the image",
        _STORE,
        "parts = (self.clock_ms, self.origins.copy(), ",
        "parts = (0, self.origins.copy(), ",
        _TEST + "snapshot.py::"
        "test_a_snapshot_carries_the_whole_state_with_leases_clock_and_origins",
    ),
    Mutant(
        "the log is cut before the image has its name",
        _ARCHIVE,
        "            checkpoint = newest\n            if image is not None:\n",
        "            checkpoint = newest\n"
        "            _remove_replaced(disk, paths, sequence)\n"
        "            if image is not None:\n",
        _EVERY_CRASH,
    ),
    Mutant(
        "the log is cut before the image's name is synced",
        _CHECKPOINT,
        "    disk.rename(temporary, paths.checkpoint(sequence))\n"
        "    disk.sync_dir(paths.checkpoints)\n",
        "    disk.rename(temporary, paths.checkpoint(sequence))\n",
        _TEST + "checkpoint.py::test_the_old_files_go_only_after_the_new_name_is_synced",
    ),
    Mutant(
        "an image is begun whatever all of them cost",
        _CHECKPOINT,
        "next_bytes <= 2 * logged_bytes",
        "next_bytes <= 20 * logged_bytes",
        _TEST + "checkpoint.py::test_tiny_values_delay_an_image_but_do_not_prevent_it",
    ),
    # Snapshots.
    Mutant(
        "an older snapshot takes the state back",
        _MACHINE,
        "        if metadata.last_included.index < self._terms.last_index:",
        "        if metadata.last_included.index < 0:",
        _TEST + "snapshot.py::test_an_older_snapshot_never_takes_the_state_back",
    ),
    Mutant(
        "a snapshot that was overtaken takes the state back",
        _MACHINE,
        "            if installed.terms.last_index >= self._terms.last_index:",
        "            if installed.terms.last_index >= 0:",
        _BACKGROUND + "test_a_state_that_overtook_the_snapshot_is_kept",
    ),
    Mutant(
        "the SHA-256 of a snapshot is not looked at",
        _INCOMING,
        "    if image.checksum != metadata.checksum:",
        "    if not image.checksum:",
        _TEST + "snapshot.py::test_a_snapshot_that_is_not_what_it_says_changes_nothing",
    ),
]
