"""The section of the configuration that only experiments use.

Kept apart from node.config_sections: nothing of it belongs into a node that serves.

Proved by: tests/node/test_config.py, tests/node/test_labdoor.py
"""

from __future__ import annotations

from dataclasses import dataclass

from node.config_members import Address
from node.config_read import Problems, bounds_problems, setting
from node.config_sections import RaftSection, Section

__all__ = ["LabSection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSection(Section):
    """[lab]: experiments (`trimaran lab`). Nothing of it belongs into a node that serves."""

    door: str = setting("")
    """Path of a Unix socket at which the disk can be made slow, full or broken and the wall
    clock be shifted. Empty = there is no such door. Costs one more call for each fsync."""

    peer_listen: str = setting("")
    """Listen for peers at this address ("127.0.0.1:8101") instead of this node's own member's:
    there sits a proxy of the laboratory. Empty = at the member's own."""

    equal_timeouts: bool = setting(False)
    """Take raft.election_timeout_max_ms equal to the shortest one: without randomness votes split
    again and again, and for seconds nobody leads. Figure 16 of the Raft paper shows it."""

    panel: str = setting("")
    """Where the laboratory's page is (host:port, set by `trimaran cluster --lab`): this node's own
    dashboard leads there. Empty = there is none. The node itself can do nothing that it can."""

    @property
    def listen(self) -> Address | None:
        """Where to listen for peers, if not where they look for this node."""
        return Address.parse(self.peer_listen) if self.peer_listen else None

    def problems(self, name: str) -> Problems:
        """Bounds, and the address."""
        found = bounds_problems(self, name)
        try:
            if self.listen is not None and not self.listen.is_loopback:
                found.append((f"{name}.peer_listen", f"is {self.listen}, must be loopback"))
        except ValueError as error:
            found.append((f"{name}.peer_listen", str(error)))
        return found

    def timeout_problems(self, raft: RaftSection) -> Problems:
        """Equal timeouts are refused, unless an experiment asks for them."""
        shortest = raft.election_timeout_min_ms
        if self.equal_timeouts or raft.election_timeout_max_ms != shortest:
            return []
        return [
            (
                "raft.election_timeout_max_ms",
                f"is {shortest}, must be more than raft.election_timeout_min_ms ({shortest}): "
                f"equal timeouts split every vote (experiments: lab.equal_timeouts)",
            )
        ]
