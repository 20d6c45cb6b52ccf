"""Nothing around the caller reaches the interpreter: PYTHON* variables, working directory, user's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.installation import Installation
from tests.support.needs import missing, needs
from tests.support.runtime import Runtime

pytestmark = needs("root")

NAMES = ("json", "os", "posixpath", "encodings", "codecs", "io", "sitecustomize", "usercustomize", "site", "gosudacon")
SMALL = "import pathlib; pathlib.Path({marker!r}).touch()\n"


@pytest.fixture
def marker(scratch: Path) -> Path:
    """What a decoy makes when it is imported or executed."""
    return scratch / "marker"


@pytest.fixture
def hostile(scratch: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory and the environment of a caller full of decoys."""
    code = SMALL.format(marker=str(marker))
    place = scratch / "hostile"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user = place / "home/.local/lib" / version / "site-packages"
    for directory in (place, user):
        directory.mkdir(parents=True)
        for name in NAMES:
            (directory / f"{name}.py").write_text(code)
    (user / "decoy.pth").write_text(f"import os; {code}")
    (place / "startup.py").write_text(code)
    for name, value in {
        "PYTHONPATH": place,
        "PYTHONHOME": place,
        "PYTHONSTARTUP": place / "startup.py",
        "PYTHONUSERBASE": place / "home/.local",
        "HOME": place / "home",
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "json.loads",
        "PYTHONWARNINGS": "error::json.Decoy",
        "PYTHONPLATLIBDIR": "hostile",
        "PYTHONEXECUTABLE": place / "python",
        "PYTHONOPTIMIZE": "2",
        "PYTHONVERBOSE": "1",
        "PYTHONIOENCODING": "idna",
        "GOSUDACON": "tree",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(place)
    return place


def test_the_decoys_work(hostile: Path, marker: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-c", "import json"], check=False, env={"PYTHONPATH": str(hostile)})
    assert marker.exists()


@pytest.mark.parametrize("launcher", [True, False], ids=["launcher", "script"])
def test_the_installed_command_sees_none_of_it(
    launcher: bool, scratch: Path, bundle: Bundle, runtime: Runtime, request: pytest.FixtureRequest
) -> None:
    """Neither the sealed start nor the script that finds no seal and starts over."""
    if launcher and missing("compiler"):
        pytest.skip("needs compiler")
    installation = Installation(scratch, launcher)
    installation.install()
    request.getfixturevalue("hostile")
    installed = Runtime([str(installation.command)], runtime.root)
    bundle.set("process.args", ["/bin/true"])
    assert installed.call("--version").stderr == ""
    assert installed.call("state", "none", check=False).returncode == 1
    result = installed.run(bundle)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert installed.call("list").stderr == ""
    assert not (scratch / "marker").exists()
