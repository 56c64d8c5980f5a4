"""The laboratory's door to files: results, configurations of nodes, what they printed.

Nothing here has to survive a crash: what a run wrote is complete when its `result.json` is there,
which is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "has_program",
    "load_text",
    "make_dir",
    "read_json",
    "read_lines",
    "remove_tree",
    "save_text",
    "write_json",
    "write_lines",
]


def has_program(name: str) -> bool:
    """Whether a program of this name can be started."""
    return shutil.which(name) is not None


def make_dir(path: Path) -> Path:
    """Make it and what is above it; the path again."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def save_text(path: Path, text: str) -> None:
    """Replace a file."""
    path.write_text(text, encoding="utf-8")


def load_text(path: Path) -> str:
    """A whole file."""
    return path.read_text(encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """One JSON document, for people too."""
    save_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """One JSON document."""
    return json.loads(load_text(path))


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """JSON lines."""
    with path.open("w", encoding="utf-8") as stream:
        for value in values:
            stream.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_lines(path: Path) -> Iterator[Any]:
    """The values of JSON lines; ValueError names the line that is none."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:  # UnicodeDecodeError is one
                raise ValueError(f"{path}:{number}: not a line of JSON: {error}") from error


def remove_tree(path: Path) -> None:
    """Remove a directory of a run's own; nothing when there is none."""
    shutil.rmtree(path, ignore_errors=True)
