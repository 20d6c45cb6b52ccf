"""G3: a container in whose pid namespace another one is created looks at that one's init (CVE-2016-9962)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

Bundles = Callable[..., Bundle]
Plant = Callable[[Bundle, str], str]

ROUNDS = int(os.environ.get("GOSUDACON_RACES") or 40)
DOCKER = [
    *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD"),
    *(
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ),
]
ACCESSES = {"exe", "cwd", "root", "fd/0", "mem", "environ", "map_files", "root/", "cwd/", "ns/mnt"}


def privileged(bundle: Bundle, *more: str) -> Bundle:
    """The capabilities that Docker gives, and more."""
    names = [*DOCKER, *more]
    sets = {kind: names for kind in ("bounding", "effective", "permitted")}
    return bundle.set("process.capabilities", sets).set("process.noNewPrivileges", False)


def answers(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) if ": " in line else line.split(" -> ", 1) for line in text.splitlines())


@pytest.mark.vm
@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
def test_waiting_init_is_closed(runtime: Runtime, make_bundle: Bundles, plant: Plant, user: int) -> None:
    """A waiting init is closed to others in its namespace."""
    waiting, other = make_bundle(), privileged(make_bundle())
    waiting.set("process.user", {"uid": user, "gid": user})
    runtime.create(waiting)
    other.add_namespace("pid", f"/proc/{runtime.pid(waiting)}/ns/pid")
    other.set("process.args", [plant(other, "scan"), "1"])
    found = answers(runtime.output(other))
    assert set(found) >= ACCESSES and set(found.values()) == {"EACCES"}, sorted(found.items())


@pytest.mark.vm
@needs("vm")
def test_whatever_a_change_of_user_does_by_default(runtime: Runtime, make_bundle: Bundles, plant: Plant) -> None:
    """fs.suid_dumpable says what setresuid(2) makes of PR_SET_DUMPABLE; 1 is what should never be set."""
    Path("/proc/sys/fs/suid_dumpable").write_text("1")
    try:
        test_waiting_init_is_closed(runtime, make_bundle, plant, 1000)
    finally:
        Path("/proc/sys/fs/suid_dumpable").write_text("0")


def test_in_a_user_namespace_that_both_share(runtime: Runtime, make_bundle: Bundles, plant: Plant) -> None:
    """There CAP_SYS_PTRACE is of no use either: the interpreter was executed outside."""
    waiting, other = make_bundle().map_users(), privileged(make_bundle().map_users(), "CAP_SYS_PTRACE", "CAP_SYS_ADMIN")
    runtime.create(waiting)
    pid = runtime.pid(waiting)
    for kind, name in (("pid", "pid"), ("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")):
        other.add_namespace(kind, f"/proc/{pid}/ns/{name}")
    other.set("process.args", [plant(other, "scan"), "1"])
    found = answers(runtime.output(other))
    assert set(found) >= ACCESSES and set(found.values()) == {"EACCES"}, sorted(found.items())


def test_tracer_finds_nothing(runtime: Runtime, make_bundle: Bundles, plant: Plant, scratch: Path) -> None:
    """One that may trace everything finds nothing of the host."""
    waiting, other = make_bundle(), privileged(make_bundle(), "CAP_SYS_PTRACE")
    waiting.add_mount("/mnt", "bind", str(scratch), "rbind")
    runtime.create(waiting)
    other.add_namespace("pid", f"/proc/{runtime.pid(waiting)}/ns/pid")
    other.set("process.args", [plant(other, "scan"), "1"])
    found = answers(runtime.output(other))
    assert found["root"] == found["cwd"] == "/"
    links = {name: target for name, target in found.items() if name.startswith("fd/") and name != "fd/0"}
    assert links and not [target for target in links.values() if target.startswith("/") and target != "/"]


@pytest.mark.parametrize("shared_users", [False, True], ids=["", "user namespace"])
def test_nothing_is_seen_while_containers_come_and_go(
    runtime: Runtime, make_bundle: Bundles, plant: Plant, shared_users: bool
) -> None:
    """The race: from the fork into the namespace to the program of the image."""
    watcher, other = privileged(make_bundle(), "CAP_SYS_PTRACE" if shared_users else "CAP_KILL"), make_bundle(["true"])
    if shared_users:
        watcher.map_users()
        other.map_users()
    watcher.set("process.args", [plant(watcher, "scan"), "watch"])
    reader, writer = os.pipe()
    try:
        runtime.run(watcher, "--detach", stdin=reader)
        eventually(lambda: "watching" in watcher.stdout, 10, "the watcher's first look")
        pid = runtime.pid(watcher)
        for kind in ("pid", "user") if shared_users else ("pid",):
            other.add_namespace(kind, f"/proc/{pid}/ns/{kind}")
        for number in range(ROUNDS // 2):
            name = f"{other.id}-{number}"
            runtime.create(other, container_id=name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            init = runtime.pid(name)
            runtime.start(name)
            assert runtime.wait(init) == 0
            runtime.delete(name)
    finally:
        os.close(reader)
        os.close(writer)  # which ends the watcher
    assert runtime.wait(pid) == 0
    seen = set(watcher.stdout.splitlines()) - {"watching"}
    # Once the program of the image has been executed, it may be looked at: it is the image's, root and all.
    assert seen <= {"exe -> /bin/busybox", "cwd -> /", "root -> /"}, seen
