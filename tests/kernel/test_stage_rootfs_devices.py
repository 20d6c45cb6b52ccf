"""/dev: nodes, links, terminal and console, made in a scratch process."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import termios
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from gosudacon.linux import console
from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.scratch_root import Inside, mountinfo, mounts_inside, run_inside

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@pytest.fixture
def hidden(bundle: Bundle) -> Bundle:
    """The usual mounts, nothing masked."""
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


def listing(path: str = "/dev") -> Any:
    def look(_inside: Inside) -> dict[str, list[int | str]]:
        found: dict[str, list[int | str]] = {}
        for name in os.listdir(path):
            status = os.lstat(f"{path}/{name}")
            link = os.readlink(f"{path}/{name}") if stat.S_ISLNK(status.st_mode) else ""
            device = [os.major(status.st_rdev), os.minor(status.st_rdev)]
            found[name] = [status.st_mode, status.st_uid, status.st_gid, *device, link]
        return found

    return look


def failing(bundle: Bundle, **more: Any) -> Error:
    with pytest.raises(Error) as caught:
        run_inside(bundle, **more)
    return caught.value


# Nodes and links.


@pytest.mark.vm
def test_default_nodes_and_links(hidden: Bundle) -> None:
    found = run_inside(hidden, listing())
    for name, number in NODES.items():
        assert found[name][:5] == [stat.S_IFCHR | 0o666, 0, 0, *number], name
    links = {name: entry[5] for name, entry in found.items() if entry[5]}
    assert links == {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
        **({"core": "/proc/kcore"} if os.path.exists("/proc/kcore") else {}),
    }
    assert set(found) == {*NODES, *links, "pts", "shm", "mqueue"}


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_do_not_depend_on_the_umask(hidden: Bundle, umask: int) -> None:
    hidden.set("linux.devices", [{"path": "/dev/a/b", "type": "p", "fileMode": 0o642, "uid": 3, "gid": 4}])

    def look(inside: Inside) -> Any:
        return listing()(inside), listing("/dev/a")(inside), os.umask(0)

    found, below, left = run_inside(hidden, look, before=lambda: os.umask(umask))
    assert found["null"][0] == stat.S_IFCHR | 0o666 and found["a"][0] == stat.S_IFDIR | 0o755
    assert below["b"][:3] == [stat.S_IFIFO | 0o642, 3, 4]
    assert left == umask


def test_listed_devices(hidden: Bundle) -> None:
    hidden.set(
        "linux.devices",
        [
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 1, "gid": 2},
            {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/disk/sd", "type": "b", "major": 8, "minor": 300000 & 0xFFFFF},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
            {"path": "/root/pipe", "type": "p"},
        ],
    )

    def look(inside: Inside) -> Any:
        return listing()(inside), listing("/dev/disk")(inside), listing("/root")(inside)

    found, disk, root = run_inside(hidden, look)
    assert found["fuse"][:5] == [stat.S_IFCHR | 0o660, 1, 2, 10, 229]
    assert found["unbuffered"][:5] == [stat.S_IFCHR | 0o666, 0, 0, 1, 5]
    assert disk["sd"][:5] == [stat.S_IFBLK | 0o666, 0, 0, 8, 300000]
    assert found["null"][0] == stat.S_IFCHR | 0o600
    assert root["pipe"][0] == stat.S_IFIFO | 0o666


def test_a_node_that_is_there_must_be_the_same(hidden: Bundle) -> None:
    hidden.config["mounts"] = []
    os.mknod(hidden.rootfs / "dev/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(hidden.rootfs / "dev/null", 5, 5)
    found = run_inside(hidden, listing())
    assert found["null"][:5] == [stat.S_IFCHR | 0o666, 0, 0, 1, 3]
    (hidden.rootfs / "dev/zero").unlink()
    os.mknod(hidden.rootfs / "dev/zero", stat.S_IFCHR | 0o666, os.makedev(1, 9))
    error = failing(hidden)
    assert "/dev/zero exists and is not the device c 1:5" in error.message and error.errno == 17


@BOTH
def test_the_hosts_nodes_are_bound_in_a_user_namespace(hidden: Bundle, kernel: tuple[int, int] | None) -> None:
    hidden.config["mounts"] = [each for each in hidden.config["mounts"] if each["destination"] == "/dev"]
    hidden.map_users()
    hidden.set("linux.devices", [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}])

    def look(inside: Inside) -> Any:
        with open("/dev/zero", "rb") as zero, open("/dev/null", "wb") as null:
            null.write(zero.read(10))
        return listing()(inside), inside.mountinfo()

    if not os.path.exists("/dev/net/tun"):
        assert "/dev/net/tun" in failing(hidden, kernel=kernel).message
        del hidden.config["linux"]["devices"]
    found, text = run_inside(hidden, look, kernel=kernel)
    for name, number in NODES.items():
        assert found[name][3:5] == list(number), name
        assert f" /{name} /dev/{name} " in text
    assert found["ptmx"][5] == "pts/ptmx"


@pytest.mark.parametrize("kernel", [None, (5, 10)], ids=["by descriptor", "mount(2)"])
def test_what_the_host_lacks(hidden: Bundle, kernel: tuple[int, int] | None) -> None:
    """Or has as another device: the runtime makes it, where it can."""
    hidden.map_users()
    other = {"path": "/dev/zero", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6}
    third = {"path": "/dev/deep/x", "type": "c", "major": 1, "minor": 5}
    hidden.set("linux.devices", [other, third])

    def look(inside: Inside) -> Any:
        with open("/dev/zero", "wb") as file:
            file.write(b"gone")
        found = os.stat("/dev/zero")
        flags = {each.point: each.options for each in mountinfo(inside.mountinfo())}
        devices = [each for each in mountinfo(inside.mountinfo()) if each.source == "devices"]
        with open("/dev/deep/x", "rb") as file:
            return (
                [found.st_mode & 0o7777, found.st_uid, found.st_gid],
                file.read(2).hex(),
                flags["/dev/zero"],
                len(devices),
            )

    if kernel:
        assert "not the device" in failing(hidden, kernel=kernel).message
        return
    owner, zeros, flags, others = run_inside(hidden, look)
    assert owner == [0o640, 5, 6] and zeros == "0000" and others == 2
    assert {"nosuid", "noexec"} <= set(flags.split(",")) and "nodev" not in flags


@pytest.mark.parametrize("kernel", [None, (5, 10)], ids=["by descriptor", "mount(2)"])
def test_bound_devices_are_read_only_nosuid_and_noexec(hidden: Bundle, kernel: tuple[int, int] | None) -> None:
    found = mountinfo(run_inside(hidden.map_users(), kernel=kernel))
    devices = [
        each for each in found if each.point.startswith("/dev/") and each.root.count("/") == 1 and each.root != "/"
    ]
    assert len(devices) == 6 and all(each.has("ro", "nosuid", "noexec") and not each.has("nodev") for each in devices)


def test_nodes_are_bound_where_they_cannot_be_made(hidden: Bundle) -> None:
    """A runtime inside a container without CAP_MKNOD."""
    from gosudacon.linux import capability

    def drop() -> None:
        effective, permitted, inheritable = capability.held()
        capability.set_caps(effective & ~(1 << 27), permitted, inheritable)

    _, text = run_inside(hidden, lambda inside: (listing()(inside), inside.mountinfo()), before=drop)
    assert " /null /dev/null " in text


def test_a_bound_dev_is_left_alone(hidden: Bundle) -> None:
    source = hidden.path / "dev"
    source.mkdir()
    hidden.config["mounts"] = []
    hidden.add_mount("/dev", "bind", str(source), "rbind", "ro")
    assert run_inside(hidden, listing()) == {}
    assert os.listdir(source) == []


def test_links_that_exist_stay_and_ptmx_does_not(hidden: Bundle) -> None:
    hidden.config["mounts"] = []
    (hidden.rootfs / "dev/fd").symlink_to("/elsewhere")
    (hidden.rootfs / "dev/ptmx").mkdir()
    found = run_inside(hidden, listing())
    assert found["fd"][5] == "/elsewhere" and found["ptmx"][5] == "pts/ptmx"


# The terminal.


def size_of(fd: int) -> tuple[int, int]:
    return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]


def look_at_terminal(inside: Inside) -> Any:
    here = os.stat("/dev/console")
    streams = [os.fstat(fd) for fd in (0, 1, 2)]
    os.write(1, b"hello from inside\n")
    return {
        "console": [here.st_rdev, stat.S_ISCHR(here.st_mode)],
        "same": [here.st_ino == each.st_ino and here.st_rdev == each.st_rdev for each in streams],
        "session": os.tcgetpgrp(0) == os.getpgrp() == os.getpid(),
        "tty": os.open("/dev/tty", os.O_RDWR) > 2,
        "size": size_of(0),
        "open": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "names": sorted(os.listdir("/dev/pts")),
        "mounts": inside.mountinfo(),
    }


@pytest.mark.vm
@BOTH
def test_the_terminal_goes_over_the_console_socket(
    hidden: Bundle, console_socket: ConsoleSocket, kernel: tuple[int, int] | None
) -> None:
    hidden.update({"process": {"terminal": True, "consoleSize": {"height": 12, "width": 77}}})
    found = run_inside(hidden, look_at_terminal, kernel=kernel, options={"console_socket": str(console_socket.path)})
    terminal = console_socket.receive()
    assert console_socket.message == b"/dev/pts/0"
    assert found["console"] == [os.makedev(136, 0), True]
    assert found["same"] == [True] * 3 and found["session"] and found["tty"]
    assert found["names"] == ["0", "ptmx"]
    assert " /0 /dev/console " in found["mounts"]
    assert found["size"] == [12, 77] and size_of(terminal.master) == (12, 77)
    terminal.expect("hello from inside")


def test_a_console_socket_on_a_long_path(hidden: Bundle, scratch: Path) -> None:
    directory = scratch / ("d" * 120)
    directory.mkdir()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(directory, os.O_PATH)
    server.bind(f"/proc/self/fd/{handle}/s")
    server.listen(1)
    os.close(handle)
    hidden.update({"process": {"terminal": True}})
    run_inside(hidden, look_at_terminal, options={"console_socket": str(directory / "s")})
    connection, _ = server.accept()
    _, handles, _, _ = socket.recv_fds(connection, 4096, 4)
    assert len(handles) == 1 and os.isatty(handles[0])
    os.close(handles[0])
    connection.close()
    server.close()


def test_terminal_without_console_socket(hidden: Bundle) -> None:
    """In the process of the runtime side: here the one in which the steps of prepare ran."""
    mine, theirs = console.socketpair()
    pid = os.fork()
    if pid == 0:
        os.close(mine)
        master = os.openpty()[0]
        console.send(theirs, master, "/dev/pts/9")
        os._exit(0)
    os.close(theirs)
    master = console.receive(mine)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.isatty(master) and not os.get_inheritable(master)
    with pytest.raises(Error, match="no terminal came"):
        console.receive(mine)
    os.close(master)
    os.close(mine)
    hidden.update({"process": {"terminal": True}})
    assert run_inside(hidden, look_at_terminal)["session"]


@pytest.mark.parametrize("name", ["missing", "nobody"])
def test_a_console_socket_that_does_not_answer(hidden: Bundle, scratch: Path, name: str) -> None:
    path = scratch / name
    if name == "nobody":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    hidden.update({"process": {"terminal": True}})
    error = failing(hidden, options={"console_socket": str(path)})
    assert error.message.endswith(
        f"connect {path}: {'no such file or directory' if name == 'missing' else 'connection refused'}"
    )


def test_a_terminal_without_devpts(hidden: Bundle) -> None:
    hidden.update({"process": {"terminal": True}})
    hidden.config["mounts"] = [each for each in hidden.config["mounts"] if each["destination"] != "/dev/pts"]
    error = failing(hidden)
    assert error.where == "process.terminal" and "/dev/pts" in error.message


@BOTH
def test_a_terminal_in_a_devpts_of_another_kind(hidden: Bundle, kernel: tuple[int, int] | None) -> None:
    """Bound from elsewhere: found by its path, and used if it is one."""
    source = hidden.path / "pts"
    source.mkdir()
    namespaces.mount("devpts", str(source), "devpts", 0, "newinstance,ptmxmode=0666")
    for entry in hidden.config["mounts"]:
        if entry["destination"] == "/dev/pts":
            entry.update(type="bind", source=str(source), options=["bind"])
    hidden.update({"process": {"terminal": True}})
    try:
        assert run_inside(hidden, look_at_terminal, kernel=kernel)["session"]
    finally:
        namespaces.unmount(str(source))


def test_the_console_may_be_a_node_that_is_there(hidden: Bundle) -> None:
    hidden.update({"process": {"terminal": True}})
    hidden.set("linux.devices", [{"path": "/dev/console", "type": "c", "major": 5, "minor": 1}])
    assert run_inside(hidden, look_at_terminal)["console"] == [os.makedev(136, 0), True]


def test_a_terminal_in_a_user_namespace(hidden: Bundle, console_socket: ConsoleSocket) -> None:
    hidden.config["mounts"] = [each for each in hidden.config["mounts"] if each["destination"] != "/dev/mqueue"]
    hidden.map_users()
    hidden.update({"process": {"terminal": True}})
    assert run_inside(hidden, look_at_terminal, options={"console_socket": str(console_socket.path)})["session"]


def test_mounts_of_a_terminal(hidden: Bundle) -> None:
    hidden.update({"process": {"terminal": True}})
    found = mounts_inside(hidden)
    assert found["/dev/console"].fstype == "devpts" and found["/dev/console"].has("nosuid", "noexec")
