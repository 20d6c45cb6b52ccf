"""deploy/kubernetes: the image and the DaemonSets' pods on a node, and what containerd and the node are afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from gosudacon.node import places
from tests.clients.cri import Cri, Failure, Pod
from tests.clients.cri_types import FROM_THE_HOST, NODE, PRIVATE, RUNNING, RUNTIME_DEFAULT
from tests.clients.image import write_image
from tests.clients.node import HERE, ApiServer, Engine, Node, Systemd
from tests.clients.test_integration import REST, containerd_version
from tests.conftest import PARENT
from tests.support.leftovers import Watch
from tests.support.needs import missing, needs
from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Message

pytestmark = [
    pytest.mark.slow,
    needs("program:containerd", "program:runc", "program:patchelf", "program:openssl", "program:nsenter"),
]
BASE = CHECKOUT / "deploy/kubernetes/base"
IMAGE = "docker.io/gosudacon/gosudacon-node:test"
BUSYBOX = "docker.io/gosudacon/busybox:node"
PROGRAM = f"{places.PREFIX}/{places.CURRENT}/bin/{places.PROGRAM}"
POLICY = """\
plugins = ["policy"]
[[stage.policy.rule]]
name = "host"
message = "no pod has the node's process ids"
deny-host-namespaces = ["pid"]
"""
_CONFIG = """\
version = {number}
root = "{base}/root"
state = "{base}/state"
[grpc]
  address = "{base}/s"
[ttrpc]
  address = "{base}/t"
"""


@pytest.fixture(scope="module")
def archive(machine: None, session_scratch: Path, token: str) -> Iterator[Path]:
    """The image, as deploy/kubernetes/Containerfile makes it: the tool's directory, the entry point, nothing else.

    It has a plugin of another package, which also makes it another version than those of other runs on the machine.
    """
    root = session_scratch / "node-image"
    (root / "opt").mkdir(parents=True)
    site = session_scratch / "fleet/site-packages"
    about = site / "gosudacon_fleet-1.0.dist-info"
    about.mkdir(parents=True)
    files = {
        site / "gosudacon_fleet.py": f'"""The fleet\'s own; {token}."""\n',
        about / "METADATA": "Metadata-Version: 2.1\nName: gosudacon-fleet\nVersion: 1.0\n",
        about / "entry_points.txt": "[gosudacon]\nfleet = gosudacon_fleet\n",
    }
    for path, text in files.items():
        path.write_text(text)
    (about / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in files))
    tool = f"{sys.executable} -B -m tools.node_prefix --with gosudacon-fleet"
    script = f"mount --make-rprivate / && mount --bind {root}/opt /opt && exec {tool}"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = ["unshare", "--mount", "sh", "-c", script]
    result = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (BASE.parent / "Containerfile").read_text(), re.MULTILINE)
    write_image(root.with_suffix(".tar"), root, IMAGE, {"Entrypoint": json.loads(entry), "Cmd": [], "Env": []})
    yield root.with_suffix(".tar")
    root.with_suffix(".tar").unlink()


class World:
    """A node with all that is around it."""

    def __init__(self, node: Node, engine: Engine, api: ApiServer, cri: Cri, home: Path) -> None:
        self.node = node
        self.engine = engine
        self.api = api
        self.cri = cri
        self.home = home
        self.restarted: list[str] = []

    def restart(self, unit: str) -> str:
        """What systemd does: containers go on."""
        self.restarted.append(unit)
        self.engine.stop()
        self.engine.start()
        return "done"

    def pod_of(self, daemonset: str) -> tuple[Pod, str]:
        """Run the pod of a DaemonSet as a kubelet would on this node: the pod, and its container."""
        manifest = yaml.safe_load((BASE / f"{daemonset}.yaml").read_text())
        (spec,) = manifest["spec"]["template"]["spec"]["containers"]
        volumes = manifest["spec"]["template"]["spec"]["volumes"]
        pod = self.cri.pod(network=NODE)
        container = pod.create(
            [],
            IMAGE,
            security=_security(spec["securityContext"]),
            args=spec["args"],
            envs=[{"key": key, "value": value} for key, value in self._environment(spec).items()],
            mounts=[self._mount(each, volumes) for each in spec["volumeMounts"]] + [self._token()],
            resources={"memory_limit_in_bytes": 256 << 20},
        )
        self.cri.call("StartContainer", container_id=container)
        return pod, container

    def _environment(self, spec: Message) -> dict[str, str]:
        ours = {each["name"]: "node-1" for each in spec["env"] if "valueFrom" in each}
        kubelets = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.api.port)}
        return {**ours, **kubelets, "GOSUDACON_INTERVAL": "0.5"}

    def _mount(self, mount: Message, volumes: list[Message]) -> Message:
        (volume,) = [each for each in volumes if each["name"] == mount["name"]]
        source = self.node.root if "hostPath" in volume else self.home / mount["name"]
        return {
            "container_path": mount["mountPath"],
            "host_path": str(source),
            "readonly": mount.get("readOnly", False),
            "propagation": FROM_THE_HOST if mount.get("mountPropagation") == "HostToContainer" else PRIVATE,
        }

    def _token(self) -> Message:
        path = "/var/run/secrets/kubernetes.io/serviceaccount"
        return {"container_path": path, "host_path": str(self.api.account), "readonly": True}

    def ready(self, pod: Pod, container: str) -> bool:
        """What the pod's probe says; a kubelet asks again, too, where the engine is restarted meanwhile."""
        try:
            return pod.execute(container, [PROGRAM, "ready"])[0] == 0
        except Failure:
            return False


def _security(context: Message) -> Message:
    return {
        "capabilities": {
            "add_capabilities": context["capabilities"]["add"],
            "drop_capabilities": context["capabilities"]["drop"],
        },
        "privileged": context["privileged"],
        "no_new_privs": not context["allowPrivilegeEscalation"],
        "readonly_rootfs": context["readOnlyRootFilesystem"],
        "run_as_user": {"value": context["runAsUser"]},
        "run_as_group": {"value": context["runAsGroup"]},
        "seccomp": {"profile_type": RUNTIME_DEFAULT},
    }


@pytest.fixture
def world(archive: Path, leftovers: Watch, scratch: Path, token: str, image: Callable[..., Path]) -> Iterator[World]:
    """A node with a containerd that has both images and no runtime of ours."""
    home = scratch / "w"
    for name in ("w", "w/fleet", "w/status"):
        (scratch / name).mkdir()
    node = Node(scratch / "n")
    version = containerd_version()
    restricted = "true" if missing("resource-capability") else "false"
    text = _CONFIG + REST[version]
    config = text.format(number=version + 1, base=home, image=BUSYBOX, restricted=restricted)
    engine = Engine(node, home / "s", config, home)
    api = ApiServer(home / "api", "node-1", f"containerd://{version}.6.20")
    cri = Cri(home / "s", f"/{PARENT}/{token}", home / "logs")
    world = World(node, engine, api, cri, home)
    systemd = Systemd(node.root / "run/systemd/private", world.restart)
    try:
        for each in (archive, image(BUSYBOX, {"Cmd": ["sleep", "1000000"]})):
            result = engine.ctr("images", "import", each)
            assert result.returncode == 0, result.stderr
        for name in (IMAGE, BUSYBOX):
            eventually(lambda name=name: cri.call("ImageStatus", image={"image": name})["image"], 20, "the images")  # type: ignore[misc]
        yield world
    finally:
        for log in [engine.log, *home.glob("logs/*/*")]:
            print(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            cri.clear()
        finally:
            cri.close()
            systemd.close()
            api.close()
            engine.stop()
            node.stop()


def test_from_nothing_and_back(world: World) -> None:
    node, api = world.node, world.api
    before = node.files("opt", "etc")
    main = node.root / "etc/containerd/config.toml"
    config = node.root / places.CONFIG.lstrip("/")
    (world.home / "fleet/config.toml").write_text(POLICY)

    # Installed: the engine restarted once, the pod that had it restarted goes on, the node labelled.
    pod, container = world.pod_of("install")
    eventually(lambda: api.metadata["labels"].get(places.LABEL) == places.READY, 60, "the label")
    assert world.restarted == ["containerd.service"]
    assert pod.status(container)["state"] == RUNNING
    assert places.TROUBLE not in api.metadata["annotations"]
    version = os.readlink(node.root / places.PREFIX.lstrip("/") / places.CURRENT).rpartition("/")[2]
    assert api.metadata["annotations"][places.STATE] == f"version {version}"
    assert config.read_text() == POLICY
    eventually(lambda: world.ready(pod, container), 20, "the probe")
    program = f"{places.PREFIX}/{places.CURRENT}/bin/gosudacon"
    listed = subprocess.run(node.inside(program, "plugin", "list"), capture_output=True, text=True, check=True).stdout
    assert re.search(r"^fleet +gosudacon-fleet ", listed, re.MULTILINE)

    # A pod by the handler, which has our shim; and the fleet's rules hold for it.
    other = world.cri.pod("gosudacon", network=NODE)
    inner = other.create("sleep 1000", BUSYBOX, security={})
    world.cri.call("StartContainer", container_id=inner)
    assert other.execute(inner, "echo hello") == (0, "hello\n", "")
    states = [path.name for path in node.root.glob("run/containerd/gosudacon/*/k8s.io/*")]
    assert sorted(states) == sorted([other.id, inner])
    with pytest.raises(Failure, match="no pod has the node's process ids"):
        world.cri.pod("gosudacon", network=NODE, pid=NODE)
    world.cri.pods = [each for each in world.cri.pods if each.id]

    # A configuration that is wrong changes nothing, and is told; one that is right is taken at once.
    (world.home / "fleet/config.toml").write_text('plugins = ["nonsense"]\n')
    trouble = eventually(lambda: api.metadata["annotations"].get(places.TROUBLE, ""), 20, "the annotation")
    assert "configuration refused: plugin 'nonsense' is enabled but not installed" in trouble
    assert config.read_text() == POLICY
    assert "plugin 'nonsense'" in pod.log(container)
    assert not world.ready(pod, container)
    (world.home / "fleet/config.toml").write_text(f"# a second\n{POLICY}")
    eventually(lambda: config.read_text().startswith("# a second"), 20, "the new configuration")
    eventually(lambda: places.TROUBLE not in api.metadata["annotations"], 20, "the annotation's end")
    assert world.restarted == ["containerd.service"]

    # The end of the pod changes nothing.
    installed = node.files("etc")
    pod.remove()
    assert node.files("etc") == installed
    assert api.metadata["labels"] == {places.LABEL: places.READY}

    # Removed: what runs goes on and can be entered, and the rest goes when it has ended.
    (world.home / "status/status").unlink()
    pod, container = world.pod_of("remove")
    eventually(lambda: inner in api.metadata["annotations"].get(places.STATE, ""), 20, "what is waited for")
    assert api.metadata["labels"] == {}
    assert "gosudacon" in main.read_text()
    assert other.execute(inner, "echo still here") == (0, "still here\n", "")
    assert not world.ready(pod, container)
    eventually(other.removed, 20, "the pod's removal")
    eventually(lambda: world.ready(pod, container), 60, "the end of the removal")
    assert world.restarted == ["containerd.service"] * 2
    assert api.metadata == {"labels": {}, "annotations": {}}
    assert node.files("opt", "etc") == before
    assert not [*node.root.glob("run/gosudacon*"), *node.root.glob("run/containerd/gosudacon")]
    with pytest.raises(Failure, match="no runtime for"):
        world.cri.pod("gosudacon", network=NODE)
    world.cri.pods = [each for each in world.cri.pods if each.id]


def test_the_node_is_where_the_machine_is() -> None:
    """What the tests put instead of the machine's is all that the installer changes."""
    assert {Path(each).parts[1] for each in (places.PREFIX, places.CONFIG, places.SHIM_STATES)} <= {*HERE}
