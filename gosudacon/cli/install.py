"""``gosudacon install``: put the launcher for this interpreter in place, and say how engines are told of it.

Writes PREFIX/bin/NAME and, in PREFIX/lib/gosudacon, the bundle and the home of the command (`gosudacon.launcher`);
man pages and completions in PREFIX/share (`gosudacon.cli.documents`); brings the package's own bytecode up to
date, and touches nothing else.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import re
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import gosudacon
from gosudacon.cli import documents, snippets
from gosudacon.cli.completion import check_name
from gosudacon.launcher import bundle, home, image
from gosudacon.linux.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.cli.parse import Invocation

_DEPENDENCIES = ("pluggy", "jsonschema", "rich", "pyroute2")
_PIP_SCRIPT = b"from gosudacon.__main__ import main"


def run(invocation: Invocation) -> int:
    """``gosudacon install [--prefix DIR] [--name NAME]``. Raises `Error` or OSError."""
    options = invocation.options
    command, kind = install(options["prefix"], options.get("name") or "gosudacon")
    print(f"installed {command} ({kind}), for {interpreter()}\n")
    print(snippets.text(command))
    return 0


def install(prefix: str, name: str = "gosudacon") -> tuple[Path, str]:
    """Install the command ``name`` below ``prefix``. Returns its path and what it is.

    Nothing changes unless the new command answers ``--version``. Raises `Error` where the package could be
    changed by others than its owner, and where a file is in the way that is not ours; RuntimeError, OSError.
    """
    check_name(name)
    package = Path(gosudacon.__file__).parent
    check_owner(package)
    _compile(package)
    command = Path(prefix).absolute() / "bin" / name
    if command.exists() and not is_ours(command):
        raise Error(f"{command} exists and is not gosudacon's", hint="remove it, or choose another --name")
    pages = documents.make(prefix, name, command)
    documents.check(pages, name)
    entry = bundle_path(prefix, name)
    before = set(bundle_files(prefix, name))
    made = bundle.build(interpreter(), str(package), str(entry), _paths(package))
    data = entry.with_name(made.data_name)
    try:
        content, kind = _command(package, entry, made)
        _replace(data, made.data, 0o644)
        _replace(entry, made.entry, 0o644)
        _replace(command, content, 0o755, proof=["--version"])
    except BaseException:
        if not before:
            remove_bundle(prefix, name)
        raise
    for stale in {*before, *documents.installed(prefix, name)} - {entry, data, *pages}:
        stale.unlink()
    for path, page in pages.items():
        _replace(path, page, 0o644)
    return command, kind


def interpreter() -> str:
    """The real path of this interpreter: no link, and so no venv."""
    return os.path.realpath(sys.executable)


def bundle_path(prefix: str, name: str) -> Path:
    """Where the bundle of the command ``name`` is; another interpreter's has another name."""
    tag = sys.implementation.cache_tag
    return Path(prefix).absolute() / "lib" / "gosudacon" / f"{name}.{tag}.pyc"


def bundle_files(prefix: str, name: str) -> Iterator[Path]:
    """The files of the bundles of the command ``name``, of whatever interpreter."""
    directory = Path(prefix).absolute() / "lib" / "gosudacon"
    pattern = re.escape(name) + r"\.[^.]+\.pyc(\.[0-9a-f]+)?"
    return (path for path in directory.glob("*") if re.fullmatch(pattern, path.name))


def remove_bundle(prefix: str, name: str) -> None:
    """Remove the bundles of a command, and their directory with the last of them."""
    for path in bundle_files(prefix, name):
        path.unlink()
    directory = Path(prefix).absolute() / "lib" / "gosudacon"
    home.remove(directory, name)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def is_ours(command: Path) -> bool:
    """Whether the file is a launcher, a script written here, or the script that pip writes."""
    content = command.read_bytes()
    return image.is_launcher(content) or image.is_script(content) or _PIP_SCRIPT in content


def check_owner(package: Path) -> None:
    """Raise `Error` if anybody but root (or the calling user) could change the package's code."""
    trusted = {0, os.geteuid()}
    for path in [*package.resolve().parents, *_tree(package)]:
        status = path.stat()
        sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in trusted:
            raise Error(f"{path} belongs to user {status.st_uid}, not to root", hint="install the package as root")
        if status.st_mode & 0o022 and not sticky:
            raise Error(f"{path} can be written to by its group or by everybody", hint=f"chmod go-w {path}")


def _tree(package: Path) -> Iterator[Path]:
    for directory, _folders, files in os.walk(package, followlinks=True):
        yield Path(directory)
        yield from (Path(directory, file) for file in files)


def _compile(package: Path) -> None:
    # compileall does not follow links, and in a checkout three of the folders are links. A package on a
    # read-only filesystem stays as it is.
    for folder in {package.resolve(), *(child.resolve() for child in package.iterdir() if child.is_dir())}:
        compileall.compile_dir(folder, quiet=2, workers=1)


def _paths(package: Path) -> list[str]:
    """For sys.path: the directories of our package, of its dependencies, and of packages of this Python or venv."""
    found = [importlib.util.find_spec(name) for name in _DEPENDENCIES]
    homes = [str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin]
    candidates = [str(package.parent), *homes, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    library = sysconfig.get_path("stdlib")
    return [path for path in dict.fromkeys(candidates) if path != library and os.path.isdir(path)]


def _command(package: Path, entry: Path, made: bundle.Bundle) -> tuple[bytes, str]:
    launcher = package / "launcher" / "launcher"
    if launcher.exists():
        name = home.install(entry, interpreter(), made.home)
        return image.patch(launcher.read_bytes(), interpreter(), str(entry), name), "launcher"
    return image.script(interpreter(), str(entry)), "a script: the package was built without a C compiler"


def _replace(path: Path, content: bytes, mode: int, proof: list[str] | None = None) -> None:
    """Put a file in place in one step, once it has run with the arguments ``proof`` (if given)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)
        if proof:
            _prove([name, *proof])
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _prove(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Error(f"the new command does not work (exit status {result.returncode}): {result.stderr.strip()}")
