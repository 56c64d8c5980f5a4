"""As somebody who has only the wheel: install it into an empty environment and run a cluster.

Goal: nothing that the program needs is missing from the wheel or from its dependencies, with every
Python that the metadata claims. Long: each one downloads and installs (stress).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.docs.blocks import blocks
from tests.support.ports import free_base_port
from tests.support.supervised import wait_until

ROOT = Path(__file__).resolve().parents[2]
CLEAN = {name: word for name, word in os.environ.items() if not name.startswith("PYTHON")}


def claimed_versions() -> list[str]:
    """The Pythons of the classifiers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = (re.search(r":: (3\.\d+)$", each) for each in project["classifiers"])
    return [match[1] for match in found if match is not None]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, as `pip install .` would."""
    source = tmp_path_factory.mktemp("source")
    for name in ("node", "statemachine", "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    target = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(target), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, env=CLEAN, timeout=110)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package index can be reached from here")
    assert done.returncode == 0, done.stderr
    return next(target.glob("trimaran-*.whl"))


@pytest.mark.stress
@pytest.mark.timeout(120)
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    missing = [
        name
        for package in ("node", "statemachine")
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.name != "README.md"
        and (name := str(path.relative_to(ROOT))) not in packed
    ]
    assert not missing
    assert not [name for name in packed if name.startswith(("tests/", "scripts/", "configs/"))]


@pytest.mark.cluster
@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", claimed_versions())
def test_a_wheel_in_an_empty_environment_runs_a_cluster_at_once(
    version: str, wheel: Path, tmp_path: Path
) -> None:
    python = _interpreter(version)
    environment = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", environment], check=True, env=CLEAN, timeout=100)
    bin_ = environment / "bin"
    done = subprocess.run(
        [bin_ / "python", "-m", "pip", "install", "--quiet", str(wheel)],
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    somewhere = tmp_path / "somewhere"
    somewhere.mkdir()
    port = free_base_port()
    connect = f"--connect=127.0.0.1:{port},127.0.0.1:{port + 1}"

    def trimaran(*words: str) -> str:
        return subprocess.run(
            [bin_ / "trimaran", *words],
            check=True,
            capture_output=True,
            text=True,
            cwd=somewhere,
            env=CLEAN,
            timeout=60,
        ).stdout

    with (somewhere / "printed").open("w") as printed:
        cluster = subprocess.Popen(
            [bin_ / "trimaran", "cluster", "--base-port", str(port)],
            cwd=somewhere,
            env=CLEAN,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    try:
        said = somewhere / "printed"
        wait_until(lambda: "cluster ready" in said.read_text(), 60, said.read_text)
        assert trimaran("set", connect, "greeting", "hello") == "OK\n"
        assert trimaran("get", connect, "greeting") == "hello"
        trimaran("backup", connect, "backup.img")
        assert "sound" in trimaran("verify", "backup.img")
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(20) == 0
    finally:
        if cluster.poll() is None:
            cluster.kill()
            cluster.wait()


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_pipx_and_uv_make_a_tool_of_it_as_the_page_says(wheel: Path, tmp_path: Path) -> None:
    page = ROOT / "docs" / "install.md"
    (block,) = [each for each in blocks(page) if each.text.startswith("pipx install")]
    bin_ = _environment(tmp_path / "tools", "pipx", "uv")
    places = {
        "PIPX_HOME": "pipx", "PIPX_BIN_DIR": "pipx-bin", "PIPX_MAN_DIR": "pipx-man",
        "UV_TOOL_DIR": "uv", "UV_TOOL_BIN_DIR": "uv-bin", "UV_CACHE_DIR": "uv-cache",
    }  # fmt: skip
    environment = CLEAN | {name: str(tmp_path / place) for name, place in places.items()}
    environment |= _as_pip_for_uv(bin_) | {
        "PATH": f"{bin_}:{CLEAN['PATH']}",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }
    (tmp_path / "dist").symlink_to(wheel.parent)
    for line in block.text.splitlines():
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    for place in ("pipx-bin", "uv-bin"):
        words = [tmp_path / place / "trimaran", "--version"]
        done = subprocess.run(words, capture_output=True, text=True, env=CLEAN, timeout=60)
        assert done.stdout.startswith("trimaran "), (place, done.stdout, done.stderr)


def _environment(path: Path, *needs: str) -> Path:
    """The bin of a new environment with these. Skips where no index is reached."""
    subprocess.run([sys.executable, "-m", "venv", path], check=True, env=CLEAN, timeout=100)
    pip = path / "bin" / "pip"
    done = subprocess.run(
        [pip, "install", "--quiet", *needs], capture_output=True, text=True, env=CLEAN, timeout=200
    )
    if done.returncode:
        pytest.skip(f"{', '.join(needs)} cannot be installed here")
    return path / "bin"


def _as_pip_for_uv(bin_: Path) -> dict[str, str]:
    """Where pip of this machine gets packages from, in uv's words: uv does not ask pip."""
    words = [bin_ / "pip", "config", "list"]
    said = subprocess.run(words, capture_output=True, text=True, env=CLEAN, timeout=60).stdout
    found = {}
    for line in said.splitlines():
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = value.strip("'")
    uv = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "constraint": "UV_CONSTRAINT",
    }
    return {uv[name]: value for name, value in found.items() if name in uv}


def _interpreter(version: str) -> str:
    """One of that version that has venv: on the PATH, or this one."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which(f"python{version}", path=CLEAN.get("PATH"))]
    found += map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")))
    for python in filter(None, found):
        works = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True)
        if works.returncode == 0:
            return python
    pytest.skip(f"python{version} is not installed here")
