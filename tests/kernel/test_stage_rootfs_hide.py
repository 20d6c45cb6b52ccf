"""Masked and read-only paths, the read-only root, sysctls: in a scratch process."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from tests.support.bundle import Bundle
from tests.support.scratch_root import Inside, mountinfo, mounts_inside, run_inside

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    """A bundle with nothing but /proc and /dev, and nothing hidden."""
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["destination"] in ("/proc", "/dev")]
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


def failing(bundle: Bundle, **more: Any) -> Error:
    with pytest.raises(Error) as caught:
        run_inside(bundle, **more)
    return caught.value


def refusal_of(directory: str) -> int:
    return error_of(lambda: os.mkdir(f"{directory}/new"))


def error_of(action: Any) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.vm
@BOTH
def test_masks(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    (bare.rootfs / "secret").write_text("secret")
    (bare.rootfs / "link").symlink_to("secret")
    os.mkfifo(bare.rootfs / "fifo")
    bare.set("linux.maskedPaths", ["/secret", "/etc", "/fifo", "/missing", "/secret/below", "/proc/keys", "/usr"])

    opened: list[int] = []

    def look(_inside: Inside) -> Any:
        return {
            "read": Path("/secret").read_text() + Path("/fifo").read_text() + Path("/proc/keys").read_text(),
            "device": [os.stat(path).st_rdev for path in ("/secret", "/fifo", "/proc/keys")],
            "directory": [os.listdir("/etc"), os.listdir("/usr"), stat.S_IMODE(os.stat("/etc").st_mode)],
            "write": error_of(lambda: os.mkdir("/etc/x")),
            "link": Path("/link").read_text(),
            "more descriptors": len(os.listdir("/proc/self/fd")) - opened[0],
        }

    found = run_inside(bare, look, kernel=kernel, before=lambda: opened.append(len(os.listdir("/proc/self/fd"))))
    assert found["read"] == "" and found["link"] == ""
    assert found["device"] == [os.makedev(1, 3)] * 3
    assert found["directory"][:2] == [[], []]
    assert found["write"] == 30
    assert found["more descriptors"] == 0
    assert (bare.rootfs / "secret").read_text() == "secret"


@pytest.mark.vm
@BOTH
def test_read_only_paths(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    (bare.rootfs / "file").touch()
    bare.add_mount("/mnt", "tmpfs", "t", "nosuid", "nodev", "noexec")
    bare.add_mount("/mnt/sub", "tmpfs", "t")
    bare.set("linux.readonlyPaths", ["/file", "/mnt", "/missing", "/proc/sys"])

    def look(inside: Inside) -> Any:
        attempts = {
            "file": lambda: Path("/file").write_text("x"),
            "mnt": lambda: os.mkdir("/mnt/x"),
            "sub": lambda: os.mkdir("/mnt/sub/x"),
            "sysctl": lambda: Path("/proc/sys/kernel/domainname").write_text("x"),
        }
        return {name: error_of(attempt) for name, attempt in attempts.items()}, inside.mountinfo()

    errors, text = run_inside(bare, look, kernel=kernel)
    assert errors == {"file": 30, "mnt": 30, "sub": 30, "sysctl": 30}
    top = [each for each in mountinfo(text) if each.point == "/mnt"][-1]
    assert top.has("ro", "nosuid", "nodev", "noexec")


@BOTH
@pytest.mark.parametrize("name", ["/", "/..", "/top", "/mnt/../top"])
def test_the_root_as_a_read_only_path(bare: Bundle, kernel: tuple[int, int] | None, name: str) -> None:
    (bare.rootfs / "top").symlink_to("..")
    bare.add_mount("/mnt", "tmpfs", "t").add_mount("/mnt/sub", "tmpfs", "t")
    bare.set("linux.readonlyPaths", [name])
    places = "/", "/etc", "/mnt", "/mnt/sub"
    found = run_inside(bare, lambda _: [refusal_of(each) for each in places], kernel=kernel)
    assert found == [30] * 4


@BOTH
@pytest.mark.parametrize("name", ["/..", "/top", "/mnt/../top"])
def test_the_root_cannot_be_masked(bare: Bundle, kernel: tuple[int, int] | None, name: str) -> None:
    (bare.rootfs / "top").symlink_to("..")
    bare.add_mount("/mnt", "tmpfs", "t").set("linux.maskedPaths", ["/etc", name])
    error = failing(bare, kernel=kernel)
    assert "root, which cannot be masked" in error.message and error.where == "linux.maskedPaths[1]"


@BOTH
def test_hidden_mount_below_read_only_path(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    """A mount hidden by another below a read only path."""
    bare.add_mount("/mnt", "tmpfs", "t").add_mount("/mnt/sub", "tmpfs", "t").add_mount("/mnt", "tmpfs", "t")
    bare.set("linux.readonlyPaths", ["/mnt"])
    assert run_inside(bare, lambda _: error_of(lambda: os.mkdir("/mnt/x")), kernel=kernel) == 30


@BOTH
def test_two_read_only_mounts_at_one_place(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    bare.add_mount("/mnt", "tmpfs", "t", "ro").add_mount("/mnt/.", "tmpfs", "t", "ro")
    assert mounts_inside(bare, kernel=kernel)["/mnt"].has("ro")


@BOTH
def test_a_read_only_root(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    bare.config["root"]["readonly"] = True
    bare.set("process.cwd", "/made/for/it")
    bare.add_mount("/mnt", "tmpfs", "t")

    def look(inside: Inside) -> Any:
        return error_of(lambda: os.mkdir("/x")), error_of(lambda: os.mkdir("/mnt/x")), os.getcwd(), inside.mountinfo()

    root, mnt, cwd, text = run_inside(bare, look, kernel=kernel)
    assert (root, mnt, cwd) == (30, 0, "/")
    assert mountinfo(text)[0].point == "/" and mountinfo(text)[0].has("ro")
    assert (bare.rootfs / "made/for/it").is_dir()
    assert stat.S_IMODE((bare.rootfs / "made/for/it").stat().st_mode) == 0o755


def test_masks_in_a_user_namespace(bare: Bundle) -> None:
    bare.map_users()
    bare.set("linux.maskedPaths", ["/proc/keys", "/etc"])
    found = mounts_inside(bare)
    assert found["/proc/keys"].root == "/null" and found["/etc"].fstype == "tmpfs"


@BOTH
def test_a_path_that_cannot_be_looked_at_is_an_error(bare: Bundle, kernel: tuple[int, int] | None) -> None:
    (bare.rootfs / "loop").symlink_to("loop")
    bare.set("linux.maskedPaths", ["/loop"])
    error = failing(bare, kernel=kernel)
    assert (error.errno, error.where, error.stage) == (40, "linux.maskedPaths[0]", "rootfs-mount")


def test_path_off_its_filesystem(bare: Bundle) -> None:
    """A bind mount covers part of /proc behind the plan's back: here, one that the test itself makes."""
    (bare.rootfs / "fake").mkdir()
    bare.add_mount("/tmp", "bind", str(bare.rootfs), "bind")
    bare.set("linux.maskedPaths", ["/proc/sys"])

    def cover() -> None:
        from gosudacon.stages.rootfs_mount import hide

        plain = hide.OpenNull.run

        def run(step: hide.OpenNull, context: Any) -> None:
            from gosudacon.linux import mount, path

            below = path.open_in_root(context.root, "/proc/sys")
            mount.mount("t", f"/proc/self/fd/{below}", "tmpfs", 0)
            plain(step, context)

        hide.OpenNull.run = run  # type: ignore[method-assign,assignment]

    assert "not on the filesystem" in failing(bare, before=cover).message


# Sysctls.


@BOTH
@pytest.mark.parametrize("readonly", [False, True])
def test_sysctls(bare: Bundle, kernel: tuple[int, int] | None, readonly: bool) -> None:
    host = {name: Path(f"/proc/sys/{name}").read_text() for name in ("kernel/msgmax", "net/core/somaxconn")}
    if readonly:
        bare.set("linux.readonlyPaths", ["/proc/sys"])
    bare.set(
        "linux.sysctl",
        {"kernel.msgmax": "4711", "net.core.somaxconn": "1234", "fs/mqueue/msg_max": "9", "kernel.domainname": "d"},
    )

    def look(_inside: Inside) -> Any:
        names = ("kernel/msgmax", "net/core/somaxconn", "fs/mqueue/msg_max", "kernel/domainname")
        return [Path(f"/proc/sys/{name}").read_text().strip() for name in names]

    assert run_inside(bare, look, kernel=kernel) == ["4711", "1234", "9", "d"]
    assert host == {name: Path(f"/proc/sys/{name}").read_text() for name in host}


def test_sysctls_in_a_user_namespace(bare: Bundle) -> None:
    bare.map_users()
    bare.set("linux.sysctl", {"user.max_ipc_namespaces": "7", "net.ipv4.ip_unprivileged_port_start": "0"})
    look = "/proc/sys/user/max_ipc_namespaces"
    assert run_inside(bare, lambda _: Path(look).read_text()) == "7\n"


@pytest.mark.parametrize(("key", "text"), [("net.no.such", "no such file"), ("net.core.somaxconn", "invalid argument")])
def test_a_sysctl_that_cannot_be_written(bare: Bundle, key: str, text: str) -> None:
    bare.set("linux.sysctl", {"net.ipv4.ip_forward": "0", key: "x"})
    error = failing(bare)
    assert text in error.message.lower() and error.where == f"linux.sysctl[{key}]"


def test_sysctls_of_the_hosts_network(bare: Bundle) -> None:
    """Sysctls of the host's network are refused when it is joined."""
    bare.add_namespace("network", "/proc/self/ns/net")
    bare.set("linux.sysctl", {"net.ipv4.ip_forward": "1"})
    error = failing(bare)
    assert error.message == 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'
    assert error.where == "linux.sysctl[net.ipv4.ip_forward]"
