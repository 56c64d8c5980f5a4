"""A quorum that never changes, for the tests of rooms that ask one (node.elections.Quorum)."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["FixedQuorum"]


class FixedQuorum:
    """n1 of n1 ... n<count>; whoever is in `learners` does not count."""

    def __init__(self, count: int, learners: Collection[str] = ()) -> None:
        self.voters = {f"n{number}" for number in range(1, count + 1)} - set(learners)

    @property
    def am_voter(self) -> bool:
        return "n1" in self.voters

    def votes(self, peer_id: str) -> bool:
        return peer_id in self.voters

    def is_majority(self, peers: Collection[str]) -> bool:
        return 2 * len(self.voters & {"n1", *peers}) > len(self.voters)
