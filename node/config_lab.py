"""The section of the configuration that only experiments use.

Kept apart from node.config_sections: nothing of it belongs into a node that serves.

Proved by: tests/node/test_config.py, tests/node/test_labdoor.py
"""

from __future__ import annotations

from dataclasses import dataclass

from node.config_read import setting
from node.config_sections import Section

__all__ = ["LabSection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSection(Section):
    """[lab]: experiments (`trimaran lab`). Nothing of it belongs into a node that serves."""

    door: str = setting("")
    """Path of a Unix socket at which the disk can be made slow, full or broken and the wall
    clock be shifted. Empty = there is no such door. Costs one more call for each fsync."""

    panel: str = setting("")
    """Where the laboratory's page is (host:port, set by `trimaran cluster --lab`): this node's own
    dashboard leads there. Empty = there is none. The node itself can do nothing that it can."""
