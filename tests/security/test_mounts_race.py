"""Destinations that are swapped while they are being mounted on (CVE-2021-30465, CVE-2024-45310): G6, G9, G11.

A volume holds a directory ``x`` and a link ``lnk`` to a directory of the host. A hostile process with access to the
volume exchanges the two without pause, while containers start whose mounts go on ``x`` and below it.
``GOSUDACON_RACES`` says how many (default 60); a start may fail, but nothing may ever happen outside of the root.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gosudacon.linux import abi
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.scratch_root import run_inside

ROUNDS = int(os.environ.get("GOSUDACON_RACES") or 60)
RENAME_EXCHANGE = 2
_AT_FDCWD = -100

_renameat2 = abi.syscall("renameat2", abi.INT, abi.PATH, abi.INT, abi.PATH, abi.UINT)


@pytest.fixture
def host(scratch: Path) -> Path:
    """A directory of the host."""
    path = scratch / "host"
    path.mkdir()
    (path / "mark").write_text("of the host\n")
    return path


@pytest.fixture
def volume(scratch: Path, host: Path) -> Path:
    """The shared volume."""
    path = scratch / "volume"
    (path / "x").mkdir(parents=True)
    (path / "lnk").symlink_to(host)
    return path


@contextmanager
def attacker(action: Callable[[], object]) -> Iterator[None]:
    """Another process that does this for as long as the block runs."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                action()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the attacker gave up"


def swapping(volume: Path) -> Callable[[], object]:
    one, other = bytes(volume / "x"), bytes(volume / "lnk")
    return lambda: _renameat2(_AT_FDCWD, one, _AT_FDCWD, other, RENAME_EXCHANGE)


@pytest.fixture
def victim(bundle: Bundle, volume: Path) -> Bundle:
    """Everything the attacks want to see mounted in the wrong place."""
    bundle.config["process"]["args"] = ["sh", "-c", "cat /out/mark 2>/dev/null; ls /vol"]
    bundle.add_mount("/vol", "bind", str(volume), "rbind")
    return bundle


def test_destinations_are_swapped(runtime: Runtime, victim: Bundle, volume: Path, host: Path) -> None:
    """The whole runtime; a tmpfs on what is swapped, directories and files made below it."""
    (victim.path / "file").touch()
    victim.add_mount("/vol/x", "tmpfs", "t")
    for number in range(4):
        victim.add_mount(f"/vol/x/a{number}/b", "tmpfs", "t")
        victim.add_mount(f"/vol/x/f{number}", "bind", str(victim.path / "file"), "bind")
    victim.add_mount("/out", "bind", str(host), "bind", "ro")
    started = 0
    with attacker(swapping(volume)):
        for round_ in range(ROUNDS):
            result = runtime.run(victim, container_id=f"{victim.id}-{round_}")
            started += result.returncode == 0
            assert os.listdir(host) == ["mark"]
            assert result.returncode != 0 or "of the host" in result.stdout, "the source was hijacked"
    assert started, "no container started: the attack was not tried"


@pytest.mark.parametrize("kernel", [None, (5, 10)], ids=["by descriptor", "mount(2)"])
def test_destinations_swapped_under_steps(
    victim: Bundle, volume: Path, host: Path, kernel: tuple[int, int] | None
) -> None:
    """The same against the steps in a scratch process, which are faster to start, so there are more rounds."""
    (victim.path / "file").touch()
    for number in range(8):
        victim.add_mount(f"/vol/x/a{number}/b/c", "tmpfs", "t", "private")
        victim.add_mount(f"/vol/x/f{number}", "bind", str(victim.path / "file"), "bind", "ro", "private")
    done = 0
    with attacker(swapping(volume)):
        for _ in range(3 * ROUNDS):
            try:
                run_inside(victim, kernel=kernel)
                done += 1
            except Exception as error:  # noqa: BLE001 - any refusal will do
                assert "mount" in str(error), error
            assert os.listdir(host) == ["mark"]
    assert done or kernel, "no plan ran to its end: the attack was not tried"


def test_a_link_into_proc_is_swapped_in(victim: Bundle, volume: Path) -> None:
    """What is below /proc stays what it is: attributes of processes, kernel parameters (CVE-2025-52881)."""
    (volume / "lnk").unlink()
    (volume / "lnk").symlink_to("/proc/sys")
    (volume / "x/kernel").mkdir()
    victim.add_mount("/vol/x/kernel", "tmpfs", "t")
    found = []
    with attacker(swapping(volume)):
        for _ in range(3 * ROUNDS):
            try:
                text = run_inside(victim)
            except Exception as error:  # noqa: BLE001 - any refusal will do
                assert "/proc" in str(error) or "/vol/x" in str(error), error
                continue
            found += [line for line in text.splitlines() if " /proc/sys/kernel " in line]
    assert not found


def test_null_vanishes_and_comes_back(runtime: Runtime, victim: Bundle, volume: Path) -> None:
    """Masks hold while the /dev of the container is a volume in which null comes and goes."""
    victim.config["process"]["args"] = ["sh", "-c", "cat /secret"]
    victim.config["mounts"] = [each for each in victim.config["mounts"] if not each["destination"].startswith("/dev")]
    (victim.rootfs / "secret").write_text("secret!\n")
    victim.add_mount("/dev", "bind", str(volume), "rbind")
    victim.set("linux.maskedPaths", ["/secret"])
    (volume / "null").symlink_to("/proc/sys/kernel/hostname")

    def blink() -> None:
        os.rename(volume / "null", volume / "away")
        os.rename(volume / "away", volume / "null")

    with attacker(blink):
        for round_ in range(ROUNDS // 2):
            result = runtime.run(victim, container_id=f"{victim.id}-{round_}")
            assert "secret!" not in result.stdout
            assert result.returncode != 0 or result.stdout == ""


def test_dev_is_swapped(runtime: Runtime, victim: Bundle, host: Path) -> None:
    """The image itself is shared: its /dev is a link to the host every other moment."""
    victim.config["mounts"] = [each for each in victim.config["mounts"] if each["destination"] == "/proc"]
    os.rename(victim.rootfs / "dev", victim.rootfs / "x")
    (victim.rootfs / "lnk").symlink_to(host)
    (victim.rootfs / "dev").symlink_to("x")
    with attacker(swapping(victim.rootfs)):
        for round_ in range(ROUNDS // 2):
            runtime.run(victim, container_id=f"{victim.id}-{round_}")
            assert os.listdir(host) == ["mark"]
