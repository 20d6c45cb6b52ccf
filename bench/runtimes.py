"""The runtimes under comparison, as data: what to call, and where it can run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

BARE = "bare"
DEFAULT = ("gosudacon", "runc", "crun", BARE)
#: crun up to at least 1.8 answers "cgroups in hybrid mode not supported".
NEEDS_HIDDEN_UNIFIED = ("crun",)


class UnknownRuntime(Exception):
    """A runtime was asked for by a name that is unknown, or its program is missing."""


@dataclass(frozen=True)
class Runtime:
    """A command line that speaks runc's language (``bare``: the interpreter doing nothing)."""

    name: str
    command: tuple[str, ...]
    hide_unified: bool = False
    version: str = field(default="", compare=False)

    def argv(self, root: Path, *words: str) -> list[str]:
        """Command line of one command with its state under ``root``."""
        return [*self.command, "--root", str(root), *words]

    def create(self, root: Path, bundle: Path, pid_file: Path, name: str) -> list[str]:
        """Command line of ``create``."""
        return self.argv(root, "create", "--bundle", str(bundle), "--pid-file", str(pid_file), name)

    def run(self, root: Path, bundle: Path, name: str) -> list[str]:
        """Command line of a foreground ``run``."""
        return self.argv(root, "run", "--bundle", str(bundle), name)


def bare_command(python: str) -> tuple[str, ...]:
    """What every Python program pays before its first own line, sealed off as gosudacon's launcher does."""
    return (python, "-I", "-S", "-B", "-c", "pass")


def resolve(word: str, gosudacon: str | None, python: str) -> Runtime:
    """The runtime meant by one word of ``--runtimes``: a known name, or ``name=command line``.

    UnknownRuntime when it is neither, or when the program cannot be found.
    """
    name, has_command, text = word.partition("=")
    if name == BARE:
        return Runtime(BARE, bare_command(python), version=_version((python,)))
    if has_command:
        command = shlex.split(text)
    elif name == "gosudacon":
        command = shlex.split(gosudacon) if gosudacon else [_installed_gosudacon()]
    elif name in DEFAULT:
        command = [name]
    else:
        raise UnknownRuntime(f"unknown runtime {name!r}; known: {', '.join(DEFAULT)}, or NAME=COMMAND")
    program = shutil.which(command[0]) if command else None
    if program is None:
        raise UnknownRuntime(f"{name}: no program {' '.join(command)!r}")
    full = (str(Path(program).absolute()), *command[1:])
    hidden = any(part in name for part in NEEDS_HIDDEN_UNIFIED)
    return Runtime(name, full, hide_unified=hidden, version=_version(full))


def _installed_gosudacon() -> str:
    return shutil.which("gosudacon") or "/usr/local/bin/gosudacon"


def _version(command: tuple[str, ...]) -> str:
    """First line of ``--version``; empty when the program has none."""
    try:
        words = [*command, "--version"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if lines else ""
