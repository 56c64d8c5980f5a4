"""Bugs in bytes, names and the door to the disk: frame, paths, fs."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["BYTES_AND_FILES"]

_FRAME = "statemachine/frame.py"
_FS = "statemachine/fs.py"
_PATHS = "statemachine/paths.py"
_TEST_FRAME = "tests/statemachine/test_frame.py::"
_TEST_FS = "tests/statemachine/test_fs.py::"

BYTES_AND_FILES = [
    Mutant(
        "the checksum is not looked at",
        _FRAME,
        "payload) != crc:",
        "payload) < 0:",
        _TEST_FRAME + "test_every_flipped_bit_is_noticed",
    ),
    Mutant(
        "the checksum leaves the header out",
        _FRAME,
        "    crc = _crc32c_extend(_crc32c_extend(salt, rest), payload)",
        "    crc = _crc32c_extend(salt, payload)",
        _TEST_FRAME + "test_what_was_encoded_is_decoded",
    ),
    Mutant(
        "the last whole frame is torn: off by one",
        _FRAME,
        "    if end > len(data):",
        "    if end >= len(data):",
        _TEST_FRAME + "test_every_cut_keeps_exactly_the_whole_frames",
    ),
    Mutant(
        "a length is believed before it is checked",
        _FRAME,
        "    if size_bytes > PAYLOAD_BYTES_MAX:",
        "    if size_bytes < 0:",
        _TEST_FRAME + "test_a_length_over_the_limit_is_refused_before_anything_is_read",
    ),
    Mutant(
        "a frame may claim more synced bytes than there were",
        _FRAME,
        "durable_above_bytes < durable_bytes <= offset_bytes:",
        "durable_above_bytes < durable_bytes:",
        _TEST_FRAME + "test_a_mark_above_its_own_offset_proves_nothing",
    ),
    Mutant(
        "a mark at the limit proves damage",
        _FRAME,
        "if not durable_above_bytes < durable_bytes",
        "if not durable_above_bytes <= durable_bytes",
        _TEST_FRAME + "test_a_frame_behind_a_hole_is_found_when_its_mark_lies_above_the_limit",
    ),
    Mutant(
        "an unfinished image passes for a checkpoint",
        _PATHS,
        "    match = _CHECKPOINT.fullmatch(name)",
        "    match = _CHECKPOINT.match(name)",
        "tests/statemachine/test_dump.py::"
        "test_what_a_running_machine_was_just_writing_is_no_problem",
    ),
    Mutant(
        "the place of a snapshot reads its index for its term",
        _PATHS,
        "LogId(index=int(match[1]), term=int(match[2]))",
        "LogId(index=int(match[2]), term=int(match[1]))",
        "tests/statemachine/test_snapshot.py::"
        "test_the_two_newest_are_kept_and_an_open_one_stays_readable",
    ),
    Mutant(
        "no directory fsync: the new name may be lost",
        _FS,
        "    disk.rename(temporary, path)\n    disk.sync_dir(path.parent)\n",
        "    disk.rename(temporary, path)\n",
        _TEST_FS + "test_replacing_a_file_shows_the_old_or_the_new_after_any_crash",
    ),
    Mutant(
        "the name before the bytes: no temporary file",
        _FS,
        "    disk.write_new(temporary, chunks)\n    disk.rename(temporary, path)\n",
        "    disk.write_new(path, chunks)\n",
        _TEST_FS + "test_replacing_a_file_shows_the_old_or_the_new_after_any_crash",
    ),
    Mutant(
        "a log's sync is skipped",
        _FS,
        "            os.fdatasync(self._descriptor)",
        "            pass",
        _TEST_FS + "test_every_disk_error_says_what_failed_and_where",
    ),
    Mutant(
        "a new file's fsync is skipped",
        _FS,
        "                file.write(chunk)\n            file.sync()\n",
        "                file.write(chunk)\n",
        _TEST_FS + "test_every_disk_error_says_what_failed_and_where",
    ),
    Mutant(
        "a directory's fsync is skipped",
        _FS,
        "            os.fsync(descriptor)",
        "            pass",
        _TEST_FS + "test_every_disk_error_says_what_failed_and_where",
    ),
    Mutant(
        "the names of new directories are not synced",
        _FS,
        "                directory.mkdir(exist_ok=True)\n"
        "                self.sync_dir(directory.parent)\n",
        "                directory.mkdir(exist_ok=True)\n",
        _TEST_FS + "test_make_dir_syncs_the_names_from_the_last_directory_that_was_there",
    ),
    Mutant(
        "a short write is the end of it",
        _FS,
        "    while rest:\n        rest = rest[os.write(descriptor, rest) :]\n",
        "    os.write(descriptor, rest[:1])\n",
        _TEST_FS + "test_a_write_that_the_kernel_takes_in_parts_is_written_whole",
    ),
    Mutant(
        "a cut log reports its old end",
        _FS,
        "        self._size_bytes = size_bytes\n\n\nclass _DiskReadFile",
        "\n\nclass _DiskReadFile",
        _TEST_FS + "test_a_log_grows_at_its_end_and_knows_its_size",
    ),
    Mutant(
        "two may hold the lock",
        _FS,
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        _TEST_FS + "test_a_lock_is_held_by_one_until_it_is_released",
    ),
    Mutant(
        "a link that failed is none the wiser",
        _FS,
        '            raise _failed(new, "link", error) from error',
        "            return",
        _TEST_FS + "test_names_can_be_listed_linked_renamed_and_removed",
    ),
]
