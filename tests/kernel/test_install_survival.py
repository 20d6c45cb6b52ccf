"""An installed command survives what happens to files: damage, another interpreter, installations beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.launcher import program
from tests.support.bundle import Bundle
from tests.support.installation import Installation
from tests.support.needs import missing, needs
from tests.support.runtime import Runtime

pytestmark = needs("root")

PYTHON = Path(os.path.realpath(sys.executable))
OTHERS = [version for version in ("3.9", "3.10", "3.12", "3.13") if not sys.version.startswith(f"{version}.")]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "all zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "foreign": lambda path: path.write_bytes(b"something else\n" * 500),
    "one bit": lambda path: path.write_bytes((old := path.read_bytes())[:400] + bytes([old[400] ^ 1]) + old[401:]),
}


@pytest.fixture(params=["launcher", "script"])
def installation(request: pytest.FixtureRequest, scratch: Path) -> Installation:
    """An installed command."""
    if request.param == "launcher" and missing("compiler"):
        pytest.skip("needs compiler")
    made = Installation(scratch, launcher=request.param == "launcher")
    made.install()
    return made


def _build(installation: Installation) -> Path:
    (build,) = (installation.prefix / "lib/gosudacon").iterdir()
    return build


@pytest.mark.parametrize("file", ["loader.pyc", "archive"])
def test_damage(file: str, installation: Installation, bundle: Bundle, runtime: Runtime) -> None:
    """The ordinary import takes over; one line says so; a container runs."""
    path = _build(installation) / file
    content = path.read_bytes()
    shutil.rmtree(installation.package)
    for name, damage in DAMAGE.items():
        if (file, name) == ("archive", "one bit"):
            continue  # only what a crash or a stranger leaves is looked for there
        damage(path)
        result = installation.run("--version")
        assert result.stdout.startswith("gosudacon version "), (name, result.stderr)
        assert result.stderr.count("\n") == 1 and f"{path} is damaged" in result.stderr, (name, result.stderr)
        assert 'run "gosudacon install"' in result.stderr
        path.write_bytes(content)
        assert installation.run("--version").stderr == "", name
    path.write_bytes(b"")
    bundle.set("process.args", ["/bin/echo", "hello"])
    result = Runtime([str(installation.command)], runtime.root).run(bundle)
    assert (result.returncode, result.stdout) == (0, "hello\n")
    assert result.stderr.count("\n") == 1 and f"{path} is damaged" in result.stderr


@needs("compiler")
def test_damage_beyond_help(scratch: Path) -> None:
    """One line, whatever is missing; never a traceback."""
    installation = Installation(scratch)
    installation.install()
    build = _build(installation)
    for file in ("loader.pyc", "recover.py"):
        (build / file).write_bytes(b"")
    result = installation.run("state", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"gosudacon: cannot use {build}/recover.py: the file is damaged; "
        'run "gosudacon install" with the Python that is to be used\n'
    )
    shutil.rmtree(build)
    assert "recover.py: no such file or directory" in installation.run("state", "x").stderr
    installation.install()
    (build,) = (installation.prefix / "lib/gosudacon").iterdir()
    shutil.rmtree(build / "packages")
    (build / "archive").unlink()
    result = installation.run("state", "x")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr and f"{build}/packages is damaged" in result.stderr


# The interpreter.


@pytest.fixture
def python(scratch: Path) -> Path:
    """A copy of the interpreter that tests can replace, at the end of two links as a venv has them."""
    path = scratch / "opt/bin" / PYTHON.name
    path.parent.mkdir(parents=True)
    shutil.copy(PYTHON, path)
    (scratch / "opt/lib").symlink_to(Path(sys.base_prefix) / "lib")
    venv = scratch / "venv/bin"
    venv.mkdir(parents=True)
    (venv / "python3").symlink_to(path)
    (venv / "python").symlink_to("python3")
    (scratch / "venv/pyvenv.cfg").write_text(f"home = {path.parent}\ninclude-system-site-packages = false\n")
    packages = scratch / "venv" / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.parent.mkdir(parents=True)
    packages.symlink_to(next(path for path in map(Path, sys.path) if path.name == "site-packages"))
    return path


@pytest.fixture
def for_python(scratch: Path, python: Path) -> Installation:
    """A command that runs ``python``."""
    installation = Installation(scratch)
    command = [str(scratch / "venv/bin/python"), "-B", str(installation.package / "__main__.py")]
    subprocess.run([*command, "install", "--prefix", str(installation.prefix)], check=True, capture_output=True)
    return installation


def _other(version: str) -> str:
    """Another minor version of Python on this machine."""
    for path in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        if os.path.exists(path):
            return path
    found = [*Path(os.environ.get("PYENV_ROOT", "/none"), "versions").glob(f"{version}.*/bin/python{version}")]
    return str(found[0]) if found else ""


@needs("compiler")
def test_interpreter_gone(for_python: Installation, python: Path) -> None:
    python.unlink()
    result = for_python.run("state", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"gosudacon: cannot start the interpreter {python}: no such file or directory; "
        'run "gosudacon install" with the Python that is to be used\n'
    )


@needs("compiler")
def test_interpreter_elsewhere(for_python: Installation, python: Path, scratch: Path) -> None:
    """The venv's link leads to a newer build of the same minor version: it is used, as fast as ever."""
    newer = scratch / "newer/bin" / python.name
    newer.parent.mkdir(parents=True)
    shutil.copy(PYTHON, newer)
    (scratch / "newer/lib").symlink_to(Path(sys.base_prefix) / "lib")
    shutil.rmtree(scratch / "opt")
    link = scratch / "venv/bin/python3"
    link.unlink()
    link.symlink_to(newer)
    result = for_python.run("--version")
    assert (result.returncode, result.stderr) == (0, "")


@needs("compiler")
def test_interpreter_replaced_by_the_same_version(for_python: Installation, python: Path) -> None:
    copy = python.with_name("new")
    shutil.copy(PYTHON, copy)
    os.utime(copy, (1, 1))
    copy.rename(python)
    result = for_python.run("--version")
    assert (result.returncode, result.stderr) == (0, "")


@needs("compiler")
@pytest.mark.parametrize("version", OTHERS)
def test_interpreter_replaced_by_another_version(for_python: Installation, python: Path, version: str) -> None:
    """One that is new enough runs our source files, and says that it is slower."""
    other = _other(version)
    if not other:
        pytest.skip(f"needs python{version}")
    shutil.rmtree(python.parents[1])
    (python.parents[1] / "bin").mkdir(parents=True)
    python.symlink_to(other)
    result = for_python.run("state", "x")
    lines = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert f"this is Python {version}." in lines[0] and 'run "gosudacon install"' in lines[0]
    if version in ("3.9", "3.10"):
        assert len(lines) == 1
    else:
        assert len(lines) == 3 and "container does not exist" in lines[1]


@needs("compiler")
@pytest.mark.parametrize("content", [b"", b"no program\n"])
def test_interpreter_no_program(content: bytes, for_python: Installation, python: Path) -> None:
    python.unlink()
    python.write_bytes(content)
    python.chmod(0o755)
    result = for_python.run("state", "x")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"cannot start the interpreter {python}: exec format error" in result.stderr


# Upgrades.


def _moved(installation: Installation) -> None:
    """Another version of the package: some modules have other names, one with lasting steps among them."""
    for package, old, new in (
        ("container", "query", "look_up"),
        ("linux", "console", "terminal"),
        ("stages.cgroups", "create", "kept"),
    ):
        directory = installation.package / package.replace(".", "/")
        (directory / f"{old}.py").rename(directory / f"{new}.py")
        for path in installation.package.rglob("*.py"):
            text = path.read_text()
            text = text.replace(f"gosudacon.{package}.{old}", f"gosudacon.{package}.{new}")
            line = rf"(?<=from gosudacon\.{re.escape(package)} import )(.*)\b{old}\b"
            path.write_text(re.sub(line, rf"\1{new} as {old}", text))


MOVED = {"nothing moved": lambda installation: None, "modules moved": _moved}


@needs("compiler")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_beside_installations(
    scratch: Path, make_bundle: Callable[..., Bundle], runtime: Runtime, leftovers: object
) -> None:
    """Two versions of the package take turns at the same prefix; no command fails, nothing is left.

    Each container is deleted some installations after it was created, by a version whose lasting steps have moved.
    """
    versions = []
    for number, move in enumerate(MOVED.values()):
        version = Installation(scratch / str(number))
        move(version)
        version.prefix = scratch / "prefix"
        versions.append(version)
    command = scratch / "prefix/bin/gosudacon"
    versions[0].install()
    over, failures = threading.Event(), []

    def install() -> None:
        while not over.is_set():
            for version in versions:
                result = version.install(check=False)
                if result.returncode != 0:
                    failures.append(result.stderr)
                shutil.rmtree(version.package.with_name("away"), ignore_errors=True)
                shutil.copytree(version.package, version.package.with_name("copy"))
                version.package.rename(version.package.with_name("away"))  # as pip does it, with a moment in between
                version.package.with_name("copy").rename(version.package)

    thread = threading.Thread(target=install)
    thread.start()
    installed = Runtime([str(command)], runtime.root)
    running: list[tuple[Bundle, int]] = []

    def end(container: Bundle, pid: int) -> None:
        installed.kill(container, "KILL")
        installed.wait(pid)
        installed.until(container, "stopped")
        assert installed.delete(container).stderr == ""

    try:
        for _ in range(20):
            one, other = make_bundle(["/bin/true"]), make_bundle(["/bin/sleep", "100"])
            result = installed.run(one)
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
            running.append((other, installed.boot(other)))
            installed.call("state", other.id)
            installed.call("exec", other.id, "/bin/true")
            if len(running) > 4:
                end(*running.pop(0))
        for each in running:
            end(*each)
    finally:
        over.set()
        thread.join()
    assert not failures
    assert not list(runtime.root.iterdir())
    builds = list((scratch / "prefix/lib/gosudacon").iterdir())
    assert len(builds) == 2
    assert program.is_launcher(command.read_bytes())
