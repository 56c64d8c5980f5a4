"""Versions that a client is told.

Does not do: anything else. Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from typing import Final

__all__ = ["REDIS_VERSION", "TRIMARAN_VERSION"]

REDIS_VERSION: Final = "7.0.15"
"""Whose words and syntax the commands keep. Clients switch features on and off by it."""

TRIMARAN_VERSION: Final = "0.1.0"
