"""The README's first command, on this machine, with its own directories instead of those that it writes to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gosudacon.container import demo
from tests.support import cgroups, namespaces
from tests.support.installation import with_network
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

PACKAGES = ("python3", "python3-venv", "ca-certificates", "gcc", "libseccomp2")
PLACES = ("/opt", "/usr/local")

pytestmark = [needs("root", "program:dpkg-query"), pytest.mark.slow]


@pytest.fixture
def places(machine: None) -> Iterator[None]:
    """Empty file systems over the directories, in the tests' mount namespace."""
    status = subprocess.run(["dpkg-query", "-W", *PACKAGES], capture_output=True, check=False)
    if status.returncode != 0:
        pytest.skip("needs packages of tools/quickstart")
    for place in PLACES:
        namespaces.mount("tmpfs", place, "tmpfs")
    yield
    for place in PLACES:
        namespaces.unmount(place)


def test_quickstart(places: None, token: str) -> None:
    # The container's cgroup must be among those of the tests, so the bundle is there already, and is kept.
    bundle = Path("/opt/gosudacon/demo")
    bundle.mkdir(parents=True)
    config = demo.spec(cgroup_v2=cgroups.mode() == "v2")
    config["linux"]["cgroupsPath"] = f"/gosudacon-test/{token}/quickstart"
    (bundle / "config.json").write_text(json.dumps(config))
    demo.make_rootfs(str(bundle / "rootfs"))
    before = sorted(path.name for path in CHECKOUT.iterdir())
    result = subprocess.run(
        with_network(CHECKOUT / "tools/quickstart"),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "installed /usr/local/bin/gosudacon (launcher)" in result.stdout
    assert "Hello from a container." in result.stdout
    assert "host name   demo" in result.stdout
    assert "Read-only file system" in result.stdout
    assert sorted(path.name for path in CHECKOUT.iterdir()) == before
    subprocess.run(["/usr/local/bin/gosudacon", "uninstall"], check=True)
    assert [path for path in Path("/usr/local").rglob("*") if not path.is_dir()] == []


def test_quickstart_refuses_what_it_does_not_know() -> None:
    for words, status in ((["--help"], 0), (["--none"], 2), (["--prefix"], 1)):
        result = subprocess.run([CHECKOUT / "tools/quickstart", *words], capture_output=True, text=True, check=False)
        assert result.returncode == status
        assert (result.stdout if status == 0 else result.stderr).startswith("tools/quickstart")
