"""A build's own copy of our package and of those that it needs: what a command runs does not change under it."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Import what is imported here of others, and print where each package is that came along.
_FIND = """
import sys
sys.path += sys.argv[1:]
import jsonschema.validators, pluggy, rich.box, rich.console, rich.markup, rich.table
for name, module in sorted(sys.modules.items()):
    path = getattr(module, "__file__", None)
    if path and "." not in name and name != "__main__":
        print(path)
"""
_CACHE = "__pycache__"


def copy(package: Path, paths: Sequence[str], target: Path) -> None:
    """Copy our ``package``, and what it imports of others along ``paths``, to the directory ``target``.

    Compiles what has not been compiled. Raises `Error` if a package is changed meanwhile; OSError.
    """
    sources = [package, *_dependencies(package, paths)]
    before = _stamps(sources)
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target / source.name, ignore=_ignored, copy_function=_copy)
        else:
            target.mkdir(exist_ok=True)
            _copy(source, target / source.name)
    if _stamps(sources) != before:
        raise Error("the package is being changed", hint="run it again when that is done")
    compileall.compile_dir(target, quiet=2, workers=1)


def _dependencies(package: Path, paths: Sequence[str]) -> list[Path]:
    """The directories, or files, of the packages of others. Raises `Error` if one is missing."""
    command = [os.path.realpath(sys.executable), "-ISB", "-Xutf8", "-c", _FIND, *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Error(f"cannot import what gosudacon needs: {last}", hint="install the package with its dependencies")
    files = [Path(line) for line in result.stdout.splitlines()]
    found = [file.parent if file.name == "__init__.py" else file for file in files]
    return [path for path in found if str(path.parent) in paths and path.name != package.name]


def _ignored(directory: str, names: list[str]) -> set[str]:
    """Tests, and the bytecode of other interpreters."""
    if os.path.basename(directory) == _CACHE:
        return {name for name in names if f".{sys.implementation.cache_tag}." not in name}
    return {"tests"} & set(names)


def _copy(source: str | Path, target: str | Path) -> None:
    """With the time of change, which bytecode is checked by, and the mode that a program or a file should have."""
    shutil.copyfile(source, target)
    status = os.stat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.chmod(target, 0o755 if status.st_mode & 0o100 else 0o644)


def _stamps(sources: Sequence[Path]) -> list[tuple[str, int, int]]:
    return sorted((str(path), (status := path.stat()).st_mtime_ns, status.st_size) for path in _files(sources))


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_file():
            yield source
        for directory, _folders, names in os.walk(source, followlinks=True):
            if os.path.basename(directory) != _CACHE:
                yield from (Path(directory, name) for name in names)
