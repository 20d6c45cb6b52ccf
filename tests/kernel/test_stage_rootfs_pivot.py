"""Leaving the host's root: what is reachable afterwards, and what the host sees of it (nothing)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.scratch_root import Inside, mountinfo, mounts_inside, run_inside

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
WAYS = pytest.mark.parametrize("no_pivot", [False, True], ids=["pivot_root", "no pivot"])
PROPAGATION = ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]


@pytest.fixture
def usual(bundle: Bundle) -> Bundle:
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


def host_mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def look_around(inside: Inside) -> Any:
    return {
        "up": os.path.exists("/../../../../../work") or os.path.exists("/gosudacon-outside"),
        "root": sorted(os.listdir("/")),
        "dotdot": sorted(os.listdir("/..")),
        "cwd": os.getcwd(),
        "mounts": inside.mountinfo(),
    }


@pytest.mark.vm
@BOTH
@WAYS
def test_only_the_container_is_left(usual: Bundle, kernel: tuple[int, int] | None, no_pivot: bool) -> None:
    before = host_mounts()
    found = run_inside(usual, look_around, kernel=kernel, options={"no_pivot": no_pivot})
    assert not found["up"] and found["cwd"] == "/"
    assert found["root"] == found["dotdot"] == sorted(os.listdir(usual.rootfs))
    points = [each.point for each in mountinfo(found["mounts"])]
    expected = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]
    assert [point for point in points if point in expected] == expected
    if not no_pivot:
        assert points == expected
    assert host_mounts() == before


@BOTH
@WAYS
@pytest.mark.parametrize("word", PROPAGATION)
def test_root_on_a_shared_mount(usual: Bundle, kernel: tuple[int, int] | None, no_pivot: bool, word: str) -> None:
    """All mounts of the tests are shared; here the root filesystem is one itself."""
    if word:
        usual.set("linux.rootfsPropagation", word)
    if no_pivot and "private" in word:
        with pytest.raises(Error, match="not safe without pivot_root"):
            run_inside(usual, options={"no_pivot": True}, kernel=kernel)
        return
    rootfs = str(usual.rootfs)
    namespaces.mount(rootfs, rootfs, "none", 0x1000)
    namespaces.mount("none", rootfs, "none", 1 << 20)
    try:
        before = host_mounts()
        found = run_inside(usual, kernel=kernel, options={"no_pivot": no_pivot})
        assert host_mounts() == before
    finally:
        namespaces.unmount(rootfs)
    root = mountinfo(found)[0] if not no_pivot else [each for each in mountinfo(found) if each.point == "/"][-1]
    kind = {"shared": "shared", "rshared": "shared", "unbindable": "unbindable", "runbindable": "unbindable"}
    assert root.propagation.partition(":")[0] == kind.get(word, "")  # cut off from the host unless it is to be shared
    below = next(each for each in mountinfo(found) if each.point == "/dev")
    assert below.propagation.partition(":")[0] == {"rshared": "shared", "runbindable": "unbindable"}.get(word, "")


@WAYS
def test_later_mounts_of_the_host(usual: Bundle, no_pivot: bool) -> None:
    """rslave is the default: a volume mounted on the host below a bound directory shows up."""
    path = usual.path / "volumes"
    (path / "new").mkdir(parents=True)
    for destination, word in (("/mnt/in", ()), ("/mnt/closed", ("rprivate",))):
        usual.add_mount(destination, "bind", str(path), "rbind", *word)
    reader, writer = os.pipe()
    ready, go = os.pipe()

    def look(inside: Inside) -> Any:
        os.write(writer, b"x")
        os.read(ready, 1)
        return inside.mountinfo()

    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        namespaces.mount("late", str(path / "new"), "tmpfs")
        os.write(go, b"x")
        os._exit(0)
    try:
        found = run_inside(usual, look, options={"no_pivot": no_pivot})
        os.waitpid(pid, 0)
    finally:
        for fd in (reader, writer, ready, go):
            os.close(fd)
        namespaces.unmount(str(path / "new"))
    late = {each.point for each in mountinfo(found) if each.source == "late"}
    assert "/mnt/in/new" in late and "/mnt/closed/new" not in late


def test_without_pivot_the_hosts_proc_and_sys_are_gone(usual: Bundle) -> None:
    """A user namespace inside may not mount a proc of its own by grace of the host's."""
    usual.set("linux.maskedPaths", ["/proc/keys", "/sys/firmware"])

    def look(inside: Inside) -> Any:
        from gosudacon.linux import mount, namespace

        text = inside.mountinfo()
        namespace.unshare(namespace.CLONE_NEWUSER | namespace.CLONE_NEWNS)
        try:
            mount.mount("proc", "/mnt", "proc", 0)
        except OSError as error:
            return text, error.errno
        return text, 0

    text, number = run_inside(usual, look, options={"no_pivot": True})
    full = [each for each in mountinfo(text) if each.fstype in ("proc", "sysfs") and each.root == "/"]
    assert sorted(each.point for each in full) == ["/proc", "/sys"]
    assert number == 1


@WAYS
def test_in_a_user_namespace(usual: Bundle, no_pivot: bool) -> None:
    usual.map_users()
    found = run_inside(usual, look_around, options={"no_pivot": no_pivot})
    assert not found["up"] and found["root"] == found["dotdot"]


@pytest.mark.parametrize("name", ["", "proc", "sys", "dev", "tmp"])
def test_mount_points_left_in_the_root_are_like_runcs(usual: Bundle, name: str) -> None:
    """Empty directories where the image had none; nothing else."""
    if name:
        (usual.rootfs / name).rmdir()
    before = {str(each.relative_to(usual.rootfs)) for each in usual.rootfs.rglob("*")}
    mounts_inside(usual)
    after = {str(each.relative_to(usual.rootfs)) for each in usual.rootfs.rglob("*")}
    assert after - before == ({name} if name in ("proc", "sys", "dev") else set())
    assert before <= after


def test_mounts_in_the_root_filesystem(usual: Bundle) -> None:
    """The root filesystem may have mounts of its own."""
    namespaces.mount("sub", str(usual.rootfs / "mnt"), "tmpfs", 0, "size=4k")
    try:
        found = mounts_inside(usual)
    finally:
        namespaces.unmount(str(usual.rootfs / "mnt"))
    assert found["/mnt"].source == "sub"


def test_without_a_mount_namespace(usual: Bundle) -> None:
    """Without a mount namespace there is only chroot."""
    usual.drop_namespace("mount")
    usual.config["mounts"] = []
    before = host_mounts()

    def look(inside: Inside) -> Any:
        return sorted(os.listdir("/")), os.stat("/dev/null").st_rdev, os.getcwd()

    names, null, cwd = run_inside(usual, look)
    assert names == sorted(os.listdir(usual.rootfs))
    assert (null, cwd) == (os.makedev(1, 3), "/")
    assert host_mounts() == before


# The working directory and the standard streams.


@pytest.mark.parametrize("cwd", ["/made/new/one", "/root", "/usr/bin/..", "/link/below", "/missing/../x"])
def test_the_working_directory_is_made(usual: Bundle, cwd: str) -> None:
    (usual.rootfs / "link").symlink_to("/var/else")
    usual.set("process.cwd", cwd)
    mode = run_inside(usual, lambda _: os.stat(cwd).st_mode)
    assert stat.S_ISDIR(mode) and (cwd == "/root" or stat.S_IMODE(mode) == 0o755)


@pytest.mark.parametrize("cwd", ["/etc/passwd", "/etc/passwd/x", "/proc/self/fd/3"])
def test_a_working_directory_that_cannot_be(usual: Bundle, cwd: str) -> None:
    usual.set("process.cwd", cwd)
    with pytest.raises(Error) as caught:
        run_inside(usual)
    assert (caught.value.where, caught.value.stage) == ("process.cwd", "pivot-root")


def streams(_inside: Inside) -> Any:
    return [[os.fstat(fd).st_dev == os.stat("/dev").st_dev, os.fstat(fd).st_rdev] for fd in (0, 1, 2)]


def with_null(*fds: int) -> Any:
    def before() -> None:
        null = os.open("/dev/null", os.O_RDWR)
        other = os.open("/dev/zero", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null if fd in fds else other, fd)

    return before


def test_null_streams(usual: Bundle) -> None:
    """Streams that are null become the container's null."""
    null, zero = os.makedev(1, 3), os.makedev(1, 5)
    assert run_inside(usual, streams, before=with_null(0, 2)) == [[True, null], [False, zero], [True, null]]


@pytest.mark.parametrize("kind", ["none", "file", "zero", "link"])
def test_a_null_that_is_none_is_not_taken(usual: Bundle, kind: str) -> None:
    usual.config["mounts"] = [each for each in usual.config["mounts"] if each["destination"] == "/proc"]
    source = usual.path / "dev"
    source.mkdir()
    if kind == "file":
        (source / "null").write_text("secret")
    elif kind == "zero":
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "link":
        (source / "null").symlink_to("/proc/sys/kernel/hostname")
    usual.add_mount("/dev", "bind", str(source), "bind")
    found = run_inside(usual, streams, before=with_null(0, 1, 2))
    assert found == [[False, os.makedev(1, 3)]] * 3
