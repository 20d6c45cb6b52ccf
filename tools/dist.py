"""Build the sdist and, from it, the wheel: ``python3 -m tools.dist [DIRECTORY]``, or ``make dist``.

Both are reproducible. Their date is $SOURCE_DATE_EPOCH, by default that of the last commit.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from tools.environments import copy_checkout

CHECKOUT = Path(__file__).resolve().parents[1]
_DATED = "CHANGELOG.md"  # every release changes it
_CALL = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


class Failed(Exception):
    """Nothing can be built; the message says why."""


def epoch(checkout: Path = CHECKOUT) -> int:
    """The date of what is built, in seconds: $SOURCE_DATE_EPOCH, else the last commit's, else that of CHANGELOG.md.

    Raises `Failed` if the variable is not a number.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        if not re.fullmatch("[0-9]+", given):
            raise Failed(f"SOURCE_DATE_EPOCH is {given!r}, not a number of seconds")
        return int(given)
    git = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout), "log", "-1", "--format=%ct"]
    try:
        if (checkout / ".git").exists():  # not a repository that the unpacked sdist lies in
            return int(subprocess.run(git, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        pass
    return int((checkout / _DATED).stat().st_mtime)


def build(target: Path) -> tuple[Path, Path]:
    """Build sdist and wheel into ``target``; their paths.

    Raises `Failed`; CalledProcessError after the program's messages; OSError.
    """
    target = target.absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gosudacon-dist-") as scratch:
        source = copy_checkout(CHECKOUT, Path(scratch) / "source")
        python = _builder(Path(scratch) / "venv")
        sdist = target / _call(python, "build_sdist", source, target)
        shutil.unpack_archive(sdist, scratch)
        unpacked = Path(scratch) / sdist.name.removesuffix(".tar.gz")
        wheel = target / _call(python, "build_wheel", unpacked, target)
    return sdist, wheel


def _call(python: str, name: str, source: Path, target: Path) -> str:
    """Call a hook of setuptools' backend (PEP 517); the name of the file that it has made."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch())}
    words = [python, "-c", _CALL, name, str(target)]
    result = subprocess.run(words, cwd=source, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.stderr.write(result.stderr)
        result.check_returncode()
    sys.stderr.writelines(line for line in result.stderr.splitlines(True) if line.startswith("gosudacon:"))
    return result.stdout.split()[-1]


def _builder(venv: Path) -> str:
    """An interpreter with what pyproject.toml asks for to build with: this one, or one with packages from PyPI."""
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    if all(map(_has, wanted)):
        return sys.executable
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def _has(requirement: str) -> bool:
    match = re.fullmatch(r"([\w-]+)>=(\d+)", requirement)
    assert match, requirement
    try:
        return int(importlib.metadata.version(match[1]).partition(".")[0]) >= int(match[2])
    except importlib.metadata.PackageNotFoundError:
        return False


def main() -> None:
    """Build, and print the paths."""
    command_line("tools.dist", "Build sdist and wheel.", build)


def command_line(name: str, description: str, build: Callable[[Path], Iterable[Path]]) -> None:
    """Take the directory from the command line, ``build`` there, and print the paths; exits with what went wrong."""
    parser = argparse.ArgumentParser(f"python3 -m {name}", description=description)
    parser.add_argument("directory", nargs="?", type=Path, default=CHECKOUT / "dist", help="default: %(default)s")
    try:
        for path in build(parser.parse_args().directory):
            print(path)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{name}: {Path(error.cmd[0]).name} failed with exit status {error.returncode}")
    except FileNotFoundError as error:
        sys.exit(f"{name}: {error.filename} is missing")
    except (Failed, OSError) as error:
        sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
