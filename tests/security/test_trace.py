"""One container's whole creation and start, call by call: every file that is opened, and through what.

The configuration leaves no step out that opens files. Nothing of an image may decide what these calls reach: behind the
change of root no code, no data of the C library's and no path of /proc; before it no path below the image's root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("program:strace", "runtime:gosudacon", "kernel>=5.12")

CALLS = "%file,%desc,mount,umount2,pivot_root,chroot,execve,clone,clone3,fork,vfork,socket,connect,bind"
# What a library or an interpreter opens without being asked.
CODE = re.compile(
    r"\.pyc?$|\.so[.0-9]*$|\.so\.cache$|\.zip$|python3|nsswitch|/locale|gconv|/etc/(ld|host|resolv|gai|localtime|group$)"
    r"|/usr/share/zoneinfo|/terminfo|\.egg|/etc/ssl|/dev/u?random|^/sys/devices"
)
NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Trace:
    """What strace has seen of one process and its threads' calls, in order."""

    def __init__(self, path: Path) -> None:
        self.lines = [line for line in path.read_text(errors="replace").splitlines() if "resumed>" not in line]

    def find(self, start: str, after: int = 0) -> int:
        """The index of the first call that begins with ``start``; -1 if none does."""
        return next((n for n, line in enumerate(self.lines) if n >= after and line.startswith(start)), -1)

    def successful(self, *names: str) -> list[str]:
        return [
            line for line in self.lines if line.startswith(tuple(f"{name}(" for name in names)) and " = -1 " not in line
        ]


def trace(runtime: Runtime, scratch: Path, name: str) -> Callable[[], list[Trace]]:
    """Put strace in front of the runtime; what comes back gives the traces of all processes since then."""
    options = [
        "-D",
        "-ff",
        "-y",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(scratch / name),
    ]
    runtime.command = ["strace", *options, *runtime.command]
    return lambda: [Trace(path) for path in sorted(scratch.glob(f"{name}.*"))]


def paths(line: str) -> list[str]:
    return NAMED.findall(line)


@pytest.fixture
def rich(bundle: Bundle) -> Bundle:
    """A configuration with everything that makes the runtime open, mount or write a file."""
    (bundle.path / "volume").mkdir()
    (bundle.path / "file").touch()
    bundle.map_users()
    bundle.add_namespace("cgroup")
    bundle.add_mount("/new/volume", "bind", str(bundle.path / "volume"), "rbind", "ro", "nosuid")
    bundle.add_mount("/etc/new/file", "bind", str(bundle.path / "file"), "bind", "ro")
    bundle.add_mount("/run", "tmpfs", "tmpfs", "tmpcopyup", "mode=755")
    bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    bundle.set("process.args", ["true"]).set("process.oomScoreAdj", 100).set("process.cwd", "/made/by/us")
    bundle.set("process.user", {"uid": 1000, "gid": 1000, "additionalGids": [29]})
    bundle.set(
        "process.env", ["LANG=de_DE.ISO-8859-1", "TZ=Europe/Berlin", "LD_PRELOAD=/evil.so", "PATH=/nowhere:/bin"]
    )
    bundle.set("linux.sysctl", {"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536"})
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"})
    bundle.set("linux.timeOffsets", {"monotonic": {"secs": 100}}).add_namespace("time")
    bundle.set("root.readonly", True).set("linux.rootfsPropagation", "rslave")
    hook = [{"path": "/bin/true"}]
    bundle.set("hooks", {kind: hook for kind in ("createRuntime", "createContainer", "startContainer", "poststart")})
    (bundle.rootfs / "made/by/us").mkdir(parents=True)
    for name in ("new/volume", "etc/new", "sys/fs/cgroup"):
        (bundle.rootfs / name).mkdir(parents=True, exist_ok=True)
    (bundle.rootfs / "etc/new/file").touch()
    return bundle


@pytest.fixture
def traced(runtime: Runtime, rich: Bundle, scratch: Path, console_socket: ConsoleSocket) -> list[Trace]:
    """The traces of all processes of create and start of that container, which has a terminal."""
    rich.set("process.terminal", True)
    plain = list(runtime.command)
    create = trace(runtime, scratch, "create")
    runtime.create(rich, "--console-socket", console_socket.path, limit=60)
    console_socket.receive()
    runtime.command = list(plain)
    pid = runtime.pid(rich)
    start = trace(runtime, scratch, "start")
    runtime.start(rich, limit=60)
    runtime.command = plain
    assert runtime.wait(pid) == 0
    eventually(strace_has_ended, 30, "strace's end")
    return [*create(), *start()]


def strace_has_ended() -> bool:
    """Whether no strace is left; those that are zombies are ours to reap, since ``-D`` makes orphans of them."""
    left = {each for each in processes.descendants() if "strace" in each.describe()}
    processes.reap(left)
    return not any(processes.alive(each.pid) for each in left)


def init_of(traces: list[Trace]) -> Trace:
    (found,) = (each for each in traces if each.find("pivot_root(") >= 0)
    return found


def test_the_whole_trace(traced: list[Trace], rich: Bundle) -> None:
    init = init_of(traced)
    pivot = init.find("pivot_root(")
    last = init.find("execve(", pivot)
    assert "/bin/true" in init.lines[last]
    _no_code_behind_the_wall(init, last)
    _no_path_of_the_image_on_the_host(traced, init, pivot, str(rich.rootfs))
    _proc_by_descriptor(init, pivot, last)
    _no_names_of_sockets(init, pivot, last)


def _no_code_behind_the_wall(init: Trace, last: int) -> None:
    """From the first mount of the container's on; nothing is even looked for."""
    first = init.find("move_mount(")
    assert 0 < first < last
    for line in init.lines[first:last]:
        if line.startswith("open_tree(") and '"/dev/' in line:
            continue  # a device that is bound where none can be made; it is not read from
        for path in paths("" if line.startswith("read(") else line):  # what is read is not a file's name
            assert not CODE.search(path), line


def _no_path_of_the_image_on_the_host(traced: list[Trace], init: Trace, pivot: int, rootfs: str) -> None:
    """The root's own directory may be named, to be opened; nothing below it, in no call of any process."""
    for each in traced:
        end = pivot if each is init else len(each.lines)
        for line in each.lines[:end]:
            if line.startswith(("readlink", "execve(")):
                continue  # what the kernel says of a descriptor is not a path that is resolved
            assert not [path for path in paths(_arguments(line)) if path.startswith(f"{rootfs}/")], line
    for line in init.lines[:pivot]:
        if line.startswith("mount("):
            assert "MS_SLAVE" in line or "MS_PRIVATE" in line, line


def _arguments(line: str) -> str:
    return line.partition(" = ")[0]


_FOUND = re.compile(r"openat2\(.*O_PATH.*RESOLVE_NO_MAGICLINKS\|(RESOLVE_NO_SYMLINKS\|)?RESOLVE_IN_ROOT")


def _proc_by_descriptor(init: Trace, pivot: int, last: int) -> None:
    """Behind the change of root /proc is the container's: no path leads there, only descriptors of a private mount."""
    for line in init.lines[pivot:last]:
        if line.startswith("readlink") or _FOUND.match(line):
            continue  # the second is how a path to mask is found: nothing can be read or written through it
        named = [path for path in paths(_arguments(line)) if path.startswith("/proc")]
        assert not named, line
    written = [line for line in init.successful("openat", "openat2", "open") if re.search(r"O_(WRONLY|RDWR)", line)]
    for line in written:
        for path in paths(_arguments(line)):
            assert not path.startswith(("/proc/self", "/proc/thread-self", "/proc/1/")) or _before(
                init, line, "setns"
            ), line


def _before(init: Trace, line: str, call: str) -> bool:
    """Whether the line comes before anything of the container's can be mounted: its own /proc is the host's then."""
    index, first = init.lines.index(line), init.find("move_mount(")
    return index < first


def _no_names_of_sockets(init: Trace, pivot: int, last: int) -> None:
    assert not [line for line in init.lines[pivot:last] if line.startswith(("connect(", "bind("))]


def test_sysctls_are_written_through_a_private_mount(traced: list[Trace]) -> None:
    init = init_of(traced)
    lines = [line for line in init.successful("openat2") if "/sys/net/" in line or '"sys/' in line]
    assert len(lines) == 2
    assert all("RESOLVE_NO_SYMLINKS" in line and "RESOLVE_BENEATH" in line and "AT_FDCWD" not in line for line in lines)
    assert all("RESOLVE_NO_XDEV" in line for line in lines)


def test_cpus_are_not_counted_in_files_of_the_image(runtime: Runtime, bundle: Bundle) -> None:
    """Without a sysfs, the file in which the C library counts CPUs is the image's: a pipe without a writer."""
    mounts = [mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/sys")]
    bundle.set("mounts", mounts).set("process.args", ["grep", "Cpus_allowed_list", "/proc/self/status"])
    place = bundle.rootfs / "sys/devices/system/cpu"
    place.mkdir(parents=True)
    for name in ("online", "possible"):
        os.mkfifo(place / name)
    allowed = os.sched_getaffinity(0)
    runtime.command = ["taskset", "-c", str(min(allowed)), *runtime.command]
    cpus = runtime.output(bundle).split()[1]
    assert len(allowed) == 1 or cpus != str(min(allowed)), "the container is bound to its caller's CPU"
