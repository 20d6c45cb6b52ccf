"""An ordinary user, without delegated cgroups: the life of a container, where its state is, helpers that refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.installation import Installation
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.ordinary import COUNT, FIRST, UID, User

pytestmark = needs("root", "busybox", "userns", "runtime:gosudacon", "public-interpreter")

SESSION, FALLBACK = Path(f"/run/user/{UID}"), Path(f"/tmp/gosudacon-{UID}")


@pytest.fixture(scope="module")
def installation(machine: None, session_scratch: Path) -> Installation:
    directory = session_scratch / "rootless"
    directory.mkdir()
    value = Installation(directory)
    value.install()
    return value


@pytest.fixture
def user(leftovers: Watch, scratch: Path, installation: Installation) -> Iterator[User]:
    value = User(scratch, installation)
    yield value
    value.remove()
    for path in (SESSION, FALLBACK):
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)


def session(user: int = UID) -> None:
    """What logind makes."""
    SESSION.mkdir(parents=True)
    os.chown(SESSION, user, user)
    SESSION.chmod(0o700)


@pytest.mark.parametrize("place", ["given", "session", "fallback", "another's session", "root's"])
def test_state(user: User, busybox_rootfs: Path, place: str) -> None:
    """Without XDG_RUNTIME_DIR, the state is in the session's directory, else in one in /tmp; all commands find it.

    Root's, which su(1) passes on, is none.
    """
    environment = {}
    root = FALLBACK
    if place == "given":
        root = user.home / "runtime-dir"
        environment = {"XDG_RUNTIME_DIR": str(root)}
    elif place == "session":
        session()
        root = SESSION
    elif place == "root's":
        environment = {"XDG_RUNTIME_DIR": "/run/lock"}
    elif place != "fallback":
        session(0)
    bundle = user.bundle(busybox_rootfs, ["sleep", "1000"])
    user.call(
        user.runtime,
        "run",
        "--detach",
        "c",
        cwd=bundle,
        env=environment,
        outputs=False,
    )
    assert (root / "gosudacon/c/state.json").exists()
    assert (root.stat().st_uid, root.stat().st_mode & 0o077) == (UID, 0) or place == "given"
    assert json.loads(user.call(user.runtime, "state", "c", env=environment).stdout)["status"] == "running"
    assert user.call(user.runtime, "list", "-q", env=environment).stdout == "c\n"
    user.call(user.runtime, "delete", "--force", "c", env=environment)
    assert not (root / "gosudacon/c").exists()


@pytest.mark.parametrize("odd", ["another's", "link", "open", "file"])
def test_a_state_directory_that_others_can_change(user: User, busybox_rootfs: Path, odd: str) -> None:
    """What others could change is refused, and said to be."""
    if odd == "link":
        FALLBACK.symlink_to(user.home)
    elif odd == "file":
        FALLBACK.touch()
    else:
        FALLBACK.mkdir()
    if odd == "open":
        os.chown(FALLBACK, UID, UID)
        FALLBACK.chmod(0o777)
    bundle = user.bundle(busybox_rootfs, ["true"])
    result = user.call(user.runtime, "run", "c", cwd=bundle, check=False)
    assert result.returncode == 1
    assert f"{FALLBACK} is not a directory of this user's alone" in result.stderr
    if odd == "file":
        FALLBACK.unlink()


def test_life(user: User, busybox_rootfs: Path) -> None:
    """Everything that needs no cgroup works, and what does says so."""
    session()
    bundle = user.bundle(busybox_rootfs, ["sleep", "1000"])
    user.call(user.runtime, "run", "--detach", "c", cwd=bundle, outputs=False)
    assert user.call(user.runtime, "exec", "c", "id", "-u").stdout == "0\n"
    assert len(json.loads(user.call(user.runtime, "ps", "--format", "json", "c").stdout)) == 1
    for words, said in (
        (["pause", "c"], "the container has no freezer cgroup"),
        (["events", "--stats", "c"], "the container has no cgroup"),
        (["update", "--pids-limit", "5", "c"], "no permission to make a cgroup"),
    ):
        result = user.call(user.runtime, *words, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert said in result.stderr
    user.call(user.runtime, "kill", "c", "KILL")
    user.call(user.runtime, "delete", "--force", "c")


def mapped(bundle: Path, first: int) -> Path:
    """More ids than the user's own."""
    config = json.loads((bundle / "config.json").read_text())
    for key in ("uidMappings", "gidMappings"):
        config["linux"][key].append({"containerID": 1, "hostID": first, "size": COUNT})
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


@needs("program:newuidmap")
def test_helpers(user: User, busybox_rootfs: Path) -> None:
    bundle = mapped(user.bundle(busybox_rootfs, ["cat", "/proc/self/uid_map", "/proc/self/gid_map"]), FIRST)
    result = user.call(user.runtime, "run", "c", cwd=bundle)
    lines = [[int(word) for word in line.split()] for line in result.stdout.splitlines()]
    assert lines == [[0, UID, 1], [1, FIRST, COUNT]] * 2


@needs("program:newuidmap")
def test_helpers_refuse(user: User, busybox_rootfs: Path) -> None:
    """In the words of newuidmap."""
    bundle = mapped(user.bundle(busybox_rootfs, ["true"]), FIRST + 7)
    result = user.call(user.runtime, "run", "c", cwd=bundle, check=False)
    assert result.returncode == 1
    assert "newuidmap failed: uid range" in result.stderr and "not allowed" in result.stderr


@pytest.mark.parametrize("program", ["newuidmap", "newgidmap"])
@needs("program:newuidmap")
def test_no_helpers(user: User, busybox_rootfs: Path, program: str) -> None:
    bundle = mapped(user.bundle(busybox_rootfs, ["true"]), FIRST)
    place = os.path.realpath(shutil.which(program) or "")
    namespaces.mount("/dev/null", place, "none", namespaces.MS_BIND)
    try:
        result = user.call(user.runtime, "run", "c", cwd=bundle, check=False)
    finally:
        namespaces.unmount(place)
    assert result.returncode == 1
    assert f"{program} is not installed" in result.stderr


@needs("kernel>=5.9")
def test_learn(user: User, busybox_rootfs: Path) -> None:
    """A user's own recorder answers for the user's own container; the profile is in the working directory."""
    session()
    bundle = user.bundle(busybox_rootfs, ["mkdir", "/dev/made"])
    result = user.call(user.runtime, "learn", "c", cwd=bundle)
    assert "mkdir" in result.stderr and "/bin/busybox" in result.stderr
    names = {name for rule in json.loads((bundle / "seccomp.json").read_text())["syscalls"] for name in rule["names"]}
    assert {"execve", "mkdir"} <= names


def test_doctor_for_an_ordinary_user(user: User) -> None:
    """It finds what the user has, says what is lacking, and makes nothing: not even the directory of states."""
    found = json.loads(user.call(user.runtime, "doctor", "--format", "json").stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert found["works"]
    assert rows["subuid"]["found"] == f"{COUNT} from {FIRST}"
    assert (rows["state root"]["mark"], rows["seal"]["mark"]) == ("less", "ok")
    assert str(FALLBACK) in rows["state root"]["found"]
    assert not FALLBACK.exists()
    assert list(user.home.iterdir()) == []
    session()
    rows = {row["name"]: row for row in json.loads(user.call(user.runtime, "doctor", "--format=json").stdout)["rows"]}
    assert rows["state root"]["found"] == f"{SESSION}/gosudacon, to be made"


def test_installed_in_the_home_directory(user: User, installation: Installation, busybox_rootfs: Path) -> None:
    """A user installs it for containers of that user; root refuses to run what the user can change."""
    package = user.home / "packages/gosudacon"
    shutil.copytree(installation.package, package)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", package.parent], check=True)
    prefix = user.home / ".local"
    user.call(sys.executable, "-B", package / "__main__.py", "install", "--prefix", prefix)
    command = prefix / "bin/gosudacon"
    bundle = user.bundle(busybox_rootfs, ["echo", "hello"])
    assert user.call(command, "run", "c", cwd=bundle).stdout == "hello\n"
    refused = subprocess.run([command, "list"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "can be written to by others than root: refusing to run its code as root" in refused.stderr
