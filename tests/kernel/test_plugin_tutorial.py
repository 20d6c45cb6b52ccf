"""docs/plugin-tutorial.md as it stands: its files are written and its commands run, in a fresh virtual environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.runtime import CHECKOUT
from tools.environments import copy_checkout

TEXT = (CHECKOUT / "docs/plugin-tutorial.md").read_text()
BLOCKS = re.findall(r"(?:<!-- (.+?) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture
def wheels(scratch: Path) -> Path:
    """A directory with a wheel of the checkout, instead of a package index."""
    source = copy_checkout(CHECKOUT, scratch / "source")
    (scratch / "wheels").mkdir()
    code = f"import setuptools.build_meta as b; b.build_wheel({str(scratch / 'wheels')!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=250)
    return scratch / "wheels"


class Reader:
    """A reader who follows the page, in one shell after the other."""

    def __init__(self, place: Path, wheels: Path, cgroup: str) -> None:
        self.place = place
        self.cgroup = cgroup
        place.mkdir()
        names = ("PATH", "HOME", "LANG")
        self.environment = {name: os.environ[name] for name in names if name in os.environ}
        self.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_BUILD_ISOLATION": "0"}
        self.environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{self.environment['PATH']}"

    def run(self, commands: str) -> str:
        """Run commands, with the environment activated once it is there; returns what they write."""
        active = "[ ! -e venv/bin/activate ] || . venv/bin/activate\n"
        result = subprocess.run(
            ["bash", "-ec", active + commands],
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=250,
            check=False,
        )
        assert result.returncode == 0, f"{commands}\n{result.stdout}"
        return result.stdout

    def furnish(self) -> None:
        """What pip would get from the index: the packages that the tests' own environment has."""
        site = next((self.place / "venv/lib").glob("python*/site-packages"))
        for path in [*site.glob("setuptools*"), *site.glob("*distutils*")]:  # older than what the package asks for
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        ours = ("gosudacon", "__")
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not (site / path.name).exists() and not path.name.startswith(ours):
                (site / path.name).symlink_to(path)

    def in_own_cgroup(self) -> None:
        """The container's cgroup must be among those of the tests."""
        path = self.place / "bundle/config.json"
        config = json.loads(path.read_text())
        config["linux"]["cgroupsPath"] = self.cgroup
        path.write_text(json.dumps(config))


@pytest.mark.timeout(600)
def test_tutorial(scratch: Path, wheels: Path, token: str) -> None:
    reader, said = Reader(scratch / "afternoon", wheels, f"/gosudacon-test/{token}/tutorial"), ""
    for what, language, text in BLOCKS:
        if what.startswith("file: "):
            (reader.place / what.removeprefix("file: ")).write_text(text)
        elif what == "output":
            for line in text.splitlines():
                assert line == "…" or line in said, f"the page promises {line!r}:\n{said}"
        elif language == "sh":
            said = ""
            # The packages come in behind `venv`, and the bundle's cgroup behind `demo`.
            for part in re.split(r"(?<=venv venv\n)|(?<=the \$SITE'\n)", text):
                said += reader.run(part)
                if part.endswith("venv venv\n"):
                    reader.furnish()
                elif "gosudacon demo" in part:
                    reader.in_own_cgroup()
    Path("/run/gosudacon").rmdir()  # the directory of states, empty again
    assert {language for _, language, _ in BLOCKS} == {"sh", "text", "python"}


def test_every_block_is_used() -> None:
    for what, language, _ in BLOCKS:
        assert language == "sh" or what == "output" or what.startswith("file: ")
