"""Properties that restrict, with odd values: each holds or is refused (docs/protections.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")

ALLOW, ERRNO, LOG, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"
MODE = [{"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}]


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    """Nothing hidden yet; ``/data/file`` and links to be hidden."""
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    (bundle.rootfs / "data/sub").mkdir(parents=True)
    (bundle.rootfs / "data/file").write_text("secret\n")
    (bundle.rootfs / "data/sub/file").write_text("secret\n")
    (bundle.rootfs / "top").symlink_to("/")
    (bundle.rootfs / "data/up").symlink_to("../..")
    (bundle.rootfs / "link").symlink_to("data")
    (bundle.rootfs / "filelink").symlink_to("/data/file")
    return bundle


def says(runtime: Runtime, bundle: Bundle, script: str) -> str:
    """What a shell in the container prints; it must end well."""
    result = runtime.run(bundle.set("process.args", ["/bin/sh", "-c", script]))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def refusal(runtime: Runtime, bundle: Bundle) -> str:
    """What the runtime says, which must not run anything."""
    result = runtime.run(bundle.set("process.args", ["/bin/echo", "ran"]))
    assert result.returncode == 1
    assert "ran" not in result.stdout.split()
    return result.stderr


def writable(*places: str) -> str:
    """A script that prints those of the directories that can be written to."""
    return f"for p in {' '.join(places)}; do (: > $p/new) 2>/dev/null && echo $p; done; true"


@pytest.fixture
def null_of_the_host(scratch: Path) -> Iterator[Path]:
    """In the place of the machine's null device one that may come to harm."""
    node = scratch / "null"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    node.chmod(0o666)
    namespaces.mount(str(node), "/dev/null", "none", namespaces.MS_BIND)
    yield node
    namespaces.unmount("/dev/null")


def test_a_bound_device_is_not_the_containers(runtime: Runtime, bare: Bundle, null_of_the_host: Path) -> None:
    """In a user namespace that maps the host's root: the container can write to it, and not give it away."""
    for name in ("bounding", "effective", "permitted"):
        bare.config["process"]["capabilities"][name] += ["CAP_CHOWN", "CAP_FOWNER", "CAP_SETUID"]
    bare.map_users(0)
    script = "exec 2>/dev/null; for f in /dev/*; do chmod 600 $f; chown 5 $f; done; echo x >/dev/null && echo written"
    assert says(runtime, bare, script).strip() == "written"
    status = null_of_the_host.stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o666, 0)


@pytest.mark.parametrize("users", ["shared", "mapped"])
def test_what_masks_a_file_is_not_the_containers(
    runtime: Runtime, bare: Bundle, null_of_the_host: Path, users: str
) -> None:
    """It is the host's null device: another mode or owner of it would be the host's trouble."""
    for name in ("bounding", "effective", "permitted"):
        bare.config["process"]["capabilities"][name] += ["CAP_CHOWN", "CAP_FOWNER"]
    bare.set("linux.maskedPaths", ["/data/file", "/data/sub/file"])
    if users == "mapped":
        bare.map_users(0)
    script = (
        "cd /data; for f in file sub/file; do chmod 600 $f; chown 5 $f; touch -d 12:00 $f; echo x >$f; cat $f; done"
    )
    assert says(runtime, bare, f"exec 2>/dev/null; {script}; true") == ""
    status = null_of_the_host.stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o666, 0)


ROOTS = ("/", "//", "/.", "/..", "/../.", "/proc/..", "/top", "/top/", "/data/up", "/link/../../.")


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_as_a_read_only_path(runtime: Runtime, bare: Bundle, name: str) -> None:
    """Nothing can be mounted over a root: it has to be changed itself, after all that is still written into it."""
    bare.set("linux.readonlyPaths", [name]).set("process.cwd", "/made/for/it")
    bare.add_mount("/mnt", "tmpfs", "t")
    assert says(runtime, bare, writable("/", "/data", "/made/for/it", "/mnt", "/dev")) == ""


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_cannot_be_masked(runtime: Runtime, bare: Bundle, name: str) -> None:
    assert "root, which cannot be masked" in refusal(runtime, bare.set("linux.maskedPaths", [name]))


@pytest.mark.parametrize("name", ["/data", "/data/", "//data", "/./data/.", "/link", "/link/", "/proc/../data"])
def test_every_spelling_of_a_directory(runtime: Runtime, bare: Bundle, name: str) -> None:
    bare.add_mount("/data/sub", "tmpfs", "t").add_mount("/data/sub/deep", "tmpfs", "t")
    where = "/data", "/link", "/data/sub", "/data/sub/deep"
    assert says(runtime, bare.set("linux.readonlyPaths", [name, name]), writable(*where, "/")) == "/"
    bare.set("linux.readonlyPaths", []).set("linux.maskedPaths", [name, name])
    assert says(runtime, bare, "ls -A /data /link/; " + writable(*where)) == "/data:\n\n/link/:"


@pytest.mark.parametrize("name", ["/data/file", "/filelink", "//data/./file", "/link/file", "/sys/../data/file"])
def test_every_spelling_of_a_file(runtime: Runtime, bare: Bundle, name: str) -> None:
    bare.set("linux.readonlyPaths", [name])
    assert says(runtime, bare, "(echo x > /data/file) 2>/dev/null; rm -f /data/file 2>&1; cat /filelink").endswith(
        "secret"
    )
    bare.set("linux.readonlyPaths", []).set("linux.maskedPaths", [name])
    assert says(runtime, bare, "cat /data/file /filelink /link/file") == ""


@pytest.mark.parametrize("masked", [["/data/sub"], ["/data"], ["/data", "/data/sub"], ["/data/sub", "/data"]])
@pytest.mark.parametrize("readonly", [["/data"], ["/data/sub"], ["/data", "/data/sub"], ["/data/sub", "/data"]])
def test_paths_above_and_below_each_other(
    runtime: Runtime, bare: Bundle, masked: list[str], readonly: list[str]
) -> None:
    bare.set("linux.maskedPaths", masked).set("linux.readonlyPaths", readonly)
    script = "cat /data/sub/file 2>/dev/null; " + writable(readonly[0], masked[0])
    assert says(runtime, bare, script) == ""


@pytest.mark.parametrize("name", ["data", "./data"])
def test_relative_paths_hold(runtime: Runtime, bare: Bundle, name: str) -> None:
    """They are taken from the container's root, with a warning; an empty one is none."""
    assert says(runtime, bare.set("linux.maskedPaths", ["", name]), "ls -A /data") == ""
    bare.set("linux.maskedPaths", []).set("linux.readonlyPaths", ["", name])
    assert says(runtime, bare, writable("/data")) == ""


@pytest.mark.parametrize("name", ["/proc/self/root/data"])
def test_paths_that_are_refused(runtime: Runtime, bare: Bundle, name: str) -> None:
    refusal(runtime, bare.set("linux.maskedPaths", [name]))
    refusal(runtime, bare.set("linux.maskedPaths", []).set("linux.readonlyPaths", [name]))


def test_a_missing_path_is_nothing(runtime: Runtime, bare: Bundle) -> None:
    (bare.rootfs / "dangling").symlink_to("nowhere")
    missing = ["/missing", "/data/file/below", "/dangling", "/missing/../data"]
    bare.set("linux.maskedPaths", missing).set("linux.readonlyPaths", missing)
    assert says(runtime, bare, "cat /data/file") == "secret"


def test_two_read_only_mounts_at_one_place(runtime: Runtime, bare: Bundle) -> None:
    bare.add_mount("/mnt", "tmpfs", "t", "ro").add_mount("/mnt/.", "tmpfs", "t", "ro")
    assert says(runtime, bare, writable("/mnt")) == ""
    assert says(runtime, bare, "umount /mnt 2>/dev/null; grep -c ' /mnt ro,' /proc/self/mountinfo") == "2"


@pytest.mark.parametrize(("kind", "key"), [("ipc", "kernel.msgmni"), ("uts", "kernel.domainname")])
def test_a_sysctl_of_the_hosts_namespace_by_its_path(runtime: Runtime, bare: Bundle, kind: str, key: str) -> None:
    value = Path(f"/proc/sys/{key.replace('.', '/')}").read_text().strip()
    bare.remove("hostname").add_namespace(kind, f"/proc/self/ns/{kind}").set("linux.sysctl", {key: value})
    assert "is not allowed in the hosts" in refusal(runtime, bare)


def rules(*entries: Any) -> list[dict[str, Any]]:
    """Rules for mkdir: an action each, or one with its other members."""
    return [{"names": ["mkdir"], **({"action": each} if isinstance(each, str) else each)} for each in entries]


@pytest.mark.parametrize(
    "profile",
    [
        {"defaultAction": ALLOW, "syscalls": rules(LOG, ERRNO)},
        {"defaultAction": ALLOW, "syscalls": rules(ERRNO, LOG)},
        {"defaultAction": ALLOW, "syscalls": rules(ERRNO, ALLOW)},
        {"defaultAction": ALLOW, "syscalls": rules(ALLOW, ERRNO)},
        {"defaultAction": LOG, "syscalls": rules(ALLOW, ERRNO)},
        {"defaultAction": ALLOW, "syscalls": rules({"action": LOG, "args": MODE}, ERRNO)},
        {"defaultAction": ALLOW, "syscalls": rules(ERRNO, {"action": LOG, "args": MODE})},
        {"defaultAction": ALLOW, "syscalls": [{"names": ["mkdirr", "mkdir", "mkdir"], "action": ERRNO}]},
        {"defaultAction": ALLOW, "architectures": [], "syscalls": rules(ERRNO)},
        {"defaultAction": ALLOW, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64"], "syscalls": rules(ERRNO)},
    ],
)
def test_the_strictest_of_several_actions_counts(runtime: Runtime, bare: Bundle, profile: dict[str, Any]) -> None:
    bare.set("linux.seccomp", profile)
    assert says(runtime, bare, "mkdir /tmp/made 2>/dev/null; ls -d /tmp/made 2>/dev/null; true") == ""


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ({"defaultAction": ALLOW, "syscalls": [{"names": ["mkdirr"], "action": ERRNO}]}, "does not know mkdirr"),
        ({"defaultAction": ALLOW, "syscalls": [{"names": ["MKDIR", ""], "action": ERRNO}]}, "does not name a system"),
        ({"defaultAction": ALLOW, "syscalls": rules({"action": ERRNO, "args": MODE}, LOG)}, "mkdir is not held back"),
        ({"defaultAction": ERRNO, "syscalls": rules({"action": ERRNO, "args": MODE}, ALLOW)}, "mkdir is not held"),
        (
            {"defaultAction": ALLOW, "syscalls": rules({"action": ERRNO, "args": MODE}, {"action": LOG, "args": MODE})},
            "ask for different actions",
        ),
    ],
)
def test_rules_that_would_hold_nothing_back(runtime: Runtime, bare: Bundle, profile: dict[str, Any], text: str) -> None:
    assert text in refusal(runtime, bare.set("linux.seccomp", profile))


def denied(**rule: Any) -> dict[str, Any]:
    return {"allow": False, "type": "c", "access": "rwm", **rule}


@pytest.mark.vm
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "full zero made"),
        ([denied(major=1, minor=7)], "zero made"),
        ([denied(major=1)], "made"),
        (
            [denied(major=1, minor=7), {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"}],
            "full zero made",
        ),
        ([denied(access="m")], "full zero"),
        ([denied()], "full zero made"),
    ],
)
def test_a_default_device_that_is_denied(
    runtime: Runtime, bare: Bundle, more: list[dict[str, Any]], expected: str
) -> None:
    """Only a rule for a whole type, as most configurations begin with, leaves the default ones alone."""
    for names in bare.config["process"]["capabilities"].values():
        names.append("CAP_MKNOD")
    bare.set("linux.resources.devices", [{"allow": False, "access": "rwm"}, *more])
    read = "for d in full zero; do [ $(head -c1 /dev/$d 2>&- | wc -c) = 1 ] && echo $d; done"
    script = f"{read}; mknod /tmp/n c 9 9 2>&- && echo made; true"
    assert says(runtime, bare, script).split() == expected.split()


def test_what_is_ignored_is_logged(runtime: Runtime, bare: Bundle) -> None:
    bare.set("linux.seccomp", {"defaultAction": ALLOW, "syscalls": []})
    log = bare.path / "log"
    bare.set("process.args", ["/bin/true"])
    result = runtime.run(bare, options=["--log", log])
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = log.read_text().splitlines()
    assert "level=warning" in line and "linux.seccomp: the filter lets every system call through" in line


def test_a_failure_is_logged_alone(runtime: Runtime, bare: Bundle) -> None:
    """Podman takes the whole log for one record."""
    bare.set("linux.seccomp", {"defaultAction": ALLOW, "syscalls": []}).set("process.args", ["/bin/missing"])
    log = bare.path / "log"
    assert runtime.run(bare, options=["--log", log]).returncode == 1
    (line,) = log.read_text().splitlines()
    assert "level=error" in line
