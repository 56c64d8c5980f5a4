"""What the project files promise: packages, versions, commands, keys, test settings."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from node.cli_parser import build_parser
from node.config import SECTIONS
from node.version import TRIMARAN_VERSION

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def command_names() -> list[str]:
    actions = build_parser()._subparsers
    assert actions is not None
    for action in actions._group_actions:
        assert isinstance(action, argparse._SubParsersAction)
        return list(action.choices)
    raise AssertionError("no commands")


def test_every_package_is_named_in_pyproject() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("node", "statemachine")
        for path in (ROOT / package).rglob("*.py")
    }
    assert found == set(project()["tool"]["setuptools"]["packages"])


def test_the_version_is_the_same_everywhere() -> None:
    version = project()["project"]["version"]
    assert version == TRIMARAN_VERSION
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pysyncobj_is_pinned_since_its_private_seams_are_used() -> None:
    assert "pysyncobj==0.3.17" in project()["project"]["dependencies"]


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_documented_in_its_page_and_help(name: str) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert re.search(rf"`trimaran {name}\b", page), f"trimaran {name} is in no page"
    assert re.search(rf"^ +{name}\s+\S", build_parser().format_help(), re.MULTILINE)


def test_every_config_key_is_used_by_some_room() -> None:
    """A key that nobody reads is a promise that nobody keeps."""
    if not (ROOT / "node/app.py").exists():
        pytest.skip("node/app.py is not there yet")
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "node").rglob("*.py")
        if not path.name.startswith("config")
    )
    unused = [
        f"{name}.{key}"
        for name, section in SECTIONS.items()
        for key in section.__annotations__
        if not re.search(rf"\b(?:{name}|section|config)\.{key}\b", text)
    ]
    assert not unused


def test_hangs_warnings_and_surprising_passes_are_failures() -> None:
    settings = project()["tool"]["pytest"]["ini_options"]
    assert settings["timeout"] > 0
    assert settings["filterwarnings"] == ["error"]
    assert settings["xfail_strict"] is True
    assert {marker.split(":")[0] for marker in settings["markers"]} == {"cluster", "stress", "root"}


def test_no_file_names_a_path_of_one_machine() -> None:
    """Nor a package registry: both are somebody's own."""
    own = re.compile(r"/(?:home|Users|root)/\w|/tmp/pv\b|/work/(?:main|shared)")
    kinds = {".py", ".toml", ".md", ".yml", ".txt", ""}
    skipped = {".git", ".venv", "data", "LICENSE", "__pycache__"}
    wrong = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and path.suffix in kinds
        and not skipped & set(path.relative_to(ROOT).parts)
        and not any(
            part.startswith(".") and part != ".ci" for part in path.parts[len(ROOT.parts) :]
        )
        and path != Path(__file__)
        and own.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not wrong, wrong
