"""`gosudacon.base.posix` does what `os` does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gosudacon.base import posix
from gosudacon.linux import process
from tests.support.runtime import CHECKOUT

NAMES = [
    "",
    ".",
    "..",
    "/",
    "//",
    "a",
    "a/",
    "/a",
    "/a/",
    "a/b",
    "a//b",
    "/a/../b",
    "../a",
    "a/./b/..",
    "/../..",
    "é/ü",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "function", ["dirname", "basename", "split", "normpath", "abspath", "exists", "isdir", "islink"]
)
def test_path_functions(function: str, name: str) -> None:
    wanted = getattr(os.path, function)(name)
    if name == "//" and function in ("normpath", "abspath", "dirname", "split"):
        wanted = "/" if isinstance(wanted, str) else ("/", "")
    assert getattr(posix.path, function)(name) == wanted


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", NAMES)
def test_join(first: str, second: str) -> None:
    assert posix.path.join(first, second) == os.path.join(first, second)


@pytest.mark.parametrize("name", ["plain", "ü", "\udcff", b"bytes", b"\xff"])
def test_coding(name: str | bytes) -> None:
    assert posix.fsencode(name) == os.fsencode(name)
    assert posix.fsdecode(name) == os.fsdecode(name)


def test_makedirs(tmp_path: Path) -> None:
    target = tmp_path / "a/b/c"
    posix.makedirs(str(target), 0o700)
    assert target.is_dir() and target.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        posix.makedirs(str(target))
    posix.makedirs(str(target), exist_ok=True)


def test_getenv(monkeypatch: pytest.MonkeyPatch) -> None:
    assert posix.getenv("PATH") == os.environ["PATH"]
    assert posix.getenv("NO_SUCH_VARIABLE", "default") == "default"


def test_realpath(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert posix.path.realpath(str(tmp_path / "link")) == os.path.realpath(tmp_path)
    assert posix.path.realpath(str(tmp_path / "missing")) == str(tmp_path / "missing")


def test_restore_signals() -> None:
    """Whatever Python has made of this process's signals; pytest has handlers that Python does not know of."""
    changed = (signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMAX)
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            for number in changed[1:]:
                signal.signal(number, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
            process.restore_signals()
            lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
            sets = {words[0]: int(words[1], 16) for words in lines if words[0].startswith("Sig") and len(words[1]) > 8}
            caught = [number for number in changed if sets["SigCgt:"] >> (number - 1) & 1]
            os._exit(int(bool(caught or sets["SigIgn:"] or sets["SigBlk:"])))
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


UNKNOWN = """
import errno, importlib, pkgutil, types
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
posix.uname = lambda: types.SimpleNamespace(machine="riscv64")
import gosudacon.linux
for module in pkgutil.walk_packages(gosudacon.linux.__path__, "gosudacon.linux."):
    importlib.import_module(module.name)
try:
    gosudacon.linux.namespace.clone_child()
except SyscallError as error:
    assert error.errno == errno.ENOSYS
else:
    raise AssertionError
"""


def test_an_architecture_without_a_table() -> None:
    """All modules can be imported; calls that the table does not have answer ENOSYS."""
    subprocess.run([sys.executable, "-c", UNKNOWN], check=True, cwd=CHECKOUT)
