"""The sections of the configuration about what clients may ask for, and for how long it is kept.

    [limits]     the largest things that are accepted
    [history]    what is kept for those who watch (TRI.WATCH)

Proved by: tests/node/test_config.py
"""

from __future__ import annotations

from dataclasses import dataclass

from node.config_read import Problems, bounds_problems, setting
from node.config_sections import GIB, KIB, MIB, Section

__all__ = ["HistorySection", "LimitsSection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection(Section):
    """[limits]: the largest things that are accepted. Must be equal on all nodes."""

    key_bytes_max: int = setting(64 * KIB, low=1, high=MIB)
    """Longest key."""

    value_bytes_max: int = setting(MIB, low=1, high=32 * MIB)
    """Longest value."""

    entry_bytes_max: int = setting(4 * MIB, low=4 * KIB, high=48 * MIB)
    """Largest single command (a long MSET, say), since a command is never split over two
    entries. One such entry holds up every other write while it is sent and synced."""

    multi_commands_max: int = setting(4_096, low=1, high=1_000_000)
    """Commands in one MULTI; together they must fit an entry. All of them are carried out in
    one go, which holds up everything else: about 2 ms for a thousand."""

    watch_keys_max: int = setting(10_000, low=1, high=1_000_000)
    """Keys that one client may WATCH for its next EXEC, which carries them all."""

    watch_bytes_max: int = setting(MIB, low=1, high=32 * MIB)
    """Those keys together."""

    def problems(self, name: str) -> Problems:
        """The bounds; and one SET of the longest key and value has to fit an entry."""
        found = bounds_problems(self, name)
        needed = self.key_bytes_max + self.value_bytes_max + KIB
        if self.entry_bytes_max < needed:
            found.append(
                (
                    f"{name}.entry_bytes_max",
                    f"is {self.entry_bytes_max}, must be at least {needed}: the longest key "
                    f"and the longest value together, and 1024 bytes around them",
                )
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySection(Section):
    """[history]: what is kept of the latest changes, in memory, for those who watch."""

    bytes_max: int = setting(16 * MIB, low=64 * KIB, high=16 * GIB)
    """Keys, values and previous values, and 100 bytes for each. Costs as much memory. The longer
    it reaches back, the longer a watcher may be away, or slow, before it has to read anew."""

    entries_max: int = setting(100_000, low=100, high=100_000_000)
    """Changed keys."""

    progress_ms: int = setting(5_000, low=100, high=3_600_000)
    """How often a watcher for whom there is nothing is told how far it has got. It may then go on
    from there, and knows that its node lives. Costs one small frame for each."""
