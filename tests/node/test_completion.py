"""Shell completion: every word of the parser is in each script, and bash, asked, offers it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from node.cli_parser import build_parser
from node.completion import SHELLS, _places, script

PLACES = _places(build_parser(), ())
BASH = shutil.which("bash")


def offered(line: str, directory: Path) -> set[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    assert BASH is not None
    code = (
        script(build_parser(), "bash")
        + f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        + '_trimaran; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", code], capture_output=True, text=True, timeout=20, cwd=directory
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_it(shell: str) -> None:
    text = script(build_parser(), shell)
    assert len(PLACES) > 20
    for place in PLACES:
        for word in [*place.commands, *place.options]:
            assert word.lstrip("-") in text, word
    program = shutil.which(shell)
    if program is not None:
        done = subprocess.run([program, "-n"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_offers_what_fits(tmp_path: Path) -> None:
    (tmp_path / "a-file.toml").touch()
    cases = {
        "trimaran sta": {"status"},
        "trimaran status --w": {"--watch"},
        "trimaran get --consistency l": {"linearizable", "lease"},
        "trimaran get key --consistency ev": {"eventual"},
        "trimaran member ": {"add", "remove", "list"},
        "trimaran lab r": {"run", "report"},
        "trimaran lab run --see": {"--seed"},
        "trimaran serve --config a-": {"a-file.toml"},
        "trimaran verify a-": {"a-file.toml"},
        "trimaran completion ": {"bash", "zsh", "fish"},
        "trimaran set --ttl-ms 5 --conn": {"--connect"},
    }
    for line, want in cases.items():
        found = offered(line, tmp_path)
        assert want <= found, (line, found)
        if not line.endswith(" "):
            assert found == want, line
