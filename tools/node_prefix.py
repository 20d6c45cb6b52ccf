"""Make what Kubernetes nodes get: gosudacon with an interpreter, and all libraries of both, in one directory.

    python -m tools.node_prefix [--prefix DIR] [--with PLUGIN]...

The program runs on a node without Python, whatever C library that has: the interpreter brings its own, with its loader.
It is a copy of the interpreter that runs this. Paths are part of it: it is made in the place where it will be,
DIR/versions/VERSION, and DIR is the whole of the image (deploy/kubernetes/Containerfile).
VERSION ends with a sum of what is in it. Needs ldd, patchelf and a C compiler; root, since root's commands run from it.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import importlib.metadata
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(CHECKOUT),) if path not in sys.path]

import gosudacon  # noqa: E402
from gosudacon.base.errors import Error  # noqa: E402
from gosudacon.launcher import build, packages  # noqa: E402
from gosudacon.linux import seccomp  # noqa: E402
from gosudacon.node import places  # noqa: E402
from gosudacon.schema import compiler  # noqa: E402

# Of the standard library: tests, what draws or edits, what installs, bytecode of other kinds, and modules that need
# libraries of their own.
LEFT_OUT = re.compile(
    r"^(test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|config-.*|site-packages|dist-packages|.*\.opt-[12]\.pyc"
    r"|(_tkinter|_curses.*|_dbm|_gdbm|_sqlite3|_test.*|_ctypes_test|_xxtest.*|xxlimited.*|nis|ossaudiodev|readline)"
    r"\..*\.so)$"
)
# What plugins that ship need of others, where it is there; `gosudacon install` copies what the program needs itself.
OPTIONAL = ("PyYAML",)
# Loaded when they are needed, so no file names them: a thread's end, and a filter of system calls.
LATE = ("libgcc_s.so.1",)
# What is called -> Debian's package. The compiler says itself that it is missing.
PROGRAMS = {"ldd": "libc-bin", "patchelf": "patchelf"}
ENTRY = """\
#!{python} -ISBXutf8
import sys
sys.path[1:1] = {paths!r}
from gosudacon.node.__main__ import main
main()
"""


def make(prefix: Path, plugins: Sequence[str] = ()) -> Path:
    """Make the version below ``prefix`` and the link to it; returns its directory.

    ``plugins``: packages of others, by their names in pip, that are put with it. What they need has to be named, too.
    Raises `Error` if a program or library is missing or fails, OSError.
    """
    check_programs()
    draft = prefix / places.VERSIONS / ".draft"
    shutil.rmtree(draft, ignore_errors=True)
    python = _interpreter(draft / places.PYTHON)
    library = python.parents[1] / "lib" / python.name
    packages_of(python).mkdir(parents=True)
    own = packages_of(python) / "gosudacon"
    packages.copy(CHECKOUT / "gosudacon", site_directories(), own.parent)
    compiler.build(own / "schema" / "_validator.py")
    build.build(own / "launcher" / "launcher")
    passing = [*own.parent.iterdir()]  # the build that is installed has copies
    for name in (*OPTIONAL, *plugins):
        copy_distribution(name, own.parent, name in OPTIONAL)
    _copy_libraries(python)
    version = prefix / places.VERSIONS / f"{gosudacon.__version__}-{_sum(draft)}"
    shutil.rmtree(version, ignore_errors=True)
    draft.rename(version)
    _finish(version, python.name, str(library.relative_to(draft)), [path.name for path in passing])
    link = prefix / places.CURRENT
    link.unlink(missing_ok=True)
    link.symlink_to(f"{places.VERSIONS}/{version.name}")
    return version


def check_programs() -> None:
    """Raise `Error` if a program is missing that this needs: before anything is made."""
    for name, package in PROGRAMS.items():
        if shutil.which(name) is None:
            raise Error(f"the program {name} is missing", hint=f"install Debian's {package}, or what has it elsewhere")


def site_directories() -> list[str]:
    """Where the packages of others are that this interpreter has."""
    return [path for path in [*site.getsitepackages(), *sys.path] if path.endswith("-packages") and os.path.isdir(path)]


def packages_of(python: Path) -> Path:
    """Where the interpreter ``python`` has packages of others: Debian's is not where others have it. Made by `make`."""
    words = [str(python), "-ISB", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(_output(words).strip())


def _output(words: Sequence[str | Path]) -> str:
    """What a program prints. Raises `Error` with what it says, if it fails."""
    environment = {"PATH": os.environ["PATH"]}
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        raise Error(f"{Path(words[0]).name} fails ({result.returncode}): {result.stderr.strip()}")
    return result.stdout


def _interpreter(home: Path) -> Path:
    """Copy this interpreter and its library to ``home``; the copy's path."""
    source = Path(os.path.realpath(sys.executable))
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(os.__file__).parent
    shutil.copytree(library, home / "lib" / name, ignore=_ignored, copy_function=_copy)
    python = home / "bin" / name
    python.parent.mkdir()
    _copy(source, python)
    return python


def _ignored(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if LEFT_OUT.match(name)}


def _copy(source: str | Path, target: str | Path) -> None:
    """With a time of change of whole seconds: an image's layers keep no more, and the launcher knows files by it."""
    shutil.copyfile(source, target)
    seconds = int(os.stat(source).st_mtime)
    os.utime(target, (seconds, seconds))
    os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)


def copy_distribution(name: str, target: Path, is_optional: bool = False) -> None:
    """Copy a package of others as pip has installed it, by which its entry points are found.

    Raises `Error` if it is not here and not optional, OSError.
    """
    try:
        files = importlib.metadata.distribution(name).files
    except importlib.metadata.PackageNotFoundError:
        files = None
    if not files and not is_optional:
        raise Error(f"the package {name} is not here, or not by pip", hint=f"{sys.executable} -m pip install {name}")
    for file in files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts and (source := Path(str(file.locate()))).exists():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target / file)


def _copy_libraries(python: Path) -> None:
    """What interpreter, extension modules and, in the end, those libraries load, into the interpreter's directory."""
    home = python.parents[1]
    objects = [python, *home.rglob("*.so")]
    found = dict(_needed(objects))
    for name in LATE:
        found[name] = next(iter(_beside(found.values(), name)), "")
    found[os.path.basename(seccomp.library())] = seccomp.library()
    found.update(dict(_needed([Path(path) for path in found.values() if path])))
    for name, path in found.items():
        if not path:
            raise Error(f"the library {name} is not here", hint="install its package")
        _copy(os.path.realpath(path), home / "lib" / name)
        os.chmod(home / "lib" / name, 0o755)


def _needed(objects: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Name and path of each library; the path is empty if the library is not found."""
    for line in _output(["ldd", *objects]).splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow:
            yield os.path.basename(name), "" if rest.startswith("not found") else rest.split(" (")[0]
        elif line.startswith("\t/"):
            path = line.strip().split(" (")[0]
            yield os.path.basename(path), path


def _beside(paths: Iterable[str], name: str) -> Iterator[str]:
    """A library that lies where one of these does."""
    directories = dict.fromkeys(os.path.dirname(os.path.realpath(path)) for path in paths if path)
    return (file for directory in directories if os.path.exists(file := f"{directory}/{name}"))


def _sum(tree: Path) -> str:
    """Twelve digits that identify names and content of all files, without bytecode."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        total.update(str(path.relative_to(tree)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def _finish(version: Path, name: str, library: str, passing: list[str]) -> None:
    """What has the version's own path in it: the interpreter's loader, the bytecode, the command, the installer."""
    home = version / places.PYTHON
    python = home / "bin" / name
    seconds = int(python.stat().st_mtime)
    (loader,) = (home / "lib").glob("ld-*.so*")
    # In this order, one call each: otherwise patchelf 0.18 makes a program of Debian 13's that crashes.
    for change in (["--force-rpath", "--set-rpath", str(home / "lib")], ["--set-interpreter", str(loader)]):
        _output(["patchelf", *change, python])
    os.utime(python, (seconds, seconds))
    compileall.compile_dir(version / library, quiet=2, workers=1)
    own = packages_of(python)
    program = (
        "import sys; sys.path.append(sys.argv[1]); from gosudacon.cli.install import install; install(sys.argv[2])"
    )
    _output([python, "-ISBXutf8", "-c", program, own, version])
    for path in (own / name for name in passing):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (build_of_it,) = version.glob("lib/gosudacon/gosudacon.*")
    (build_of_it / "origin").unlink()  # what it was made from is gone
    entry = version / "bin" / places.PROGRAM
    entry.write_text(ENTRY.format(python=python, paths=[str(build_of_it / "packages"), str(own)]))
    entry.chmod(0o755)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make gosudacon with an interpreter, for nodes of Kubernetes.")
    parser.add_argument("--prefix", type=Path, default=Path(places.PREFIX), help="default: %(default)s")
    parser.add_argument("--with", action="append", default=[], dest="plugins", help="a package that is installed here")
    chosen = parser.parse_args()
    os.umask(0o022)  # ordinary users of the node enter its directories, and none but root writes to them
    try:
        print(make(chosen.prefix.absolute(), chosen.plugins))
    except Error as error:
        sys.exit(f"tools.node_prefix: {error.message}{f' ({error.hint})' if error.hint else ''}")
    except (build.Unavailable, OSError) as error:
        sys.exit(f"tools.node_prefix: {error}")


if __name__ == "__main__":
    main()
