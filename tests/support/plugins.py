"""Third-party packages of tests/plugins: installed with pip, enabled by a config.toml, used by their own runtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.support.runtime import CHECKOUT, Runtime

PACKAGES = CHECKOUT / "tests/plugins"


def install(site: Path, *names: str, scratch: Path) -> None:
    """Install packages of tests/plugins into the directory ``site`` as pip does, built in ``scratch``."""
    ignore = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    copies = [shutil.copytree(PACKAGES / name, scratch / f"build-{name}", ignore=ignore) for name in names]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--no-compile", "--target", str(site), *map(str, copies)]
    try:
        subprocess.run(command, check=True, timeout=120)
    finally:
        for copy in copies:
            shutil.rmtree(copy)


def entry(site: Path, target: Path) -> Path:
    """A file that starts this checkout as the installed command does, with ``site`` behind its dependencies."""
    paths = [str(CHECKOUT), sysconfig.get_path("purelib"), str(site)]
    lines = ["import sys", f"sys.path.extend({paths!r})", "from gosudacon.__main__ import main", "main(__file__)", ""]
    target.write_text("\n".join(lines))
    return target


def runtime(entry: Path, config: Path, text: str, root: Path, *options: str) -> Runtime:
    """A runtime that is started as the installed one is, with ``text`` as its config.toml and global ``options``."""
    config.write_text(text)
    config.chmod(0o644)
    command = [sys.executable, "-ISBXutf8", str(entry), "--config-file", str(config), *options]
    value = Runtime(command, root)
    value.name = "gosudacon"
    return value
