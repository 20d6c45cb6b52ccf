"""A copy of the package as a wheel would lay it out, and ``gosudacon install`` from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gosudacon.launcher import build
from tests.support.runtime import CHECKOUT, Completed


class Installation:
    """A package in ``directory``, with the launcher or without, and a prefix to install it to."""

    def __init__(self, directory: Path, launcher: bool = True) -> None:
        self.package = directory / "packages/gosudacon"
        self.prefix = directory / "prefix"
        self.command = self.prefix / "bin/gosudacon"
        ignored = shutil.ignore_patterns("__pycache__", "launcher.new")
        shutil.copytree(CHECKOUT / "gosudacon", self.package, ignore=ignored)
        binary = self.package / "launcher/launcher"
        binary.unlink(missing_ok=True)
        if launcher:
            build.build(binary)

    def call(self, *arguments: str | Path, **popen: object) -> Completed:
        """Run the package's ``__main__.py``, as one who has not installed it yet."""
        command = [sys.executable, "-B", str(self.package / "__main__.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **popen)  # type: ignore[call-overload,no-any-return]

    def install(self, *options: str | Path, check: bool = True) -> Completed:
        """``gosudacon install --prefix PREFIX OPTIONS``."""
        result = self.call("install", "--prefix", self.prefix, *options)
        if check and result.returncode != 0:
            raise AssertionError(f"install: exit status {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def run(self, *arguments: str | Path, **popen: object) -> Completed:
        """Run the installed command."""
        command = [str(self.command), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **popen)  # type: ignore[call-overload,no-any-return]

    def uninstall(self, *options: str | Path) -> Completed:
        """``gosudacon uninstall --prefix PREFIX OPTIONS``."""
        return self.call("uninstall", "--prefix", self.prefix, *options)


# Opened before any test moves this process into a network namespace of its own.
_MACHINE = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def with_network(*command: str | Path) -> list[str]:
    """The command, run in the machine's network, where package registries can be reached."""
    enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_MACHINE}"] if os.geteuid() == 0 else []
    return [*enter, *map(str, command)]
