"""Every bundle in examples/ runs as it stands there, and prints what examples/README.md shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import BUNDLES, EXAMPLES, output
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = [needs("root", "busybox"), pytest.mark.vm]


@pytest.fixture
def examples(scratch: Path) -> Path:
    """A copy with the root filesystem, which examples/make-rootfs makes."""
    ignore = shutil.ignore_patterns("rootfs", "plugins")
    path = Path(shutil.copytree(EXAMPLES, scratch / "examples", ignore=ignore))
    subprocess.run([path / "make-rootfs"], check=True)
    return path


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle(name: str, runtime: Runtime, examples: Path, token: str) -> None:
    container = f"{token}-{name}"
    runtime.created.append(container)
    result = runtime.call("run", "--bundle", examples / name, container)
    assert (result.stdout, result.stderr) == (output(name), "")


def test_rootless_without_root(runtime: Runtime, examples: Path, scratch: Path, token: str) -> None:
    """User 1000 runs the example ``rootless``, with no privilege but to read the program wherever it is installed."""
    home = scratch / "home"
    home.mkdir()
    os.chown(home, 1000, 1000)
    privilege = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *privilege, *runtime.command]
    words = [*command, "--root", str(home / "root"), "run", "--bundle", str(examples / "rootless"), f"{token}-rootless"]
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, output("rootless")), result.stderr
