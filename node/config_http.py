"""The section of the configuration for the HTTP port: health, metrics, dashboard.

Proved by: tests/node/test_config.py, tests/web/test_guard.py
"""

from __future__ import annotations

from dataclasses import dataclass

from node.config_read import Problems, bounds_problems, setting
from node.config_sections import Section

__all__ = ["HttpSection"]

TOKEN_CHARS_MIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection(Section):
    """[http]: /healthz, /readyz, /metrics, /status and the dashboard, on the member's http address.

    The port changes nothing: whoever may read it may not write through it."""

    enabled: bool = setting(default=True)
    """Whether there is such a port. Costs about 1 MiB, and some 50 us for each second."""

    token: str = setting("", secret=True)
    """What readers must show (Authorization: Bearer, or the dashboard's cookie). Empty = none; then
    only a loopback address is bound. Must be equal on all nodes: a dashboard asks the others."""

    connections_max: int = setting(64, low=4, high=10_000)
    """Connections beyond this are closed. An open dashboard holds one, and one at each node."""

    def problems(self, name: str) -> Problems:
        """The bounds, and that a token is worth its name."""
        found = bounds_problems(self, name)
        if self.token and (len(self.token) < TOKEN_CHARS_MIN or not self.token.isascii()):
            found.append(
                (f"{name}.token", f"must be {TOKEN_CHARS_MIN} or more plain ASCII characters")
            )
        return found
