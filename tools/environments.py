"""Virtual environments for the tests, and the interpreters that they are made with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.side_by_side import Job


def copy_checkout(checkout: Path, target: Path) -> Path:
    """A copy of the checkout without what tests and builds have made in it."""
    ignored = shutil.ignore_patterns(".git", ".test-cache", "build", "*.egg-info", "__pycache__")
    shutil.copytree(checkout, target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    return target


def make_venv(job: Job, python: str, target: Path, extras: str, *, keep: bool = False) -> Path:
    """A virtual environment of ``python`` with what the package and these extras of it need; its interpreter.

    The package itself is taken out again, so that tests have the checkout's, unless ``keep`` says otherwise.
    """
    inside = target / "bin/python"
    pip = [str(inside), "-m", "pip"]
    if not inside.exists():
        job.run([python, "-m", "venv", "--clear", str(target)])
    with tempfile.TemporaryDirectory(prefix="gt-") as scratch:  # where the build leaves its files
        source = copy_checkout(job.directory, Path(scratch) / "source")
        job.run([*pip, "install", "-q", "--root-user-action=ignore", f"{source}[{extras}]"])
    if not keep:
        job.run([*pip, "uninstall", "-q", "-y", "gosudacon"])
    return inside


def version_of(python: Path) -> tuple[int, int]:
    """Major and minor version of a CPython that works, else (0, 0)."""
    code = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:2])"
    try:
        result = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.fullmatch(r"cpython (\d+) (\d+)\n", result.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def newest_python() -> tuple[Path, tuple[int, int]]:
    """The newest CPython on this machine: on PATH, or among pyenv's versions."""
    folders = [Path(name) for name in os.environ.get("PATH", "").split(":") if name]
    found = {
        path for folder in folders for path in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)
    }
    roots = {Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"), Path("/opt/pyenv"), Path("/usr/local/pyenv")}
    for root in roots:
        found = {path for path in found if not path.is_relative_to(root / "shims")}
        found |= set((root / "versions").glob("*/bin/python3"))
    best = max(((version_of(path), path) for path in found), default=((0, 0), Path()))
    return best[1], best[0]
