"""G15: files of the image that the runtime reads: it never waits for them, and takes nothing from them but HOME."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]
LINE = "user:x:1000:1000:user:{home}:/bin/sh\n"


def plant(path: Path, kind: str) -> None:
    """Put something at ``path``, which exists, that no runtime should trip over."""
    path.unlink()
    if kind.startswith("/"):
        path.symlink_to(kind)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o666)
    elif kind == "zero":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "directory":
        path.mkdir()
    elif kind == "long line":
        path.write_bytes(b"x" * (8 << 20))
    elif kind == "many lines":
        path.write_bytes(b"\n" * (8 << 20))
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "unreadable":
        path.write_text(LINE.format(home="/nowhere"))
        path.chmod(0)
    elif kind == "no text":
        path.write_bytes(bytes(range(256)) * 16)
    elif kind == "nul":
        path.write_bytes(LINE.format(home="/a\0b").encode())
    elif kind == "too few fields":
        path.write_text("user:x:1000\n:::\n\nuser:x:1000:\n")
    elif kind == "long home":
        path.write_text(LINE.format(home="/" + "h" * 500_000))


KINDS = [
    *("fifo", "socket", "zero", "directory", "long line", "many lines", "sparse", "no text", "nul", "too few fields"),
    *(
        "/dev/zero",
        "/dev/tty",
        "/dev/console",
        "/dev/ptmx",
        "/proc/kmsg",
        "/proc/self/fd/0",
        "/proc/self/exe",
        "/proc/1/mem",
    ),
    *("/etc/passwd", "/proc/self/root/etc/group", "/proc/self/environ", "/proc/1/cmdline", "/nowhere"),
]


@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
def test_a_passwd_of_any_kind(runtime: Runtime, make_bundle: Bundles, user: int) -> None:
    """No home directory is in there: it is / then; and of what cannot be passed on, such as NUL, nothing is."""
    for kind in KINDS:
        process = {"user": {"uid": user, "gid": user}, "capabilities": {"ambient": []}}
        bundle = make_bundle(["sh", "-c", "echo $HOME"], {"process": process})
        plant(bundle.rootfs / "etc/passwd", kind)
        result = runtime.run(bundle, limit=10)
        assert (result.returncode, result.stdout, result.stderr) == (0, "/\n", ""), (kind, result)


def test_an_unreadable_passwd(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle(["sh", "-c", "echo $HOME"])
    plant(bundle.rootfs / "etc/passwd", "unreadable")
    assert runtime.run(bundle, limit=10).stdout == "/\n"


def test_a_home_that_is_too_long_is_an_error(runtime: Runtime, make_bundle: Bundles) -> None:
    """Of execve(2), which takes no string above 128 KiB; and one line."""
    bundle = make_bundle(["true"], {"process": {"user": {"uid": 1000, "gid": 1000}}})
    plant(bundle.rootfs / "etc/passwd", "long home")
    result = runtime.run(bundle, limit=10)
    assert result.returncode in (0, 1)
    assert result.returncode == 0 or "argument list too long" in result.stderr


def test_home_is_found(runtime: Runtime, make_bundle: Bundles) -> None:
    """Also behind links of the image, which do not lead out of it, and when HOME is set to nothing."""
    for environment in ([], ["HOME="], ["PATH=/bin", "HOMER=x"]):
        bundle = make_bundle(["/bin/sh", "-c", "echo $HOME"], {"process": {"user": {"uid": 1000, "gid": 1000}}})
        bundle.set("process.env", environment)
        (bundle.rootfs / "etc/passwd").rename(bundle.rootfs / "usr/passwd")
        (bundle.rootfs / "etc/passwd").symlink_to("/../../usr/passwd")
        assert runtime.output(bundle, limit=10) == "/home/user\n"


@needs("program:strace")
def test_a_device_is_not_even_opened(runtime: Runtime, make_bundle: Bundles, scratch: Path) -> None:
    """Opening one may do something (a watchdog, a tape); so may reading a file of /proc."""
    for kind in ("zero", "fifo", "/dev/zero", "/proc/kmsg"):
        bundle = make_bundle(["true"])
        plant(bundle.rootfs / "etc/passwd", kind)
        trace = scratch / "trace"
        command = runtime.command
        runtime.command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace), *command]
        runtime.run(bundle, check=True, limit=30)
        runtime.command = command
        lines = [line for line in trace.read_text().splitlines() if '"/etc/passwd"' in line]
        assert lines and all("O_PATH" in line for line in lines), lines
