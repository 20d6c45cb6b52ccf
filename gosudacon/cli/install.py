"""``gosudacon install``: put the launcher for this interpreter in place, and say how engines are told of it.

Writes PREFIX/bin/NAME and, in PREFIX/lib/gosudacon, the build that it runs (`gosudacon.launcher.builds`); man pages and
completions in PREFIX/share (`gosudacon.cli.share`), unless told not to; and touches nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import gosudacon
from gosudacon.base import layout, ownership
from gosudacon.base.errors import Error
from gosudacon.cli import engine_config, share
from gosudacon.cli.completion import check_name
from gosudacon.launcher import archive, builds, packages, program, startup_dir
from gosudacon.shim.arguments import WORD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.cli.parse import Invocation

_DEPENDENCIES = ("pluggy", "jsonschema", "rich")
_PIP_SCRIPT = b"from gosudacon.__main__ import main"
_ORIGIN = "origin"  # in a build: the interpreter and the package that it was made with


def run(invocation: Invocation) -> int:
    """``gosudacon install [--prefix DIR] [--name NAME] [--programs-only]``. Raises `Error` or OSError."""
    options = invocation.options
    package = Path(gosudacon.__file__).parent
    if made_with := _origin(package):
        # An installed command installs what has taken the place of the package that it was made from.
        os.execv(made_with[0], [made_with[0], "-B", f"{made_with[1]}/__main__.py", *sys.argv[1:]])
    programs_only = bool(options.get("programs-only"))
    command, kind = install(options["prefix"], options.get("name") or "gosudacon", programs_only=programs_only)
    print(f"installed {command} ({kind}), for {interpreter()}\n")
    print(engine_config.text(command))
    return 0


def install(prefix: str, name: str = "gosudacon", *, programs_only: bool = False) -> tuple[Path, str]:
    """Install the command ``name`` below ``prefix``. Returns its path and what it is.

    With ``programs_only`` nothing goes to PREFIX/share and PREFIX/lib/systemd: a package of a distribution has these.
    Nothing changes unless the new command answers ``--version``. Raises `Error` where the package could be
    changed by others than its owner, and where a file is in the way that is not ours; RuntimeError, OSError.
    """
    check_name(name)
    package = Path(gosudacon.__file__).parent
    check_owner(package)
    command = Path(prefix).absolute() / "bin" / name
    for file in (command, shim_of(command)):
        if file.exists() and not is_ours(file):
            raise Error(f"{file} exists and is not gosudacon's", hint="remove it, or choose another --name")
    pages = {} if programs_only else share.make(prefix, name, command)
    share.check(pages, name)
    folders = builds.missing_folders(prefix, [command, *pages])
    with builds.locked(prefix) as directory:
        before = command.read_bytes() if command.exists() else b""
        build = builds.new(directory, name)
        try:
            content, kind = _make(build, package)
            builds.note_folders(prefix, build, folders)
            builds.flush(build)
            _replace(command, content, 0o755, proof=["--version"])
        except BaseException:
            shutil.rmtree(build)
            raise
        builds.prune(prefix, name, build, before)
        _put_shim(shim_of(command), content, build)
    for stale in {*share.installed(prefix, name)} - {*pages}:
        stale.unlink()
    for path, page in pages.items():
        _replace(path, page, 0o644)
    return command, kind


def shim_of(command: Path) -> Path:
    """Where the shim is that belongs to a command: containerd makes its name from that of the runtime."""
    return command.with_name(f"containerd-shim-{command.name}-v1")


def _put_shim(shim: Path, command: bytes, build: Path) -> None:
    """Put the command in place as containerd's shim; none where it is not a launcher."""
    if program.is_launcher(command):
        _replace(shim, program.of_shim(command, WORD, f"{layout.TEMPLATES}/{build.name}"), 0o755, proof=["-v"])
    elif shim.exists():
        shim.unlink()


def interpreter() -> str:
    """The real path of this interpreter: no link, and so no venv."""
    return os.path.realpath(sys.executable)


def _make(build: Path, package: Path) -> tuple[bytes, str]:
    """Fill the build. Returns the content of the command, and what it is."""
    paths = _paths()
    own = build / "packages"
    packages.copy(package, paths, own)
    made = archive.make(interpreter(), str(build), [str(own), *paths])
    for file, data in made.build.items():
        (build / file).write_bytes(data)
    (build / _ORIGIN).write_text(f"{sys.executable}\n{package}\n")
    launcher = own / package.name / "launcher" / "launcher"
    if not launcher.exists():
        script = program.script(interpreter(), made.build[archive.RECOVER])
        return script, "a script: the package was built without a C compiler"
    return program.patch(
        launcher.read_bytes(),
        interpreter(),
        str(build / archive.LOADER),
        str(build / archive.RECOVER),
        name=startup_dir.make(build / archive.STARTUP, interpreter(), made.startup),
        link=sys.executable if sys.executable != interpreter() else "",
    ), "launcher"


def _origin(package: Path) -> list[str]:
    """Interpreter and package that the build was made with which ``package`` is in; empty if it is in none."""
    try:
        made_with = (package.parents[1] / _ORIGIN).read_text().splitlines()
    except FileNotFoundError:
        return []
    there = len(made_with) == 2 and os.access(made_with[0], os.X_OK) and os.path.isfile(f"{made_with[1]}/__main__.py")
    return made_with if there else []


def is_ours(command: Path) -> bool:
    """Whether the file is a launcher, a script written here, or the script that pip writes."""
    content = command.read_bytes()
    return program.is_launcher(content) or program.is_script(content) or _PIP_SCRIPT in content


def check_owner(package: Path) -> None:
    """Raise `Error` if another user than root (or the caller) could change the package's code."""
    for path in [*package.resolve().parents, *_tree(package)]:
        status = path.stat()
        sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        if not ownership.is_trusted(str(path), status.st_uid):
            raise Error(f"{path} belongs to user {status.st_uid}, not to root", hint="install the package as root")
        if status.st_mode & 0o022 and not sticky:
            raise Error(f"{path} can be written to by its group or by all users", hint=f"chmod go-w {path}")


def _tree(package: Path) -> Iterator[Path]:
    for directory, _folders, files in os.walk(package, followlinks=True):
        yield Path(directory)
        yield from (Path(directory, file) for file in files)


def _paths() -> list[str]:
    """Where packages of others are: the directories of our dependencies, and those of this Python or venv."""
    found = [importlib.util.find_spec(name) for name in _DEPENDENCIES]
    homes = [str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin]
    candidates = [*homes, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    library = sysconfig.get_path("stdlib")
    return [path for path in dict.fromkeys(candidates) if path != library and os.path.isdir(path)]


def _replace(path: Path, content: bytes, mode: int, proof: list[str] | None = None) -> None:
    """Put a file in place in one step. With ``proof``: once it is on disk, and has run with these arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchmod(fd, mode)
        if proof:
            _sync(name)
            _prove([name, *proof])
        os.replace(name, path)
        if proof:
            _sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _prove(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Error(f"the new command does not work (exit status {result.returncode}): {result.stderr.strip()}")
