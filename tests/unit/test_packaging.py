"""The distributions: what is in wheel and sdist, with a compiler and without, and that they install and start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import elf
from tests.support.installation import with_network

CHECKOUT = Path(__file__).parents[2]
PARTS = (
    *("setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE"),
    *("gosudacon", "stages", "plugins", "schema"),
)
DATA = {
    "gosudacon/py.typed",
    "gosudacon/launcher/kernel.h",
    "gosudacon/launcher/pages.h",
    "gosudacon/launcher/launcher.c",
    "gosudacon/schema/config.schema.json",
    "gosudacon/stages/__init__.py",
    "gosudacon/plugins/__init__.py",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds what pyproject.toml asks for to build with."""
    home = tmp_path_factory.mktemp("builder")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = home / "bin/python"
    subprocess.run(with_network(python, "-m", "pip", "install", "--quiet", "setuptools>=77"), check=True)
    return python


@pytest.fixture
def build(builder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``build(kind, source, **environment)``: a distribution of a copy of the checkout, or of ``source``."""

    def make(kind: str, source: Path | None = None, **environment: str) -> Path:
        if source is None:
            source = _checkout(tmp_path / "checkout")
        target = tmp_path / "dist"
        target.mkdir(exist_ok=True)
        code = f"import setuptools.build_meta as b; print('\\n' + b.build_{kind}({str(target)!r}))"
        result = subprocess.run(
            [builder, "-c", code], cwd=source, env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        path = target / result.stdout.split()[-1]
        path.with_name("log").write_text(result.stdout + result.stderr)
        return path

    return make


def _checkout(target: Path) -> Path:
    """A copy of what is built from, with remains of a build in place, of which no distribution is to be made."""
    target.mkdir()
    for path in map(CHECKOUT.joinpath, PARTS):
        if path.is_dir():
            shutil.copytree(path, target / path.name, symlinks=True)
        else:
            shutil.copy(path, target)
    (target / "gosudacon/launcher/launcher").write_text("stale")
    (target / "schema/_validator.py").write_text("stale")
    return target


def _files(distribution: Path) -> set[str]:
    if distribution.suffix == ".whl":
        return set(zipfile.ZipFile(distribution).namelist())
    with tarfile.open(distribution) as archive:
        return {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}


def _check_start(wheel: Path, tmp_path: Path) -> Path:
    """Install into a fresh environment, without dependencies, and start; returns its directory of packages."""
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([home / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    for command in ([home / "bin/gosudacon"], [home / "bin/python", "-m", "gosudacon"]):
        result = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("gosudacon version ")
    packages = next((home / "lib").glob("python*/site-packages"))
    assert list(packages.glob("gosudacon/linux/__pycache__/abi.*.pyc")), "pip compiles what it installs"
    for name in ("stages", "plugins", "schema", "tests"):
        assert not (packages / name).exists()
    return packages


@pytest.mark.needs("compiler")
def test_wheel(build: Callable[..., Path], tmp_path: Path) -> None:
    wheel = build("wheel")
    machine = os.uname().machine
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}.whl")
    files = _files(wheel)
    assert files > DATA | {"gosudacon/launcher/launcher", "gosudacon/schema/_validator.py"}
    assert {name.partition("/")[0] for name in files if ".dist-info/" not in name} == {"gosudacon"}
    assert not [name for name in files if name.endswith(".pyc")]
    packages = _check_start(wheel, tmp_path)
    assert (packages / "gosudacon/launcher/launcher").read_bytes().startswith(b"\x7fELF")
    assert "stale" not in (packages / "gosudacon/schema/_validator.py").read_text()


@pytest.mark.needs("compiler")
def test_the_wheel_is_for_any_c_library(build: Callable[..., Path], builder: Path, tmp_path: Path) -> None:
    """What is machine code in it needs neither loader nor library, as its tags say; pip takes it for each of them."""
    wheel = build("wheel")
    with zipfile.ZipFile(wheel) as archive:
        programs = {name: content for name in archive.namelist() if (content := archive.read(name))[:4] == elf.MAGIC}
    assert "gosudacon/launcher/launcher" in programs
    assert {name: elf.requirements(content) for name, content in programs.items()} == {key: set() for key in programs}
    for tag in wheel.stem.split("-")[-1].split("."):
        words = ["install", "--quiet", "--no-deps", "--no-index", "--only-binary=:all:", f"--platform={tag}"]
        subprocess.run([builder, "-m", "pip", *words, f"--target={tmp_path / tag}", wheel], check=True)
        assert (tmp_path / tag / "gosudacon/launcher/launcher").exists()


def test_what_a_program_asks_for() -> None:
    """The check of the wheel sees the loader and the libraries of a program that has them."""
    assert elf.requirements(Path("/bin/ls").read_bytes()) == {"a loader", "a library", "a symbol version"}


@pytest.mark.parametrize("compiler", ["/none/cc", "false"])
def test_wheel_without_a_compiler(compiler: str, build: Callable[..., Path], tmp_path: Path) -> None:
    wheel = build("wheel", CC=compiler)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "gosudacon/launcher/launcher" not in _files(wheel)
    assert "WITHOUT the launcher" in (wheel.parent / "log").read_text()
    _check_start(wheel, tmp_path)


def test_wheel_from_sdist(build: Callable[..., Path], tmp_path: Path) -> None:
    sdist = build("sdist")
    files = _files(sdist)
    assert files > DATA | {"setup.py", "pyproject.toml", "README.md", "LICENSE"}
    assert not files & {"gosudacon/launcher/launcher", "gosudacon/schema/_validator.py"}
    assert not [name for name in files if name.endswith(".pyc")]
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    wheel = build("wheel", next((tmp_path / "unpacked").iterdir()))
    modules = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("gosudacon/**/*.py")}
    assert _files(wheel) > modules
