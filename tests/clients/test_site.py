"""The administrator's plugins hold for containers of engines: rules that no command line gets around, and devices."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.daemon import Completed
from tests.clients.dockerd import Dockerd
from tests.clients.podman import Podman
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

pytestmark = needs("root", "runtime:gosudacon")

CONFIG = Path("/etc/gosudacon/config.toml")  # in the copy of /etc that the tests have for their own
RULES = re.findall(r"```toml\n(.*?)```", (CHECKOUT / "docs/policy.md").read_text(), re.DOTALL)[0]
REFUSED = "refused by the policy of this host: "


@pytest.fixture
def configure(machine: None) -> Iterator[Callable[[str], None]]:
    """``configure(text)`` writes the administrator's configuration, for every runtime of the host."""
    made = not CONFIG.parent.exists()
    assert not CONFIG.exists()
    CONFIG.parent.mkdir(exist_ok=True)

    def write(text: str) -> None:
        CONFIG.write_text(text)
        CONFIG.chmod(0o644)

    yield write
    CONFIG.unlink(missing_ok=True)
    if made:
        CONFIG.parent.rmdir()


def test_rules_hold_for_docker_run(docker: Dockerd, configure: Callable[[str], None]) -> None:
    """The documented ones: ordinary containers run, privileged ones do not, and exec --privileged neither."""
    configure(RULES)
    assert docker.run("echo yes").stdout == "yes\n"
    result = docker.run("true", "--privileged", "--volume", "/etc:/host", check=False)
    assert result.returncode != 0 and REFUSED in result.stderr
    for rule in ("privileges", "confinement", "devices", "host-paths", "root-with-admin"):
        assert f"(policy: {rule})" in result.stderr
    assert "source: the host's files are its own: is /etc" in result.stderr
    assert "(policy: confinement)" in docker.run("true", "--pid", "host", check=False).stderr
    name = docker.detached("exec sleep 1000")
    assert docker.docker("exec", name, "echo", "yes").stdout == "yes\n"
    result = docker.docker("exec", "--privileged", name, "true", check=False)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "(policy: privileges)" in said
    assert "root-with-admin" not in said  # it has a filter


def test_rules_hold_for_ctr_run(run: Callable[..., Completed], configure: Callable[[str], None]) -> None:
    configure(RULES)
    assert run("echo yes").stdout == "yes\n"
    result = run(["true"], "--privileged", check=False)
    assert result.returncode != 0 and REFUSED in result.stderr and "(policy: privileges)" in result.stderr


def test_rules_hold_for_podman_run(podman: Podman, configure: Callable[[str], None]) -> None:
    configure(RULES)
    assert podman.run("echo yes").stdout == "yes\n"
    result = podman.run("true", "--privileged", check=False)
    assert result.returncode != 0 and REFUSED in result.stderr and "(policy: privileges)" in result.stderr


@pytest.fixture
def device(scratch: Path, configure: Callable[[str], None]) -> str:
    """The plugin cdi, and a device of its registry that stands in for a GPU."""
    directory = scratch / "cdi"
    directory.mkdir(mode=0o755)
    edits = {"env": ["TEST_GPU=0"], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}]}
    device = {"name": "0", "containerEdits": edits}
    content = {"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": [device]}
    (directory / "vendor.json").write_text(json.dumps(content))
    configure(
        f'plugins = ["cdi"]\n[plugin.cdi]\ndirectories = ["{directory}"]\n'
        '[plugin.cdi.environment]\nVENDOR_VISIBLE_DEVICES = "vendor.com/gpu"\n'
    )
    return "vendor.com/gpu=0"


LOOK = "echo $TEST_GPU; stat -c %t:%T /dev/gpu0; head -c 3 /dev/gpu0 | wc -c"


def test_a_device_by_annotation_with_podman(podman: Podman, device: str) -> None:
    assert podman.run(LOOK, "--annotation", f"cdi.k8s.io/gpu={device}").stdout.split() == ["0", "1:3", "0"]


def test_a_device_by_annotation_with_ctr(run: Callable[..., Completed], device: str) -> None:
    assert run(LOOK, "--annotation", f"cdi.k8s.io/gpu={device}").stdout.split() == ["0", "1:3", "0"]


def test_a_device_by_the_image_s_variable_with_docker(docker: Dockerd, device: str) -> None:
    assert docker.run(LOOK, "--env", "VENDOR_VISIBLE_DEVICES=0").stdout.split() == ["0", "1:3", "0"]
    name = docker.detached("exec sleep 1000", "--env", "VENDOR_VISIBLE_DEVICES=0")
    assert docker.docker("exec", name, "sh", "-c", LOOK).stdout.split() == ["0", "1:3", "0"]
    result = docker.run("true", "--env", "VENDOR_VISIBLE_DEVICES=7", check=False)
    assert "unresolvable CDI devices vendor.com/gpu=7" in result.stderr
