"""Which mounts reach the host from a container, and a container from the host, for every propagation of all involved.

Each test is a host of its own: a mount namespace with the bundle on a mount of its own, and with sources on that very
mount and on others. One container binds every source in every way, and mounts, masks and makes read-only what is in it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]

ROOT = ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]
PARENT = ["shared", "private", "slave", "unbindable"]
WORDS = {
    "none": ["rbind"],
    "one": ["bind"],
    "shared": ["bind", "shared"],
    "rshared": ["rbind", "rshared"],
    "slave": ["rbind", "slave"],
    "rslave": ["rbind", "rslave"],
    "private": ["rbind", "private"],
    "rprivate": ["rbind", "rprivate"],
    "both": ["rbind", "rslave", "rshared"],
}
HOST = """
set -e
mount --make-rprivate /
cd "$1"
mkdir -p peer same own.shared own.private own.slave own.master rootfs/late
mount --bind . .
cd "$1"
mount --make-shared .
mount --bind . peer
[ $2 = shared ] || mount --make-$2 .
for each in shared private master; do mount -t tmpfs own.$each own.$each; mount --make-private own.$each; done
mount --make-shared own.shared
mount --make-shared own.master
mount --bind own.master own.slave
mount --make-slave own.slave
for each in same own.shared own.private own.slave; do
    mkdir -p $each/new $each/secret $each/read $each/below $each/later
    touch $each/file $each/hidden
    mount -t tmpfs below.$each $each/below
    mkdir $each/below/new $each/below/secret $each/below/later
done
echo ready
while read -r line; do
    sh -c "$line" </dev/null >output 2>&1 && echo 0 || echo 1
done
"""


class Machine:
    """A shell in a mount namespace with the sources of `HOST`."""

    def __init__(self, bundle: Bundle, parent: str) -> None:
        self.bundle = bundle
        command = ["unshare", "--mount", "sh", "-c", HOST, "sh", str(bundle.path), parent]
        self._shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._shell.stdout and self._shell.stdout.readline() == "ready\n"

    def call(self, *words: str, check: bool = True) -> str:
        """Run a command in there; what it prints."""
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(" ".join(f"'{word}'" for word in words) + "\n")
        failed = self._shell.stdout.readline() != "0\n"
        output = (self.bundle.path / "output").read_text()
        assert failed != check, f"{words}: {output}"
        return output

    def mounts(self) -> str:
        return self.call("cat", "/proc/self/mountinfo")

    def close(self) -> None:
        self._shell.communicate()


@pytest.fixture
def host_with(make_bundle: Bundles) -> Iterator[Callable[[str], Machine]]:
    made = []

    def make(parent: str) -> Machine:
        made.append(Machine(make_bundle("exec sleep 1000"), parent))
        return made[-1]

    yield make
    for each in made:
        each.close()


def configure(machine: Machine, word: str, parent: str, users: bool = False) -> dict[str, str]:
    """A container that mounts in every way in every source: destination -> source."""
    bundle = machine.bundle
    linux: Any = bundle.config["linux"]
    linux["rootfsPropagation"] = word
    places = {}
    for source in ("same", "own.shared", "own.private", "own.slave"):
        if source == "same" and parent == "unbindable":
            continue
        for name, words in WORDS.items():
            places[f"/mnt/{source}/{name}"] = source
            bundle.add_mount(f"/mnt/{source}/{name}", "bind", str(bundle.path / source), *words)
    for place in places:
        bundle.add_mount(f"{place}/new", "tmpfs", "leak", "size=4k")
        bundle.add_mount(f"{place}/file", "bind", str(bundle.path / "own.private/file"), "bind", "ro")
        linux["maskedPaths"] += [f"{place}/secret", f"{place}/hidden", f"{place}/below/secret"]
        linux["readonlyPaths"] += [f"{place}/read"]
    if parent != "unbindable":
        bundle.add_mount("/all", "bind", str(bundle.path), "rbind")
        linux["maskedPaths"].append("/all/rootfs/late")
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")
    if users:
        bundle.map_users()
        bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["destination"] != "/dev/pts"]
    bundle.write()
    return places


def words(runtime: Runtime, *arguments: str) -> list[str]:
    return [*runtime.command, "--root", str(runtime.root), *arguments]


def inside(machine: Machine, runtime: Runtime) -> str:
    return (Path("/proc") / str(runtime.pid(machine.bundle)) / "mountinfo").read_text()


@pytest.mark.parametrize("parent", PARENT)
@pytest.mark.parametrize("word", ROOT)
@needs("runtime:gosudacon")
def test_create_leaves_the_host_alone(
    runtime: Runtime, host_with: Callable[[str], Machine], word: str, parent: str
) -> None:
    """A create, a delete, and a create that fails when all is mounted; nothing of the root's directory comes in."""
    host = host_with(parent)
    bundle = host.bundle
    configure(host, word, parent)
    before = host.mounts()
    runtime.created.append(bundle.id)
    create = words(runtime, "create", "--bundle", str(bundle.path), bundle.id)
    host.call(*create)
    assert host.mounts() == before
    host.call("mount", "-t", "tmpfs", "late", str(bundle.path / "rootfs/late"))
    if "shared" not in word:
        assert " /late " not in inside(host, runtime)
    host.call("umount", str(bundle.path / "rootfs/late"))
    host.call(*words(runtime, "delete", "--force", bundle.id))
    assert host.mounts() == before
    bundle.set("process.args", ["/nothing"])
    assert "/nothing" in host.call(*create, check=False)
    assert host.mounts() == before


@pytest.mark.parametrize("parent", ["shared", "private"])
@pytest.mark.parametrize("word", ["shared", "rshared", "rslave"])
def test_what_the_container_mounts_later(
    runtime: Runtime, host_with: Callable[[str], Machine], word: str, parent: str
) -> None:
    """It reaches the host where the root is shared, the bind mount may be and its source is, and nowhere else."""
    host = host_with(parent)
    bundle = host.bundle
    places = configure(host, word, parent)
    runtime.created.append(bundle.id)
    host.call(*words(runtime, "create", "--bundle", str(bundle.path), bundle.id))
    host.call(*words(runtime, "start", bundle.id))
    script = "; ".join(f"mount -t tmpfs later:{place} {place}/later" for place in places)
    host.call(*words(runtime, "exec", bundle.id, "sh", "-ec", script))
    arrived = {name for name in host.mounts().split() if name.startswith("later:")}
    sources = {"own.shared", "same"} if parent == "shared" else {"own.shared"}
    peers = {
        f"later:{place}"
        for place, source in places.items()
        if source in sources and place.endswith(("none", "one", "/shared", "/rshared"))
    }
    assert arrived == (peers if "shared" in word else set())


def test_a_user_namespace_lets_nothing_out(runtime: Runtime, host_with: Callable[[str], Machine]) -> None:
    """As the kernel has it for mount namespaces of others: what comes from the host, comes one way."""
    host = host_with("shared")
    bundle = host.bundle
    places = configure(host, "rshared", "shared", users=True)
    for place in ["/all", *places]:
        (bundle.rootfs / place.lstrip("/")).mkdir(parents=True)
    before = host.mounts()
    runtime.created.append(bundle.id)
    host.call(*words(runtime, "create", "--bundle", str(bundle.path), bundle.id))
    host.call(*words(runtime, "start", bundle.id))
    script = "; ".join(f"mount -t tmpfs later {place}/later" for place in places)
    host.call(*words(runtime, "exec", bundle.id, "sh", "-ec", script))
    assert host.mounts() == before


@pytest.mark.parametrize("parent", ["shared", "private", "slave"])
@pytest.mark.parametrize("word", ["", "rshared"])
def test_without_a_mount_namespace(
    runtime: Runtime, host_with: Callable[[str], Machine], word: str, parent: str
) -> None:
    """The mounts are the host's, as with runc; unlike there, no other changes, and delete takes them all away."""
    host = host_with(parent)
    bundle = host.bundle
    configure(host, word, parent)
    bundle.drop_namespace("mount")
    bundle.update({"linux": {"maskedPaths": [], "readonlyPaths": []}, "root": {"readonly": True}})
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if not each["destination"].endswith("/file")]
    bundle.write()
    before = host.mounts()
    runtime.created.append(bundle.id)
    create = words(runtime, "create", "--bundle", str(bundle.path), bundle.id)
    host.call(*create)
    assert set(before.splitlines()) <= set(host.mounts().splitlines())
    host.call(*words(runtime, "start", bundle.id))
    script = "! touch /x; test -d /mnt/same/none/new; mount -t tmpfs later /tmp"
    host.call(*words(runtime, "exec", bundle.id, "sh", "-ec", script))
    host.call(*words(runtime, "delete", "--force", bundle.id))
    assert host.mounts() == before
    bundle.set("process.args", ["/nothing"])
    assert "/nothing" in host.call(*create, check=False)
    assert host.mounts() == before


def test_two_of_them_in_one_root(runtime: Runtime, host_with: Callable[[str], Machine]) -> None:
    """Each takes away its own; the one that is covered cannot, says so, and is kept."""
    host = host_with("shared")
    bundle = host.bundle
    bundle.drop_namespace("mount")
    bundle.update({"linux": {"maskedPaths": [], "readonlyPaths": []}})
    before = host.mounts()
    ids = [bundle.id, f"{bundle.id}-2"]
    for each in ids:
        runtime.created.append(each)
        bundle.set("linux.cgroupsPath", f"/{each}")
        host.call(*words(runtime, "create", "--bundle", str(bundle.path), each))
    assert "mounted over" in host.call(*words(runtime, "delete", "--force", ids[0]), check=False)
    (runtime.root / ids[1] / "state.json").write_text("{")  # that one is salvaged
    host.call(*words(runtime, "delete", "--force", ids[1]))
    host.call(*words(runtime, "delete", "--force", ids[0]))
    assert host.mounts() == before
