"""Nothing that a container mounts reaches the host, nor does its root become the host's.

Each test is a host of its own: a mount namespace in which the bundle is on a mount of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]

SCRIPT = """
set -e
bundle=$1 propagation=$2; shift 2
mount --make-rprivate /
mount --bind "$bundle" "$bundle"
mount --make-$propagation "$bundle"
cat /proc/self/mountinfo >"$bundle/before"
"$@" >"$bundle/output" 2>&1 || echo "status $?" >>"$bundle/output"
cat /proc/self/mountinfo >"$bundle/after"
ls / >"$bundle/root"
"""


def in_namespace(runtime: Runtime, bundle: Bundle, propagation: str, *words: str) -> tuple[str, str, str]:
    """Mounts before and after a call of the runtime, and its output, with its status if that is not 0."""
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(bundle.path), propagation]
    runtime.created.append(bundle.id)
    subprocess.run([*command, *words], check=True, timeout=60)
    texts = [(bundle.path / name).read_text() for name in ("before", "after", "output")]
    return texts[0], texts[1], texts[2]


def call(runtime: Runtime, verb: str, bundle: Bundle, *extra: str) -> list[str]:
    return [*runtime.command, "--root", str(runtime.root), verb, "--bundle", str(bundle.path), *extra, bundle.id]


@pytest.mark.vm
@pytest.mark.parametrize("shared", ["shared", "private", "unbindable"])
@pytest.mark.parametrize("word", ["", "shared", "slave", "private", "rslave", "rshared"])
def test_a_root_on_a_shared_mount(runtime: Runtime, bundle: Bundle, shared: str, word: str) -> None:
    bundle.set("process.args", ["sh", "-c", "mount -t tmpfs t /tmp; cat /proc/self/mountinfo"])
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")
    bundle.add_mount("/mnt", "bind", str(bundle.path), "rbind")
    bundle.add_mount("/made/here", "tmpfs", "tmpfs")
    if word:
        bundle.set("linux.rootfsPropagation", word)
    before, after, output = in_namespace(runtime, bundle, shared, *call(runtime, "run", bundle))
    assert before == after
    assert "status" not in output or shared == "unbindable", output
    assert output.count(" /tmp ") == 1 or shared == "unbindable"


@pytest.mark.parametrize("failure", [{"process": {"cwd": "/bin/sh"}}, {"process": {"args": ["/nothing"]}}], ids=str)
def test_a_failure_leaves_no_mount(runtime: Runtime, bundle: Bundle, failure: dict[str, object]) -> None:
    bundle.update(failure)
    before, after, output = in_namespace(runtime, bundle, "shared", *call(runtime, "run", bundle))
    assert before == after
    assert "status 1" in output


@pytest.mark.parametrize("extra", [[], ["--no-pivot"]], ids=["pivot_root", "chroot"])
def test_the_host_s_root_stays_its_own(runtime: Runtime, bundle: Bundle, extra: list[str]) -> None:
    """Of a container that is to join the very namespace that the runtime is in."""
    bundle.add_namespace("mount", "/proc/self/ns/mnt").set("process.args", ["true"])
    before, after, output = in_namespace(runtime, bundle, "shared", *call(runtime, "run", bundle, *extra))
    assert before == after
    assert "own mount namespace" in output and "status 1" in output
    assert "rootfs" not in (bundle.path / "root").read_text()


def test_the_old_root_is_gone(runtime: Runtime, make_bundle: Bundles) -> None:
    """Unmounted, not merely hidden."""
    bundle = make_bundle("exec sleep 1000")
    runtime.boot(bundle)
    pid = runtime.pid(bundle)
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    assert points.count("/") == 1
    own = ("/proc", "/sys", "/dev")
    assert not [point for point in points if point != "/" and not point.startswith(own)]
