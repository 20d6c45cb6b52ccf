"""What the runtime asks the kernel for, as strace(1) sees it: how mounts are made, and what is never opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("program:strace", "runtime:gosudacon", "kernel>=5.12")

CALLS = "trace=%file,mount,umount2,pivot_root,chroot,open_tree,move_mount,mount_setattr,fsopen,fsmount,ioctl,execve"
CODE = re.compile(r'"[^"]*(\.pyc?|\.so[.0-9]*|/nsswitch\.conf|/locale/[^"]*|gconv[^"]*)"')


@pytest.fixture
def trace(scratch: Path) -> Callable[[Runtime], Callable[[], list[str]]]:
    """Put strace in front of a runtime; the function that comes back gives the lines of init, once it has run."""
    path = scratch / "trace"

    def watch(runtime: Runtime) -> Callable[[], list[str]]:
        options = ["-ff", "-qq", "-s", "300", "-e", CALLS, "-e", "signal=none", "-o", str(path)]
        runtime.command = ["strace", *options, *runtime.command]

        def lines() -> list[str]:
            for each in scratch.glob("trace.*"):
                text = each.read_text(errors="replace").splitlines()
                if any(line.startswith("pivot_root(") for line in text):
                    return text
            raise AssertionError("no process has called pivot_root")

        return lines

    return watch


def test_mounts_are_made_by_descriptor(
    runtime: Runtime, bundle: Bundle, trace: Callable[[Runtime], Callable[[], list[str]]]
) -> None:
    bundle.config["process"]["args"] = ["true"]
    (bundle.path / "volume").mkdir()
    bundle.add_mount("/new/volume", "bind", str(bundle.path / "volume"), "rbind", "ro")
    bundle.add_mount("/run", "tmpfs", "t", "ro", "tmpcopyup")
    lines = trace(runtime)
    runtime.run(bundle, check=True, limit=60)
    init = lines()
    pivot = next(index for index, line in enumerate(init) if line.startswith("pivot_root("))
    below = f'"{bundle.rootfs}/'
    assert not [line for line in init[:pivot] if below in line and not line.startswith("readlink")]
    mounts = [line for line in init if line.startswith("mount(")]
    assert all("MS_SLAVE" in line for line in mounts), mounts  # propagation of / and of the old root, nothing else
    moves = [line for line in init if line.startswith("move_mount(")]
    assert moves and all('"", ' in line and "MOVE_MOUNT_T_EMPTY_PATH" in line for line in moves)


def test_behind_the_wall_no_code_is_opened(
    runtime: Runtime, bundle: Bundle, trace: Callable[[Runtime], Callable[[], list[str]]]
) -> None:
    """Neither from the host nor from the container, between leaving the host's root and execve(2)."""
    bundle.config["process"]["args"] = ["true"]
    bundle.update({"process": {"cwd": "/made", "user": {"uid": 1000, "gid": 1000}, "rlimits": []}})
    lines = trace(runtime)
    runtime.run(bundle, check=True, limit=60)
    init = lines()
    first = next(index for index, line in enumerate(init) if "move_mount(" in line)
    last = next(index for index, line in enumerate(init) if line.startswith('execve("/bin/true"') or "execve(" in line)
    assert last > first
    assert not [line for line in init[first:last] if CODE.search(line)]


def test_the_terminal_is_never_looked_up_by_name(
    runtime: Runtime,
    bundle: Bundle,
    console_socket: ConsoleSocket,
    trace: Callable[[Runtime], Callable[[], list[str]]],
) -> None:
    bundle.update({"process": {"terminal": True, "args": ["true"]}})
    lines = trace(runtime)
    runtime.run(bundle, "--detach", "--console-socket", console_socket.path, limit=60)  # strace waits for all it sees
    console_socket.receive()
    init = lines()
    assert any("TIOCGPTPEER" in line for line in init)
    assert not [line for line in init if re.search(r'open[^(]*\([^)]*"[^"]*pts/[0-9]', line)]
    assert not [line for line in init if re.search(r'"/dev/(ptmx|pts/ptmx|console|tty)"', line)]
