"""Sphinx: `make docs` writes build/docs. Warnings (a link that leads nowhere among them) are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "Trimaran"
author = "the Trimaran authors"
version = release = _PROJECT["version"]
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []
# FORMAT.md's `hex` blocks and the sessions of terminals are shown as they are.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "text"
html_theme = "furo"
html_title = f"Trimaran {release}"
html_copy_source = False
html_show_sphinx = False
