"""New filesystems and bind mounts of every kind, made in a scratch process, by descriptor and with mount(2)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.scratch_root import Inside, Mounted, mounts_inside, run_inside

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
SHARED, PRIVATE, REC = 1 << 20, 1 << 18, 0x4000


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    """A bundle that mounts nothing and hides nothing."""
    bundle.config["mounts"] = []
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


@pytest.fixture
def mapped(bare: Bundle) -> Bundle:
    """A bundle in a user namespace, whose root may not write into the root filesystem: it gets its own /dev."""
    bare.add_mount("/dev", "tmpfs", "tmpfs", "mode=755")
    return bare.map_users()


def at(bundle: Bundle, point: str, **more: Any) -> Mounted:
    return mounts_inside(bundle, **more)[point]


def failing(bundle: Bundle, **more: Any) -> Error:
    with pytest.raises(Error) as caught:
        run_inside(bundle, **more)
    return caught.value


def first_line(name: str) -> Any:
    return lambda _inside: Path(name).read_text().splitlines()[0]


# The usual set.


@pytest.mark.vm
@BOTH
def test_the_default_bundle(bundle: Bundle, kernel: tuple[int, int] | None) -> None:
    found = mounts_inside(bundle, kernel=kernel)
    assert list(found)[:7] == ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]
    assert found["/dev"].has("nosuid") and not found["/dev"].has("relatime")
    assert "size=65536k" in found["/dev"].superblock and "mode=755" in found["/dev"].superblock
    assert "gid=5,mode=620,ptmxmode=666" in found["/dev/pts"].superblock
    assert found["/dev/shm"].source == "shm" and found["/dev/shm"].has("nosuid", "noexec", "nodev")
    assert found["/sys"].has("ro", "nosuid", "noexec", "nodev") and found["/sys"].superblock.startswith("ro")
    for path in ("/proc/bus", "/proc/fs", "/proc/sys"):
        assert found[path].has("ro") and found[path].fstype == "proc"
    assert found["/proc/timer_list"].root == "/null"
    assert found["/sys/firmware"].fstype == "tmpfs" and found["/sys/firmware"].has("ro")
    assert all(each.propagation == "" or each.point == "/" for each in found.values())


def test_masked_directories_share_one_empty_filesystem(bundle: Bundle) -> None:
    bundle.config["linux"]["maskedPaths"] += ["/etc", "/usr"]

    def look(_inside: Inside) -> Any:
        return [os.stat(path).st_dev for path in ("/sys/firmware", "/etc", "/usr")], os.listdir("/etc")

    devices, names = run_inside(bundle, look)
    assert len(set(devices)) == 1 and names == []


@BOTH
@pytest.mark.parametrize(
    ("fstype", "options", "words", "superblock"),
    [
        ("tmpfs", ["size=4k", "mode=700", "ro", "noexec"], ("ro", "noexec"), "mode=700"),
        ("tmpfs", ["noatime", "nodiratime"], ("noatime", "nodiratime"), "rw"),
        ("tmpfs", ["nosymfollow"], ("nosymfollow",), "rw"),
        ("tmpfs", ["sync", "lazytime"], ("rw",), "sync"),
        ("ramfs", ["nodev"], ("nodev",), "rw"),
        ("devpts", ["newinstance", "mode=620"], ("rw",), "mode=620"),
        ("mqueue", ["noexec"], ("noexec",), "rw"),
        ("sysfs", ["ro"], ("ro",), "ro"),
        ("proc", ["hidepid=2"], ("rw",), "hidepid=invisible"),
        ("cgroup2", ["ro"], ("ro",), "rw"),
    ],
)
def test_filesystems(
    bare: Bundle,
    kernel: tuple[int, int] | None,
    fstype: str,
    options: list[str],
    words: tuple[str, ...],
    superblock: str,
) -> None:
    if fstype == "cgroup2" and kernel:
        superblock = "r"  # mount(2) knows no flags of the mount alone
    bare.add_mount("/mnt/x", fstype, fstype, *options)
    found = at(bare, "/mnt/x", kernel=kernel)
    assert found.fstype == fstype and found.has(*words) and superblock in found.superblock


@BOTH
def test_overlay_with_long_options(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    lower = [bare.path / f"lower{n}{'x' * 60}" for n in range(6)]
    for number, path in enumerate(lower):
        path.mkdir()
        (path / f"f{number}").touch()
    (bare.path / "upper").mkdir()
    (bare.path / "work").mkdir()
    layers = ":".join(map(str, lower))
    options = [f"lowerdir={layers}", f"upperdir={bare.path}/upper", f"workdir={bare.path}/work"]
    bare.add_mount("/mnt/o", "overlay", "overlay", *options)

    def look(_inside: Inside) -> Any:
        Path("/mnt/o/new").touch()
        return sorted(os.listdir("/mnt/o"))

    assert run_inside(bare, look, kernel=kernel) == ["f0", "f1", "f2", "f3", "f4", "f5", "new"]
    assert (bare.path / "upper/new").exists()


@BOTH
def test_remount_changes_what_is_there(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt/t", "tmpfs", "t", "size=8k")
    bare.add_mount("/mnt/t", "tmpfs", "t", "remount", "size=16k", "noexec")
    bare.add_mount("/mnt/b", "bind", str(bare.path), "bind")
    bare.add_mount("/mnt/b", "bind", "", "bind", "remount", "ro", "nosuid")
    found = mounts_inside(bare, kernel=kernel)
    assert found["/mnt/t"].has("noexec") and "size=16k" in found["/mnt/t"].superblock
    assert found["/mnt/b"].has("ro", "nosuid")


# What mounts go on.


@BOTH
def test_destinations_are_made(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    (bare.path / "file").write_text("text\n")
    bare.add_mount("/new/deep/dir", "tmpfs", "t")
    bare.add_mount("relative/dir", "tmpfs", "t")
    bare.add_mount("/new/deep/file", "bind", str(bare.path / "file"), "bind")
    bare.add_mount("/mnt/.././mnt//there", "tmpfs", "t")
    os.umask(0o077)
    try:
        found = mounts_inside(bare, kernel=kernel)
    finally:
        os.umask(0o022)
    assert {"/new/deep/dir", "/relative/dir", "/new/deep/file", "/mnt/there"} <= set(found)
    for name, mode in (("new", 0o755), ("new/deep/dir", 0o755), ("relative/dir", 0o755), ("new/deep/file", 0o644)):
        status = (bare.rootfs / name).stat()
        assert stat.S_IMODE(status.st_mode) == mode and status.st_uid == 0, name
    assert (bare.rootfs / "new/deep/file").stat().st_size == 0


@BOTH
def test_symlinks_of_the_image_lead_inside_the_root(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    for name, target in (
        ("abs", "/usr/local"),
        ("rel", "../../../usr"),
        ("etc/resolv.conf", "../run/systemd/stub-resolv.conf"),  # dangling, as in many images
        ("dangling", "/made/by/runtime"),
    ):
        (bare.rootfs / name).symlink_to(target)
    (bare.path / "file").write_text("nameserver\n")
    bare.add_mount("/abs", "tmpfs", "a")
    bare.add_mount("/rel/share", "tmpfs", "b")
    bare.add_mount("/etc/resolv.conf", "bind", str(bare.path / "file"), "bind")
    bare.add_mount("/dangling/x", "tmpfs", "c")
    found = mounts_inside(bare, kernel=kernel)
    expected = {"/usr/local", "/usr/share", "/run/systemd/stub-resolv.conf", "/made/by/runtime/x"}
    assert expected <= set(found)
    assert run_inside(bare, first_line("/etc/resolv.conf"), kernel=kernel) == "nameserver"


@BOTH
@pytest.mark.parametrize(
    ("options", "made", "mode"),
    [([], 0o2711, 0o2711), (["mode=0700"], 0o2711, 0o700), ([], None, 0o1777), (["size=4k,mode=1770"], 0o755, 0o1770)],
)
def test_a_tmpfs_has_the_mode_of_what_it_covers(
    bare: Bundle, kernel: tuple[int, int] | None, options: list[str], made: int | None, mode: int
) -> None:
    if made is not None:
        (bare.rootfs / "mnt/t").mkdir()
        (bare.rootfs / "mnt/t").chmod(made)
    bare.add_mount("/mnt/t", "tmpfs", "t", *options)
    assert run_inside(bare, lambda _: os.stat("/mnt/t").st_mode & 0o7777, kernel=kernel) == mode


@BOTH
def test_a_read_only_tmpfs_takes_mount_points_first(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt/t", "tmpfs", "t", "ro", "nosuid")
    bare.add_mount("/mnt/t/sub", "tmpfs", "t")
    found = mounts_inside(bare, kernel=kernel)
    assert found["/mnt/t"].has("ro", "nosuid") and found["/mnt/t/sub"].has("rw")


@BOTH
def test_copying_up(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    top = bare.rootfs / "data"
    (top / "sub").mkdir(parents=True)
    (top / "sub/file").write_text("x" * 3_000_000)
    (top / "sub/file").chmod(0o4751)
    os.chown(top / "sub/file", 1, 2)
    (top / "sub/file").chmod(0o4751)
    os.utime(top / "sub/file", (5, 6))
    os.setxattr(top / "sub/file", "trusted.x", b"y")
    (top / "sub").chmod(0o1700)
    os.chown(top / "sub", 3, 4)
    (top / "out").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    top.chmod(0o711)
    bare.add_mount("/data", "tmpfs", "t", "tmpcopyup", "ro")
    bare.add_mount("/missing", "tmpfs", "t", "tmpcopyup")

    def look(_inside: Inside) -> Any:
        result = {}
        for name in (".", "sub", "sub/file", "out", "fifo", "null"):
            status = os.lstat(f"/data/{name}")
            result[name] = [status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_size]
        times = os.stat("/data/sub/file")
        xattr = os.getxattr("/data/sub/file", "trusted.x").decode()
        return result, os.readlink("/data/out"), times.st_mtime, xattr, os.statvfs("/data").f_flag & 1

    result, link, mtime, xattr, readonly = run_inside(bare, look, kernel=kernel)
    assert result["."][0] == stat.S_IFDIR | 0o711
    assert result["sub"][:3] == [stat.S_IFDIR | 0o1700, 3, 4]
    assert result["sub/file"] == [stat.S_IFREG | 0o4751, 1, 2, 0, 3_000_000]
    assert (link, mtime, xattr, readonly) == ("/etc/passwd", 6, "y", 1)
    assert result["fifo"][0] == stat.S_IFIFO | 0o640
    assert result["null"][:4] == [stat.S_IFCHR | 0o600, 0, 0, os.makedev(1, 3)]


# Bind mounts.


@pytest.fixture
def source(bare: Bundle) -> Iterator[Path]:
    """A directory with a file, and below ``sub`` a tmpfs mount with a file."""
    path = bare.path / "source"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("top\n")
    namespaces.mount("sub", str(path / "sub"), "tmpfs")
    (path / "sub/below").write_text("below\n")
    yield path
    namespaces.unmount(str(path / "sub"))


@BOTH
def test_bind_and_rbind(bare: Bundle, source: Path, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt/one", "none", str(source), "bind")
    bare.add_mount("/mnt/tree", "none", "source", "rbind")
    bare.add_mount("/mnt/file", "bind", str(source / "file"), "bind", "ro")
    found = mounts_inside(bare, kernel=kernel)
    assert {"/mnt/one", "/mnt/tree", "/mnt/tree/sub", "/mnt/file"} <= set(found)
    assert "/mnt/one/sub" not in found
    assert found["/mnt/file"].has("ro") and found["/mnt/one"].has("rw")
    assert run_inside(bare, first_line("/mnt/file"), kernel=kernel) == "top"
    assert run_inside(bare, lambda _: os.listdir("/mnt/one/sub"), kernel=kernel) == []


@BOTH
def test_flags_of_the_top_and_of_the_tree(bare: Bundle, source: Path, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt/a", "bind", str(source), "rbind", "ro", "nosuid", "noexec", "nodev", "noatime")
    if kernel is None:
        bare.add_mount("/mnt/b", "bind", str(source), "rbind", "rro", "rnosuid", "rnoatime", "rnosymfollow")
        bare.add_mount("/mnt/c", "bind", str(source), "rbind", "rro", "rw")
    found = mounts_inside(bare, kernel=kernel)
    assert found["/mnt/a"].has("ro", "nosuid", "noexec", "nodev", "noatime")
    assert found["/mnt/a/sub"].has("rw", "relatime") and not found["/mnt/a/sub"].has("nosuid")
    if kernel is None:
        for point in ("/mnt/b", "/mnt/b/sub"):
            assert found[point].has("ro", "nosuid", "noatime", "nosymfollow")
        assert found["/mnt/c/sub"].has("ro")


@BOTH
def test_flags_of_the_source(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    """Kept until a word names any flag, as with runc; then only what is named, except the kind of atime."""
    path = bare.path / "strict"
    path.mkdir()
    namespaces.mount("strict", str(path), "tmpfs", 1 | 2 | 8 | 0x400)  # ro nosuid noexec noatime
    try:
        for name, words in (
            ("keep", ["rprivate"]),
            ("nodev", ["nodev"]),
            ("suid", ["suid"]),
            ("atime", ["ro", "relatime"]),
        ):
            bare.add_mount(f"/mnt/{name}", "bind", str(path), "bind", *words)
        found = mounts_inside(bare, kernel=kernel)
    finally:
        namespaces.unmount(str(path))
    assert found["/mnt/keep"].options == "ro,nosuid,noexec,noatime"
    assert found["/mnt/nodev"].options == "rw,nodev,noatime"
    assert found["/mnt/suid"].options == "rw,noatime"
    assert found["/mnt/atime"].options == "ro,relatime"


@BOTH
@pytest.mark.parametrize("kind", ["missing", "socket", "device", "fifo", "dangling"])
def test_sources_of_all_kinds(bare: Bundle, kernel: tuple[int, int] | None, kind: str) -> None:
    import socket

    path = bare.path / "thing"
    server = socket.socket(socket.AF_UNIX)
    if kind == "socket":
        server.bind(str(path))
    elif kind == "device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    bare.add_mount("/mnt/x", "bind", str(path), "bind")
    if kind in ("missing", "dangling"):
        error = failing(bare, kernel=kernel)
        assert error.message.startswith(f'error mounting "{path}" to rootfs at "/mnt/x": ')
        assert error.message.endswith("no such file or directory")
        assert (error.where, error.errno, error.stage) == ("mounts[0]", 2, "rootfs-mount")
    else:
        mode = run_inside(bare, lambda _: os.lstat("/mnt/x").st_mode, kernel=kernel)
        assert mode == path.lstat().st_mode
    server.close()


@BOTH
def test_links_are_copied(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    """copy-symlink: the link is made, whatever it leads to; what is not a link is mounted."""
    (bare.path / "file").write_text("mounted\n")
    for name, text in (("hanging", "/no/where"), ("out", "../../../../../etc/shadow"), ("same", "target")):
        (bare.path / name).symlink_to(text)
        bare.add_mount(f"/new/{name}", "bind", str(bare.path / name), "bind", "copy-symlink")
    bare.add_mount("/mnt/file", "bind", str(bare.path / "file"), "rbind", "ro", "copy-symlink")
    # A link that leads into the image, one out of it, and one that is there already.
    (bare.rootfs / "real").mkdir()
    (bare.rootfs / "new").symlink_to("../../real")
    (bare.rootfs / "real/same").symlink_to("target")

    def look(_inside: Inside) -> list[str]:
        links = [os.readlink(f"/real/{name}") for name in ("hanging", "out", "same")]
        return [*links, Path("/mnt/file").read_text()]

    assert run_inside(bare, look, kernel=kernel) == ["/no/where", "../../../../../etc/shadow", "target", "mounted\n"]
    assert sorted(path.name for path in (bare.rootfs / "real").iterdir()) == ["hanging", "out", "same"]


@BOTH
@pytest.mark.parametrize("there", ["file", "directory", "other link"])
def test_a_copied_link_replaces_nothing(there: str, bare: Bundle, kernel: tuple[int, int] | None) -> None:
    place = bare.rootfs / "place"
    if there == "file":
        place.touch()
    elif there == "directory":
        place.mkdir()
    else:
        place.symlink_to("other")
    (bare.path / "link").symlink_to("text")
    bare.add_mount("/place", "bind", str(bare.path / "link"), "bind", "copy-symlink")
    error = failing(bare, kernel=kernel)
    assert error.message.endswith("/place exists, and is not a symbolic link to text")
    assert error.where == "mounts[0]"


@BOTH
@pytest.mark.parametrize("destination", ["/proc/kcore2", "/away/kcore2", "/x/..", "/proc/self/x"])
def test_no_link_is_copied_into_proc(destination: str, bare: Bundle, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/proc", "proc", "proc")
    (bare.rootfs / "away").symlink_to("proc")
    (bare.rootfs / "x").mkdir()
    (bare.path / "link").symlink_to("text")
    bare.add_mount(destination, "bind", str(bare.path / "link"), "bind", "copy-symlink")
    assert re.search("inside /proc|cannot make a symbolic link at", failing(bare, kernel=kernel).message)


@BOTH
def test_a_file_on_a_directory_and_the_reverse(bare: Bundle, source: Path, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt", "bind", str(source / "file"), "bind")
    assert failing(bare, kernel=kernel).errno == 20
    bare.config["mounts"] = []
    bare.add_mount("/etc/passwd", "bind", str(source), "bind")
    assert failing(bare, kernel=kernel).errno == 20


@BOTH
@pytest.mark.parametrize(
    ("words", "propagation", "below"),
    [
        (["rbind"], "slave", "slave"),
        (["rbind", "rprivate"], "", ""),
        (["rbind", "private"], "", "slave"),
        (["rbind", "rslave"], "slave", "slave"),
        (["rbind", "rshared"], "shared slave", "shared slave"),
        (["rbind", "shared"], "shared slave", "slave"),
        (["rbind", "runbindable"], "unbindable", "unbindable"),
    ],
)
def test_propagation_of_bind_mounts(
    bare: Bundle,
    source: Path,
    kernel: tuple[int, int] | None,
    words: list[str],
    propagation: str,
    below: str,
) -> None:
    bare.add_mount("/mnt/x", "bind", str(source), *words)
    found = mounts_inside(bare, kernel=kernel)
    assert kinds(found["/mnt/x"]) == propagation
    assert kinds(found["/mnt/x/sub"]) == below


def kinds(mounted: Mounted) -> str:
    """``shared slave`` for ``shared:3 master:1``."""
    words = [word.partition(":")[0] for word in mounted.propagation.split() if not word.startswith("propagate")]
    return " ".join("slave" if word == "master" else word for word in words)


@BOTH
def test_bidirectional_propagation(bare: Bundle, source: Path, kernel: tuple[int, int] | None) -> None:
    """What Kubernetes calls bidirectional; and mounts in the container come out on the host."""
    bare.config["linux"]["rootfsPropagation"] = "rshared"
    bare.add_mount("/mnt/x", "bind", str(source), "rbind", "rshared")
    bare.add_mount("/mnt/p", "bind", str(source), "rbind", "rprivate")

    def look(inside: Inside) -> str:
        from gosudacon.linux import mount

        mount.mount("inner", "/mnt/x/sub", "tmpfs", 0)
        return inside.mountinfo()

    def at_source() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if " - tmpfs inner" in line]

    try:
        text = run_inside(bare, look, kernel=kernel)
        assert len(at_source()) == 1
    finally:
        for _ in at_source():
            namespaces.unmount(str(source / "sub"))
    assert sum(" - tmpfs inner" in line for line in text.splitlines()) == 1


@BOTH
def test_a_private_mount_below_a_shared_one(bare: Bundle, source: Path, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt/x", "bind", str(source), "rbind", "shared")
    bare.add_mount("/mnt/x/sub", "tmpfs", "inner", "private")
    bare.add_mount("/mnt/x/sub/b", "bind", str(bare.path), "bind", "private")
    found = mounts_inside(bare, kernel=kernel)
    assert kinds(found["/mnt/x/sub"]) == ""
    assert kinds(found["/mnt/x/sub/b"]) == ""


def test_unreachable_source(mapped: Bundle) -> None:
    """A source that the container's root cannot reach."""
    (mapped.path / "closed/inner").mkdir(parents=True)
    (mapped.path / "closed/inner/x").write_text("reached\n")
    (mapped.path / "closed").chmod(0o700)
    mapped.add_mount("/mnt", "bind", str(mapped.path / "closed/inner"), "bind", "ro")
    assert run_inside(mapped, first_line("/mnt/x")) == "reached"


def test_locked_mounts(mapped: Bundle, source: Path) -> None:
    """Locked mounts come along with a user namespace."""
    mapped.add_mount("/mnt", "bind", str(source), "bind")  # without sub, which covers something
    mapped.add_mount("/home", "bind", str(source), "rbind", "nosuid")
    found = mounts_inside(mapped)
    assert {"/mnt", "/home", "/home/sub"} <= set(found) and "/mnt/sub" not in found


# Bind mounts for callers without privilege: made in the container.


def test_bind_in_the_container(bare: Bundle, source: Path) -> None:
    bare.add_mount("/mnt/a", "bind", str(source), "rbind", "ro", "nosuid")
    bare.add_mount("/mnt/b", "bind", str(source), "rbind", "rprivate", "rro")
    bare.add_mount("/mnt/f", "bind", str(source / "file"), "bind")
    found = mounts_inside(bare, euid=1000)
    assert found["/mnt/a"].has("ro", "nosuid") and found["/mnt/a/sub"].has("rw")
    assert found["/mnt/b/sub"].has("ro") and kinds(found["/mnt/b"]) == "" and kinds(found["/mnt/a"]) == "slave"
    assert run_inside(bare, first_line("/mnt/f"), euid=1000) == "top"


@pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["bind", "ro"], "ro,nosuid,noexec,noatime"),
        (["bind", "nodev", "noatime"], "rw,nosuid,nodev,noexec,noatime"),
        (["bind", "suid"], "error"),
        (["bind", "ro", "relatime"], "error"),
        (["bind", "exec", "ro"], "error"),
    ],
)
def test_flags_that_the_host_has_locked(
    mapped: Bundle, kernel: tuple[int, int] | None, words: list[str], result: str
) -> None:
    """A user namespace's mounts cannot lose nosuid and the like; asked to, they do not go without."""
    path = mapped.path / "strict"
    path.mkdir()
    namespaces.mount("strict", str(path), "tmpfs", 2 | 8 | 0x400)  # nosuid noexec noatime
    mapped.add_mount("/mnt", "bind", str(path), *words)
    try:
        if result == "error":
            assert "locked" in failing(mapped, kernel=kernel, euid=1000).message
        else:
            assert at(mapped, "/mnt", kernel=kernel, euid=1000).options == result
    finally:
        namespaces.unmount(str(path))


# Other ids.


@needs("idmapped-mounts")
@pytest.mark.parametrize("how", ["maps", "words", "container", "recursive"])
def test_id_mapped_mounts(bare: Bundle, how: str) -> None:
    path = bare.path / "data"
    (path / "sub").mkdir(parents=True)
    (path / "file").touch()
    os.chown(path / "file", 1000, 2000)
    namespaces.mount(str(bare.path), str(path / "sub"), "none", 0x1000)
    (bare.path / "other").touch()
    os.chown(bare.path / "other", 1000, 2000)
    maps = {
        "uidMappings": [{"containerID": 1000, "hostID": 5000, "size": 1}],
        "gidMappings": [{"containerID": 2000, "hostID": 6000, "size": 1}],
    }
    wanted = (5000, 6000)
    words = ["rbind"]
    if how == "words":
        words.append("idmap=uids=1000-5000-1;gids=2000-6000-1")
    elif how == "container":
        bare.map_users()
        bare.add_mount("/dev", "tmpfs", "tmpfs", "mode=755")
        words.append("idmap")
        wanted = (1000, 2000)
    elif how == "recursive":
        words.append("ridmap")
    bare.add_mount("/mnt", "bind", str(path), *words)
    if how in ("maps", "recursive"):
        bare.config["mounts"][-1].update(maps)

    def look(_inside: Inside) -> Any:
        one, two = os.stat("/mnt/file"), os.stat("/mnt/sub/other")
        return [one.st_uid, one.st_gid], two.st_uid

    try:
        owner, below = run_inside(bare, look)
    finally:
        namespaces.unmount(str(path / "sub"))
    assert tuple(owner) == wanted
    assert below == {"recursive": 5000, "container": 65534}.get(how, 1000)


def test_an_id_mapping_that_the_filesystem_cannot_have(bare: Bundle) -> None:
    maps = [{"containerID": 0, "hostID": 1, "size": 1}]
    bare.add_mount("/mnt", "bind", "/sys", "bind")
    bare.config["mounts"][-1].update(uidMappings=maps, gidMappings=maps)
    error = failing(bare)
    assert (error.call, error.errno) == ("mount_setattr", 22)
    assert error.message.startswith('error mounting "/sys" to rootfs at "/mnt": mount_setattr')


# Errors.


@BOTH
@pytest.mark.parametrize(
    ("fstype", "options", "text"),
    [
        ("tmpfs", ["nonsense=1"], "nonsense"),
        ("nosuchfs", [], "no such device"),
        ("tmpfs", ["size=x"], "size"),
    ],
)
def test_errors_name_the_mount(
    bare: Bundle, kernel: tuple[int, int] | None, fstype: str, options: list[str], text: str
) -> None:
    bare.add_mount("/mnt/y", "tmpfs", "t")
    bare.add_mount("/mnt/x", fstype, "src", *options)
    error = failing(bare, kernel=kernel)
    assert error.message.startswith('error mounting "src" to rootfs at "/mnt/x": ')
    assert (error.where, error.stage) == ("mounts[1]", "rootfs-mount")
    assert kernel or text in error.message
    assert error.step.startswith(f"mount {fstype} src on /mnt/x")


def test_errors_of_a_user_namespace_have_a_hint(mapped: Bundle) -> None:
    mapped.drop_namespace("network")
    mapped.add_mount("/sys", "sysfs", "sysfs")
    error = failing(mapped, kernel=OLD)
    assert error.errno == 1 and "network namespace" in error.hint
    del mapped.config["mounts"][-1]
    mapped.map_users(size=3)
    mapped.add_mount("/dev/pts", "devpts", "devpts", "newinstance", "gid=5")
    error = failing(mapped)
    assert error.errno == 22 and "gid" in error.hint


def test_a_read_only_file_system_in_the_way(bare: Bundle) -> None:
    bare.add_mount("/mnt", "bind", str(bare.path), "bind", "ro")
    bare.add_mount("/mnt/missing", "tmpfs", "t")
    error = failing(bare)
    assert (
        error.message == 'error mounting "t" to rootfs at "/mnt/missing": mkdirat /mnt/missing: read-only file system'
    )
