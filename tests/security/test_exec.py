"""exec as a way out of a container, or into the runtime: G1, G2, G3, G12 and G13 for processes that come later."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security import attack
from tests.security.test_proc_access import ROUNDS, privileged
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime
from tests.support.timing import eventually

Bundles = Callable[..., Bundle]
Caller = Callable[[Runtime, str], None]
Plant = Callable[[Bundle, str], str]

PYTHON = Path(os.path.realpath(sys.executable))
NUMBERS = range(3, 21)
LEAK = f"root = os.dup2(os.open('/', os.O_RDONLY), 100, False); [os.dup2(root, number) for number in {[*NUMBERS]}]"
SLEEP = ["/bin/sleep", "1000"]


# G1: the interpreter's text (CVE-2019-5736).


@pytest.fixture
def _untouched() -> Iterator[None]:
    before = hashlib.sha256(PYTHON.read_bytes()).digest()
    yield
    assert hashlib.sha256(PYTHON.read_bytes()).digest() == before


@needs("compiler")
@pytest.mark.parametrize("entry", attack.ENTRIES)
@pytest.mark.parametrize("capabilities", ["default", "more"])
@pytest.mark.usefixtures("_untouched")
def test_what_is_executed_is_the_runtime_itself(
    runtime: Runtime, bundle: Bundle, entry: str, capabilities: str
) -> None:
    attack.plant(bundle.rootfs, PYTHON)
    if capabilities == "more":
        privileged(bundle, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
    runtime.boot(bundle.set("process.args", SLEEP).set("process.noNewPrivileges", False))
    result = runtime.call("exec", bundle.id, attack.ENTRIES[entry], check=False)
    assert result.returncode == 0, result
    assert "handle to" in result.stdout and "VULNERABLE" not in result.stdout, result


# G2: descriptors of the host (CVE-2024-21626).


@pytest.fixture
def marked(scratch: Path) -> Path:
    directory = scratch / "host"
    directory.mkdir()
    (directory / "mark").write_text("of the host\n")
    (directory / "program").write_text("#!/bin/sh\necho of the host\n")
    (directory / "program").chmod(0o755)
    return directory


def refused(result: Completed) -> None:
    assert result.returncode == 255, result
    assert "of the host" not in result.stdout + result.stderr.replace("exec failed", "")


@pytest.mark.parametrize("tail", ["", "/../../..", "/tmp"])
@pytest.mark.parametrize("table", ["/proc/self/fd", "/proc/1/fd", "/dev/fd"])
def test_a_descriptor_as_working_directory(
    runtime: Runtime, caller: Caller, bundle: Bundle, marked: Path, table: str, tail: str
) -> None:
    caller(runtime, LEAK)
    runtime.boot(bundle.set("process.args", SLEEP))
    for number in NUMBERS if table == "/proc/self/fd" and not tail else (3, 5, 9):
        place = "../" * 12 + str(marked).lstrip("/") + "/mark"
        refused(runtime.call("exec", "--cwd", f"{table}/{number}{tail}", bundle.id, "cat", place, check=False))


@pytest.mark.parametrize("namespace", ["own", "none"])
def test_a_program_behind_a_descriptor(
    runtime: Runtime, caller: Caller, bundle: Bundle, marked: Path, namespace: str
) -> None:
    """Whether there is a mount namespace to leave the host's directories behind in, or chroot(2) only."""
    caller(runtime, LEAK)
    if namespace == "none":
        bundle.drop_namespace("mount").update({"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}})
    for number in NUMBERS:
        (bundle.rootfs / f"l{number}").symlink_to(f"/proc/self/fd/{number}{marked}/program")
    runtime.boot(bundle.set("process.args", SLEEP))
    for number in NUMBERS:
        for program in (f"/proc/self/fd/{number}{marked}/program", f"/l{number}"):
            refused(runtime.call("exec", bundle.id, program, check=False))


def test_a_link_in_the_image_as_working_directory(
    runtime: Runtime, caller: Caller, bundle: Bundle, marked: Path
) -> None:
    caller(runtime, LEAK)
    for number in NUMBERS:
        (bundle.rootfs / f"c{number}").symlink_to(f"/proc/self/fd/{number}")
    runtime.boot(bundle.set("process.args", SLEEP))
    for number in NUMBERS:
        refused(runtime.call("exec", "--cwd", f"/c{number}", bundle.id, "pwd", check=False))


def test_nothing_leaks(runtime: Runtime, caller: Caller, bundle: Bundle, plant: Plant) -> None:
    program = plant(bundle, "self")
    (bundle.rootfs / "facts").touch()
    runtime.boot(bundle.set("process.args", SLEEP))
    caller(runtime, LEAK)
    runtime.call("exec", bundle.id, program, "/facts", options=["--log", bundle.path / "log"])
    found = [line.split()[0] for line in (bundle.rootfs / "facts").read_text().splitlines() if line.startswith("fd/")]
    assert sorted(found) == ["fd/0", "fd/1", "fd/2"]


# G3: who is in the container looks at who comes in (CVE-2016-9962).


@pytest.mark.parametrize("shape", ["plain", "user namespace", "user"])
def test_nothing_is_seen_of_a_process_on_its_way_in(
    runtime: Runtime, make_bundle: Bundles, plant: Plant, shape: str
) -> None:
    bundle = privileged(make_bundle(), *(["CAP_SYS_PTRACE"] if shape == "user namespace" else []))
    if shape == "user namespace":
        bundle.map_users()
    bundle.set("process.args", [plant(bundle, "scan"), "watch"])
    reader, writer = os.pipe()
    process = bundle.path / "process.json"
    user = {"uid": 1000, "gid": 1000} if shape == "user" else {"uid": 0, "gid": 0}
    process.write_text(json.dumps({"args": ["/bin/true"], "cwd": "/", "user": user}))
    try:
        runtime.run(bundle, "--detach", stdin=reader)
        eventually(lambda: "watching" in bundle.stdout, 10, "the watcher's first look")
        pid = runtime.pid(bundle)
        for _ in range(ROUNDS):
            runtime.call("exec", "--process", process, bundle.id)
    finally:
        os.close(reader)
        os.close(writer)  # which ends the watcher
    assert runtime.wait(pid) == 0
    seen = set(bundle.stdout.splitlines()) - {"watching"}
    # Once the program of the image has been executed, it may be looked at: it is the image's, root and all.
    assert seen <= {"exe -> /bin/busybox", "cwd -> /", "root -> /"}, seen


# The container's own files, read on the way.


def test_a_hostile_image_is_not_asked_for_code(runtime: Runtime, bundle: Bundle) -> None:
    """What an interpreter might load at a late moment is there, and would hang it: it is not opened."""
    for name in ("usr/lib/python3.11/os.py", "usr/lib/python3.11/encodings/idna.py", "etc/ld.so.cache", "etc/group"):
        path = bundle.rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    (bundle.rootfs / "etc/passwd").unlink()
    os.mkfifo(bundle.rootfs / "etc/passwd")
    runtime.boot(bundle.set("process.args", SLEEP))
    result = runtime.call("exec", bundle.id, "/bin/sh", "-c", "echo $HOME", limit=10)
    assert result.stdout == "/\n"
    assert runtime.call("exec", "--cwd", "/nowhere", bundle.id, "true", check=False, limit=10).returncode == 255
