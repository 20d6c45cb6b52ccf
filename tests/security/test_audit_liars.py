"""Containers that lie to ``audit``: no verdict changes by it, nothing is executed or opened, and nothing hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.api import in_namespaces, open_namespace
from tests.support import namespaces, processes
from tests.support.audits import audit, call
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")

ADMIN = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_DAC_OVERRIDE"]
LIES = {
    "status": "grep -v Cap /proc/self/status > /fake; echo 'CapEff: 0' >> /fake; mount -o bind /fake /proc/1/status",
    "mountinfo": "echo > /fake; mount -o bind /fake /proc/1/mountinfo",
    "a tmpfs over /proc": "mount -t tmpfs none /proc; mkdir -p /proc/sys/kernel; echo lie > /proc/sys/kernel/hostname",
    "a tmpfs over /sys": "mount -t tmpfs none /sys",
}


def admin(bundle: Bundle) -> Bundle:
    """A container that may mount and change its root."""
    for kind in ("bounding", "effective", "permitted"):
        bundle.set(f"process.capabilities.{kind}", ADMIN)
    return bundle.set("process.capabilities.ambient", [])


@pytest.fixture
def lying(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> Callable[[str], Bundle]:
    """A function that runs a script in a container with capabilities, until it has told its lies."""

    def run(script: str) -> Bundle:
        bundle = admin(make_bundle(f"umask 022; {script}; touch /ready; exec sleep 1000"))
        runtime.run(bundle, "--detach")
        eventually((bundle.rootfs / "ready").exists, 20, "the script has run")
        return bundle

    return run


@pytest.mark.parametrize("name", LIES)
def test_lies_in_proc(runtime: Runtime, lying: Callable[[str], Bundle], name: str) -> None:
    """What the container mounts over its /proc is seen as mounts, and reaches no other verdict."""
    report = audit(runtime, lying(LIES[name]))
    kinds = ("mounts", "linux.maskedPaths", "linux.readonlyPaths")
    assert [each for each in report.bad() if not each.startswith(kinds)] == []
    assert all(each.endswith(": changed since") for each in report.bad())
    assert report.bad()
    assert report.verdict("hostname") == "enforced"
    assert report.verdict("process.capabilities.bounding") == "enforced"


def test_arguments(runtime: Runtime, bundle: Bundle) -> None:
    """The arguments are the process's own memory, and may be overwritten; the file that it executes may not."""
    bundle.set("process.args", ["/bin/sleep", "1000"])
    runtime.run(bundle, "--detach")
    pid = runtime.pid(bundle)
    eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sleep"), 20, "it is executed")
    begin = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[45])  # arg_start
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        memory.write(b"[kworker/")
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"[kworker/")
    report = audit(runtime, bundle)
    assert report.bad() == []
    assert report.verdict("process.args") == "enforced"
    assert "kworker" not in str(report.findings)


def test_chroot_hides_no_mount(runtime: Runtime, make_bundle: Callable[..., Bundle], busybox_rootfs: Path) -> None:
    """mountinfo of a process in a chroot shows what is below it; the audit looks at the namespace."""
    bundle = admin(make_bundle("mount -t tmpfs none /tmp; touch /ready; exec chroot /jail /bin/busybox sleep 1000"))
    (bundle.rootfs / "jail/bin").mkdir(parents=True)
    busybox = (bundle.rootfs / "bin/busybox").read_bytes()
    (bundle.rootfs / "jail/bin/busybox").write_bytes(busybox)
    (bundle.rootfs / "jail/bin/busybox").chmod(0o755)
    runtime.run(bundle, "--detach")
    pid = runtime.pid(bundle)
    eventually(lambda: os.readlink(f"/proc/{pid}/root") == "/jail", 20, "it is in its jail")
    report = audit(runtime, bundle)
    assert report.verdict("mounts", "nothing at /tmp") == "changed since"
    assert report.verdict("root.path", "init's root") == "changed since"
    assert report.verdict("linux.maskedPaths") == "enforced"


def test_a_link_where_a_mask_should_be(runtime: Runtime, bundle: Bundle) -> None:
    """Absolute links of the image are its own: they lead to nothing of the host's."""
    (bundle.rootfs / "secret").write_text("secret")
    (bundle.rootfs / "masked").symlink_to("/secret")
    bundle.set("linux.maskedPaths", ["/masked", "/dangling", "/deep/below"])
    (bundle.rootfs / "dangling").symlink_to("/etc/shadow-that-is-not-there")
    (bundle.rootfs / "deep").symlink_to("/../../../../../../etc")
    runtime.run(bundle, "--detach")
    report = audit(runtime, bundle)
    assert report.bad() == []
    # and one put there afterwards, instead of what was masked
    namespace = open_namespace("mount", runtime.pid(bundle))
    try:
        in_namespaces({"mount": namespace}, lambda: namespaces.unmount("/secret"))
    finally:
        os.close(namespace)
    (bundle.rootfs / "secret").unlink()
    (bundle.rootfs / "secret").symlink_to("/dev/null")
    assert audit(runtime, bundle).of("linux.maskedPaths", "/masked")["kernel"] == "the null device"
    (bundle.rootfs / "secret").unlink()
    (bundle.rootfs / "secret").symlink_to("/etc/hostname")
    (bundle.rootfs / "etc/hostname").write_text("visible")
    assert audit(runtime, bundle).verdict("linux.maskedPaths", "/masked") == "drifted"


def test_fifo_is_not_opened(runtime: Runtime, bundle: Bundle) -> None:
    """A FIFO without a writer, where a device should be: it is looked at, and not waited for."""
    runtime.run(bundle, "--detach")
    pid = runtime.pid(bundle)
    os.unlink(f"/proc/{pid}/root/dev/full")
    os.mkfifo(f"/proc/{pid}/root/dev/full")
    assert audit(runtime, bundle).of("default devices", "/dev/full")["kernel"].startswith("p ")


@needs("fuse")
def test_fuse_that_does_not_answer(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    """A file system over a masked directory, and over one in which devices are, whose server is silent."""
    bundle = admin(make_bundle())
    bundle.set("linux.maskedPaths", ["/proc/acpi", "/sys/firmware"])
    runtime.run(bundle, "--detach")
    pid = runtime.pid(bundle)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    namespace = open_namespace("mount", pid)

    def mount_silent() -> None:
        for place in ("/sys/firmware", "/sys/fs"):
            data = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
            namespaces.mount("silent", place, "fuse", 0, data)

    try:
        in_namespaces({"mount": namespace}, mount_silent)
        report = audit(runtime, bundle)
        assert report.verdict("linux.maskedPaths", "/sys/firmware") == "changed since"
        assert report.verdict("linux.maskedPaths", "/proc/acpi") == "enforced"
        assert report.verdict("hostname") == "enforced"
        assert [each for each in report.bad() if not each.startswith(("mounts", "linux.maskedPaths"))] == []
    finally:
        os.close(namespace)
        os.close(fuse)  # which ends every request


def test_killed_while_it_is_looked_at(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    """An answer, or that it has stopped; never the data of another process."""
    for wait in (0.0, 0.01, 0.02, 0.05):
        bundle = make_bundle()
        runtime.run(bundle, "--detach")
        pid = runtime.pid(bundle)
        child = os.fork()
        if child == 0:
            time.sleep(wait)
            os.kill(pid, 9)
            os._exit(0)
        result = call(runtime.root, bundle.id)
        processes.wait(child)
        assert result.returncode in (0, 2), result.stdout
        assert "internal error" not in result.stderr
