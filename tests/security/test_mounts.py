"""Images, volumes and configurations that aim mounts, masks and nodes at the host: by the whole runtime.

The numbers are those of the vulnerabilities that runtimes have had; G4 to G10 and G18 of the project's list.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

MakeBundle = Callable[..., Bundle]
EMULATED = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
]


@pytest.fixture
def target(scratch: Path) -> Path:
    """A directory of the host that nothing may be written to."""
    path = scratch / "host"
    path.mkdir()
    (path / "mark").write_text("of the host\n")
    return path


def untouched(target: Path) -> bool:
    return os.listdir(target) == ["mark"] and (target / "mark").read_text() == "of the host\n"


def refused(runtime: Runtime, bundle: Bundle, text: str = "") -> str:
    """Run a bundle that must not start; the message, in which ``text`` must be."""
    result = runtime.run(bundle)
    assert result.returncode != 0 and "started" not in result.stdout, result.stdout
    assert text in result.stderr, result.stderr
    return result.stderr


def without(bundle: Bundle, *destinations: str) -> Bundle:
    """The bundle without its mounts at and below these places."""
    kept = [
        entry
        for entry in bundle.config["mounts"]
        if not any(f"{entry['destination']}/".startswith(f"{each}/") for each in destinations)
    ]
    return bundle.update({"mounts": kept})


# G4, G7: /proc and /sys are not where they seem (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("kind", ["link", "absolute link", "dangling link", "link to /", "file", "deep link"])
def test_an_image_that_redirects_proc_or_sys(runtime: Runtime, make_bundle: MakeBundle, name: str, kind: str) -> None:
    bundle = make_bundle("echo started; cat /proc/mounts")
    place = bundle.rootfs / name
    place.rmdir()
    (bundle.rootfs / "elsewhere/sys/kernel").mkdir(parents=True)
    if kind == "file":
        place.touch()
    else:
        targets = {"link": "elsewhere", "absolute link": "/elsewhere", "dangling link": "nowhere", "link to /": "/"}
        place.symlink_to(targets.get(kind, f"../../{name}-real"))
        (bundle.rootfs / f"{name}-real").mkdir()
    refused(runtime, bundle, "must be mounted on ordinary directory")


@pytest.mark.parametrize(
    ("destination", "fstype", "options"),
    [
        ("/proc", "tmpfs", []),
        ("/proc/", "tmpfs", []),
        ("/proc", "bind", ["bind"]),
        ("/proc", "bind", ["rbind", "ro"]),
        ("/proc/self/attr", "tmpfs", []),
        ("/proc/self", "bind", ["bind"]),
        ("/proc/sys", "tmpfs", []),
        ("/proc/sys/kernel", "bind", ["bind"]),
        ("/proc/../proc/sys", "tmpfs", []),
        ("/mnt/../proc/sys", "tmpfs", []),
        ("/mnt/../proc", "tmpfs", []),
        ("proc//sys", "tmpfs", []),
        ("/link/kernel", "tmpfs", []),
        ("/link", "tmpfs", []),
        ("/relative/sys", "bind", ["bind"]),
        ("/toproc", "tmpfs", []),
        ("/mnt/..", "tmpfs", []),
        ("/toroot", "bind", ["bind"]),
    ],
)
def test_g8_mounts_over_proc_and_the_root(
    runtime: Runtime, make_bundle: MakeBundle, destination: str, fstype: str, options: list[str]
) -> None:
    bundle = make_bundle("echo started; cat /proc/mounts")
    for name, to in (("link", "/proc/sys"), ("relative", "../../proc"), ("toproc", "proc"), ("toroot", "/")):
        (bundle.rootfs / name).symlink_to(to)
    (bundle.path / "volume").mkdir()
    bundle.add_mount(destination, fstype, str(bundle.path / "volume"), *options)
    message = refused(runtime, bundle)
    assert "cannot be mounted" in message or "root filesystem itself" in message, message


def test_g8_what_lxcfs_emulates_may_be_mounted(runtime: Runtime, make_bundle: MakeBundle) -> None:
    present = [name for name in EMULATED if os.path.exists(f"/proc/{name}")]
    bundle = make_bundle("cat " + " ".join(f"/proc/{name}" for name in present))
    (bundle.path / "file").write_text("emulated\n")
    bundle.config["linux"]["readonlyPaths"] = []
    for name in present:
        bundle.add_mount(f"/proc/{name}", "bind", str(bundle.path / "file"), "bind")
    assert runtime.output(bundle) == "emulated\n" * len(present)


def test_g8_a_procfs_may_be_bound_on_proc(runtime: Runtime, make_bundle: MakeBundle) -> None:
    bundle = without(make_bundle("test -d /proc/1/ns && echo real"), "/proc")
    bundle.config["mounts"].insert(
        0, {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "ro"]}
    )
    bundle.drop_namespace("pid")
    assert runtime.output(bundle.update({})) == "real\n"


def test_g8_only_the_root_of_a_procfs(runtime: Runtime, make_bundle: MakeBundle) -> None:
    bundle = without(make_bundle("echo started"), "/proc")
    bundle.add_mount("/proc", "bind", "/proc/sys", "rbind")
    refused(runtime, bundle, "not of type proc")


# G5: /dev is not where it seems (CVE-2026-41579, CVE-2026-47766).


@pytest.mark.parametrize("form", ["absolute", "relative"])
@pytest.mark.parametrize("mounts", ["none", "pts and shm", "all"])
def test_g5_dev_is_a_link_to_the_host(
    runtime: Runtime, make_bundle: MakeBundle, target: Path, form: str, mounts: str
) -> None:
    bundle = make_bundle("ls -la /dev/; cat /dev/mark")
    (target / "ptmx").write_text("m")
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(target if form == "absolute" else "../" * 20 + str(target).lstrip("/"))
    bundle.set("linux.devices", [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}])
    if mounts != "all":
        without(bundle, "/dev")
    if mounts == "pts and shm":
        bundle.add_mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
        bundle.add_mount("/dev/shm", "tmpfs", "shm", "mode=1777")
    result = runtime.run(bundle)
    assert sorted(os.listdir(target)) == ["mark", "ptmx"] and (target / "ptmx").read_text() == "m"
    assert "of the host" not in result.stdout


@pytest.mark.parametrize("name", ["pts", "shm", "fd", "null", "zero", "ptmx", "console", "core", "stdin", "fuse", "a"])
@pytest.mark.parametrize("to", ["directory", "file", "missing"])
def test_g5_entries_of_dev_are_links_to_the_host(
    runtime: Runtime, make_bundle: MakeBundle, target: Path, name: str, to: str
) -> None:
    bundle = without(make_bundle("cat /dev/*/mark"), "/dev")
    goal = {"directory": target, "file": target / "mark", "missing": target / "new"}[to]
    (bundle.rootfs / "dev" / name).symlink_to(goal)
    bundle.add_mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
    bundle.add_mount("/dev/shm", "tmpfs", "shm", "mode=1777")
    device = {"type": "c", "major": 10, "minor": 229, "fileMode": 0o777}
    bundle.set("linux.devices", [{"path": "/dev/fuse", **device}, {"path": "/dev/a/b", **device}])
    mode = (target / "mark").stat().st_mode
    result = runtime.run(bundle)
    assert untouched(target) and (target / "mark").stat().st_mode == mode
    assert "of the host" not in result.stdout


def test_g5_a_node_behind_a_link_is_made_inside(runtime: Runtime, make_bundle: MakeBundle) -> None:
    bundle = without(make_bundle("stat -c '%F %t:%T %a' /real/x/fuse"), "/dev")
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to("/real")
    bundle.set("linux.devices", [{"path": "/dev/x/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640}])
    assert runtime.output(bundle) == "character special file a:e5 640\n"


# G6: destinations lead out of the root (CVE-2021-30465, CVE-2024-45310, CVE-2019-18837, CVE-2017-1002101).


@pytest.mark.parametrize("form", ["absolute", "relative", "two links"])
@pytest.mark.parametrize("leaf", ["", "/new/leaf", "/mark"])
@pytest.mark.parametrize("kind", ["tmpfs", "directory", "file"])
def test_g6_a_destination_through_links_to_the_host(
    runtime: Runtime, make_bundle: MakeBundle, target: Path, form: str, leaf: str, kind: str
) -> None:
    bundle = make_bundle("true")
    links = {"absolute": str(target), "relative": "../" * 20 + str(target).lstrip("/"), "two links": "/second"}
    (bundle.rootfs / "a").symlink_to(links[form])
    (bundle.rootfs / "second").symlink_to(target)
    (bundle.path / "volume").mkdir()
    (bundle.path / "file").touch()
    if kind == "tmpfs":
        bundle.add_mount(f"/a{leaf}", "tmpfs", "t")
    else:
        source = bundle.path / ("volume" if kind == "directory" else "file")
        bundle.add_mount(f"/a{leaf}", "bind", str(source), "bind")
    runtime.run(bundle)
    assert untouched(target)


def test_g6_source_below_an_earlier_mount(runtime: Runtime, make_bundle: MakeBundle, target: Path) -> None:
    """Sources are opened before anything is mounted: no mount of the container's can stand in for one."""
    bundle = make_bundle("cat /out/mark")
    bundle.add_mount(str(target), "tmpfs", "t")
    bundle.add_mount("/out", "bind", str(target), "bind")
    assert runtime.output(bundle) == "of the host\n"


@pytest.mark.parametrize("where", ["/w/new/deep", "/w", "/w/../w/x"])
def test_the_working_directory_is_not_made_on_the_host(
    runtime: Runtime, make_bundle: MakeBundle, target: Path, where: str
) -> None:
    bundle = make_bundle("pwd")
    (bundle.rootfs / "w").symlink_to(target)
    runtime.run(bundle.set("process.cwd", where))
    assert untouched(target)


def test_magic_links(runtime: Runtime, make_bundle: MakeBundle, target: Path) -> None:
    """What the image hides behind magic links is not followed."""
    bundle = make_bundle("true")
    (bundle.rootfs / "m").symlink_to("/proc/1/root")
    (bundle.rootfs / "f").symlink_to("/proc/self/fd/0")
    for destination in ("/m/x", "/f"):
        bundle.add_mount(destination, "tmpfs", "t")
        refused(runtime, bundle)
        bundle.config["mounts"].pop()


# G9: masks are made of what the container calls /dev/null (CVE-2025-31133, CVE-2025-62161).


@pytest.mark.parametrize(
    "kind", ["link to sysctl", "link to file", "missing", "file", "other device", "fifo", "socket"]
)
@pytest.mark.parametrize("place", ["volume", "image"])
def test_g9_a_fake_null(runtime: Runtime, make_bundle: MakeBundle, target: Path, kind: str, place: str) -> None:
    bundle = without(make_bundle("cat /secret; cat /proc/self/mountinfo; stat -c '%t:%T' /secret"), "/dev")
    (bundle.rootfs / "secret").write_text("secret!\n")
    folder = bundle.rootfs / "dev"
    if place == "volume":
        folder = bundle.path / "dev"
        folder.mkdir()
        bundle.add_mount("/dev", "bind", str(folder), "rbind")
    null = folder / "null"
    if kind.startswith("link"):
        null.symlink_to("/proc/sys/kernel/hostname" if "sysctl" in kind else str(target / "mark"))
    elif kind == "file":
        null.write_text("fake!\n")
    elif kind == "other device":
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "fifo":
        os.mkfifo(null)
    elif kind == "socket":
        os.mknod(null, stat.S_IFSOCK | 0o666)
    bundle.set("linux.maskedPaths", ["/secret"])
    result = runtime.run(bundle, limit=10)
    assert "secret!" not in result.stdout and "fake!" not in result.stdout
    assert result.returncode != 0 or "1:3" in result.stdout
    if result.returncode == 0:
        assert "hostname /secret" not in result.stdout
    assert untouched(target)


def test_g9_masks_hold_whatever_the_link(runtime: Runtime, make_bundle: MakeBundle) -> None:
    bundle = make_bundle("cat /real /alias; ls /alias-dir /real-dir")
    (bundle.rootfs / "real").write_text("secret!\n")
    (bundle.rootfs / "alias").symlink_to("real")
    (bundle.rootfs / "real-dir").mkdir()
    (bundle.rootfs / "real-dir/secret!").touch()
    (bundle.rootfs / "alias-dir").symlink_to("/real-dir")
    bundle.set("linux.maskedPaths", ["/alias", "/alias-dir"])
    assert "secret!" not in runtime.output(bundle)


# G10: /dev/console (CVE-2025-52565).


@pytest.mark.parametrize("to", ["/proc/sys/kernel/hostname", "host", "missing", "/proc/self/fd/1"])
@pytest.mark.parametrize("mounts", ["none", "pts"])
def test_g10_the_console_is_a_link(
    runtime: Runtime, make_bundle: MakeBundle, console_socket: ConsoleSocket, target: Path, to: str, mounts: str
) -> None:
    bundle = without(make_bundle("cat /proc/self/mountinfo; sleep 0.1"), "/dev")
    if mounts == "pts":
        bundle.add_mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "gid=5")
    goal = {"host": target / "mark", "missing": target / "new"}.get(to, to)
    (bundle.rootfs / "dev/console").symlink_to(goal)
    bundle.update({"process": {"terminal": True}})
    result: Completed = runtime.create(bundle, "--console-socket", console_socket.path, check=False)
    assert result.returncode != 0
    assert untouched(target)


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "zero", "directory"])
def test_g10_a_ptmx_that_is_none(
    runtime: Runtime, make_bundle: MakeBundle, console_socket: ConsoleSocket, target: Path, kind: str
) -> None:
    bundle = without(make_bundle("true"), "/dev/pts")
    pts = bundle.path / "pts"
    pts.mkdir()
    if kind == "file":
        (pts / "ptmx").touch()
    elif kind == "fifo":
        os.mkfifo(pts / "ptmx")
    elif kind == "link":
        (pts / "ptmx").symlink_to("/dev/ptmx")
    elif kind == "zero":
        os.mknod(pts / "ptmx", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        (pts / "ptmx").mkdir()
    bundle.add_mount("/dev/pts", "bind", str(pts), "bind")
    bundle.update({"process": {"terminal": True}})
    result = runtime.create(bundle, "--console-socket", console_socket.path, check=False, limit=10)
    assert result.returncode != 0 and "not a devpts" in result.stderr


# G18.


@needs("cgroup-v1")
def test_release_agent_cannot_be_written(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """CVE-2022-0492: cgroup v1 read-only, in a cgroup namespace and without."""
    for private in (False, True):
        bundle = make_bundle(
            "for d in /sys/fs/cgroup/*; do echo x > $d/release_agent || echo x > $d/notify_on_release; done"
            " 2>/dev/null && echo written; mkdir /sys/fs/cgroup/memory/x && echo made; true"
        )
        bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
        if private:
            bundle.add_namespace("cgroup")
        assert runtime.output(bundle) == ""


def test_the_hosts_mounts_are_untouched(runtime: Runtime, make_bundle: MakeBundle) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    for word in ("rslave", "rshared", "rprivate"):
        bundle = make_bundle("true")
        bundle.add_mount("/mnt", "bind", str(bundle.path), "rbind", word)
        runtime.output(bundle.set("linux.rootfsPropagation", word))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_init_holds_nothing_of_the_host(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """Of a created container: no descriptor of a directory or file outside of it."""
    bundle = make_bundle("true")
    (bundle.path / "volume").mkdir()
    bundle.add_mount("/mnt", "bind", str(bundle.path / "volume"), "rbind", "ro")
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    held: dict[str, Any] = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        link = os.readlink(f"/proc/{pid}/fd/{fd}")
        if int(fd) > 2 and link.startswith("/"):
            here, there = os.stat(f"/proc/{pid}/fd/{fd}"), f"/proc/{pid}/root{link}"
            same = os.path.exists(there) and os.path.samestat(here, os.stat(there))
            if not same and here.st_dev != os.stat("/proc").st_dev and link != "/":
                held[fd] = link
    assert held == {}
