"""The build beyond copying modules: compile the schemas' validator and the launcher. The rest is in pyproject.toml."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
VALIDATOR = Path("gosudacon/schema/_validator.py")
LAUNCHER = Path("gosudacon/launcher/launcher")


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


class BdistWheel(bdist_wheel):
    """A wheel that holds the launcher is for one platform, and for any Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """The wheel's tags; asked for after the build."""
        built = Path(self.get_finalized_command("build").build_lib) / LAUNCHER
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_") if built.exists() else "any"
        return "py3", "none", platform


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
