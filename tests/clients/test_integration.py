"""docs/integration.md: the configurations for containerd, CRI-O and Kubernetes, as they are printed there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gosudacon.cli import engine_config
from tests.clients.cri import Cri
from tests.clients.cri_types import NODE
from tests.clients.daemon import Containerd, own_shim, own_states
from tests.conftest import PARENT
from tests.support.leftovers import Watch
from tests.support.needs import missing, needs
from tests.support.runtime import CHECKOUT, runtime_command
from tests.support.timing import eventually

GUIDES = [CHECKOUT / "docs" / name for name in ("integration.md", "shim.md")]
INSTALLED = "/usr/local/bin/gosudacon"
IMAGE = "docker.io/gosudacon/busybox:pod"
_SNIPPET = re.compile(
    r"^<!-- tests/clients/test_integration.py: (\S+ \S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
# What does not concern the runtime: an image for sandboxes, no network, no privilege that the machine may lack.
REST = {
    1: """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = {restricted}
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{base}.cni"
""",
    2: """
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{image}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = {restricted}
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = "{base}.cni"
""",
}


def snippet(name: str) -> str:
    """A configuration of the guides."""
    texts = [path.read_text() for path in GUIDES]
    return {str(key): str(found) for text in texts for key, found in _SNIPPET.findall(text)}[name]


def containerd_version() -> int:
    """The first number of the version of the machine's containerd."""
    text = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout
    return int(text.split()[2].lstrip("v").partition(".")[0])


@needs("program:containerd")
@pytest.mark.parametrize("kind", ["name", "default"])
def test_a_pod_with_containerd(
    kind: str, shims: None, leftovers: Watch, scratch: Path, token: str, image: Callable[..., Path]
) -> None:
    version = containerd_version()
    runtime = scratch / "runtime"
    runtime.write_text(f'#!/bin/sh\n: >>{scratch}/called\nexec {shlex.join(runtime_command())} "$@"\n')
    runtime.chmod(0o755)
    base = scratch / "d"
    number, text = snippet(f"containerd-{version} {kind}").replace(INSTALLED, str(runtime)).split("\n", 1)
    restricted = "true" if missing("resource-capability") else "false"
    rest = REST[version].format(image=IMAGE, base=base, restricted=restricted)
    daemon = Containerd(base, "k8s.io", runtime, text + rest, int(number.removeprefix("version = ")))
    cri = Cri(base / "s", f"/{PARENT}/{token}", base / "logs")
    try:
        daemon.ctr("images", "import", image(IMAGE, {"Cmd": ["sleep", "1000000"]}))
        eventually(lambda: cri.call("ImageStatus", image={"image": IMAGE})["image"], 20, "the image")
        pod = cri.pod("gosudacon" if kind == "name" else "", network=NODE)
        container = pod.create("exec sleep 1000", IMAGE, security={})
        cri.call("StartContainer", container_id=container)
        assert pod.execute(container, "echo hello") == (0, "hello\n", "")
        assert (scratch / "called").exists()
        kept = Path("/run/containerd/runc/k8s.io")
        assert {path.name for path in kept.iterdir()} == {pod.id, container}
        pod.remove()
        assert not list(kept.iterdir())
    except BaseException:
        print(daemon.log.read_text(errors="replace"))
        raise
    finally:
        end(cri, daemon)


def end(cri: Cri, daemon: Containerd) -> None:
    """Remove all pods, and end the daemon."""
    try:
        cri.clear()
    finally:
        cri.close()
        daemon.stop()
        for name in ("fifo", "runc"):  # made by containerd and its shim, in a directory that is this run's own
            shutil.rmtree(f"/run/containerd/{name}", ignore_errors=True)


@needs("program:containerd")
def test_our_shim_with_containerd_and_the_way_back(
    shims: None, leftovers: Watch, scratch: Path, token: str, image: Callable[..., Path]
) -> None:
    """A pod that runs keeps its shim when the configuration names runc's again; the next one has that."""
    version = containerd_version()
    base = scratch / "d"
    number, text = snippet(f"containerd-{version} shim").split("\n", 1)
    restricted = "true" if missing("resource-capability") else "false"
    rest = REST[version].format(image=IMAGE, base=base, restricted=restricted)
    shim = own_shim(runtime_command())
    daemon = Containerd(base, "k8s.io", shim, text + rest, int(number.removeprefix("version = ")), shim=shim)
    leftovers.keep(*daemon.own_processes())
    cri = Cri(base / "s", f"/{PARENT}/{token}", base / "logs")
    try:
        daemon.ctr("images", "import", image(IMAGE, {"Cmd": ["sleep", "1000000"]}))
        eventually(lambda: cri.call("ImageStatus", image={"image": IMAGE})["image"], 20, "the image")
        pod = cri.pod("gosudacon", network=NODE)
        container = pod.create("exec sleep 1000", IMAGE, security={})
        cri.call("StartContainer", container_id=container)
        kept = own_states(base / "s") / "k8s.io"
        assert {path.name for path in kept.iterdir()} == {pod.id, container}

        daemon.kill()
        config = base / "config.toml"
        config.write_text(config.read_text().replace("io.containerd.gosudacon.v1", "io.containerd.runc.v2"))
        daemon.restart()
        leftovers.keep(*daemon.own_processes())
        eventually(lambda: cri.call("ImageStatus", image={"image": IMAGE})["image"], 20, "the image")
        assert pod.execute(container, "echo hello") == (0, "hello\n", "")
        if shutil.which("runc") is not None:
            other = cri.pod("gosudacon", network=NODE)
            assert (Path("/run/containerd/runc/k8s.io") / other.id).exists()
            other.remove()
        assert {path.name for path in kept.iterdir()} == {pod.id, container}
        pod.remove()
        assert not list(kept.glob("*"))
    finally:
        end(cri, daemon)


@needs("containerd>=2")
def test_a_file_of_its_own(scratch: Path) -> None:
    """containerd 2.x adds the tables of imported files to those that it has."""
    (scratch / "own.toml").write_text(snippet("containerd-2 shim"))
    main = scratch / "config.toml"
    name = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.other"
    main.write_text(f"version = 3\nimports = ['{scratch}/own.toml']\n[{name}]\nruntime_type = 'x'\n")
    words: list[str | Path] = ["containerd", "--config", main, "config", "dump"]
    dumped = tomllib.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    runtimes = dumped["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert runtimes["other"]["runtime_type"] == "x"
    assert runtimes["gosudacon"]["runtime_type"] == "io.containerd.gosudacon.v1"


def test_both_versions_of_containerd_are_told_the_same_of_our_shim() -> None:
    one, two = (tomllib.loads(snippet(f"containerd-{version} shim")) for version in (1, 2))
    assert (one.pop("version"), two.pop("version")) == (2, 3)
    old = one["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    new = two["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert old.pop("runc") == {"runtime_type": "io.containerd.runc.v2"}
    assert old == new == {"gosudacon": {"runtime_type": "io.containerd.gosudacon.v1"}}


@pytest.mark.parametrize("kind", ["name", "default"])
def test_both_versions_of_containerd_are_told_the_same(kind: str) -> None:
    one, two = (tomllib.loads(snippet(f"containerd-{version} {kind}")) for version in (1, 2))
    assert (one.pop("version"), two.pop("version")) == (2, 3)
    old = one["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
    new = two["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
    if kind == "name":
        assert old["runtimes"].pop("runc") == {"runtime_type": "io.containerd.runc.v2"}
    runtime = {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": INSTALLED}}
    assert old == new
    assert new == {"runtimes": {"gosudacon": runtime}} | (
        {"default_runtime_name": "gosudacon"} if kind == "default" else {}
    )


def test_cri_o() -> None:
    runtime = {"runtime_path": INSTALLED, "runtime_type": "oci", "runtime_root": "/run/gosudacon"}
    table: dict[str, Any] = {"runtimes": {"gosudacon": runtime}}
    assert tomllib.loads(snippet("cri-o name")) == {"crio": {"runtime": table}}
    assert tomllib.loads(snippet("cri-o default")) == {"crio": {"runtime": {"default_runtime": "gosudacon", **table}}}


def test_the_runtime_class() -> None:
    kind, pod = snippet("kubernetes class").splitlines(), snippet("kubernetes pod").splitlines()
    assert kind[:2] == ["apiVersion: node.k8s.io/v1", "kind: RuntimeClass"]
    assert "handler: gosudacon" in kind
    assert "  name: gosudacon" in kind
    assert "  runtimeClassName: gosudacon" in pod


@pytest.mark.parametrize("name", ["containerd-1 name", "containerd-2 name", "cri-o name"])
def test_install_prints_the_same(name: str) -> None:
    printed = [line.strip() for line in engine_config.text(Path(INSTALLED)).splitlines()]
    lines = [line.strip() for line in snippet(name).splitlines() if line]
    assert lines in [printed[start : start + len(lines)] for start in range(len(printed))]
