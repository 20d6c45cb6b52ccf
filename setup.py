"""The build beyond copying modules: compile the schemas' validator and the launcher. The rest is in pyproject.toml.

Wheel and sdist are reproducible: with the same SOURCE_DATE_EPOCH (seconds; https://reproducible-builds.org/specs/)
and the same tools they have the same bytes, whatever the directory, the user, the umask and the time. `make dist`
sets it.
"""

from __future__ import annotations

import gzip
import importlib.util
import logging
import os
import shutil
import sysconfig
import tarfile
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
VALIDATOR = Path("gosudacon/schema/_validator.py")
LAUNCHER = Path("gosudacon/launcher/launcher")
C_LIBRARIES = ("manylinux_2_17", "musllinux_1_1")
"""What wheels with machine code are tagged for, without the architecture."""


def load(path: str) -> ModuleType:
    """A module of the source tree by its path: the package itself is not importable yet."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, HERE / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildPy(build_py):
    """Adds what is generated. An editable install gets it in the source tree."""

    def run(self) -> None:
        """Copy, then generate."""
        if not self.editable_mode:
            # setuptools never removes what an earlier build has left there.
            shutil.rmtree(Path(self.build_lib) / "gosudacon", ignore_errors=True)
        super().run()
        self._validator()
        self._launcher()

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files of the build; the generated ones among them."""
        generated = [str(path) for path in (self._target(VALIDATOR), self._target(LAUNCHER)) if path.exists()]
        return [*dict.fromkeys([*super().get_outputs(include_bytecode), *generated])]

    def _target(self, path: Path) -> Path:
        return (HERE if self.editable_mode else Path(self.build_lib).absolute()) / path

    def _validator(self) -> None:
        target = self._target(VALIDATOR)
        target.unlink(missing_ok=True)
        load("gosudacon/schema/compiler.py").build(target)

    def _launcher(self) -> None:
        target = self._target(LAUNCHER)
        target.unlink(missing_ok=True)
        builder = load("gosudacon/launcher/build.py")
        try:
            builder.build(target)
        except builder.Unavailable as reason:
            logging.warning(
                "gosudacon: the package is being built WITHOUT the launcher: %s\n"
                "gosudacon: it will work, and each `create`, `run` and `exec` will take 5 to 10 ms longer",
                reason,
            )


def plain_mode(mode: int) -> int:
    """The mode of a file in a distribution: what the umask of a checkout or a build adds or takes away is not in it."""
    return 0o755 if mode & 0o100 else 0o644


class Sdist(sdist):
    """Archives that do not tell who has packed them, or when."""

    def make_archive(
        self,
        base_name: str,
        format: str,
        root_dir: str | None = None,
        base_dir: str | None = None,
        owner: str | None = None,
        group: str | None = None,
    ) -> str:
        """The archive ``base_name`` of the directory ``base_dir``, in sorted order; its path."""
        if format != "gztar" or base_dir is None:
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        target = Path(f"{base_name}.tar.gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        # No name and no time in the header of gzip(1).
        with (
            target.open("wb") as file,
            gzip.GzipFile("", "wb", 9, file, mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w") as archive,
        ):
            for path in [Path(base_dir), *sorted(Path(base_dir).rglob("*"))]:
                archive.add(path, recursive=False, filter=self._plain)
        return str(target)

    @staticmethod
    def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() else plain_mode(member.mode)
        member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or member.mtime)
        return member


def platforms(machine: str) -> str:
    """The platform tags for the launcher on a ``machine`` such as ``linux-x86_64``.

    It is static and has no C library, so the oldest ones that PyPI takes are true of it (PEP 600, PEP 656).
    """
    architecture = machine.removeprefix("linux-").replace("-", "_").replace(".", "_")
    return ".".join(f"{name}_{architecture}" for name in C_LIBRARIES)


class BdistWheel(bdist_wheel):
    """A wheel that holds the launcher is for one architecture, and for any Python 3 and C library."""

    def write_wheelfile(self, wheelfile_base: str, *args: str) -> None:
        """Called when everything but the archive has been written: give all of it the modes that it is to have.

        Its times are SOURCE_DATE_EPOCH by setuptools' own doing.
        """
        super().write_wheelfile(wheelfile_base, *args)
        for path in Path(self.bdist_dir).rglob("*"):
            if path.is_file():
                path.chmod(plain_mode(path.stat().st_mode))

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tags; asked for after the build."""
        built = Path(self.get_finalized_command("build").build_lib) / LAUNCHER
        return "py3", "none", platforms(sysconfig.get_platform()) if built.exists() else "any"


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist, "bdist_wheel": BdistWheel})
