"""Podman of an ordinary user, with the runtime that an administrator has installed for all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.clients.image import write_image
from tests.clients.podman import IMAGE, shell, snippet
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.ordinary import COUNT, FIRST, UID, User, logged_in
from tests.support.processes import descendants
from tests.support.runtime import Completed
from tests.support.timing import eventually

pytestmark = needs("program:podman", "program:newuidmap", "runtime:gosudacon", "public-interpreter")

# Podman asks for more open files and processes than an ordinary user may have.
_MORE = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
netns = "none"
"""
_STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{home}/graph"
runroot = "{session}/run"
"""


class Rootless:
    """Calls of podman as an ordinary user, whose session is ``session``."""

    def __init__(self, user: User, session: Path) -> None:
        self.user = user
        self.environment = {
            "XDG_RUNTIME_DIR": str(session),
            "CONTAINERS_CONF": f"{user.home}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{user.home}/storage.conf",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        text = snippet("name").replace("/usr/local/bin/gosudacon", str(user.runtime))
        text = text.replace("[engine]\n", '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n') + _MORE
        (user.home / "containers.conf").write_text(text)
        (user.home / "storage.conf").write_text(_STORAGE.format(home=user.home, session=session))

    def call(self, *words: str | Path, check: bool = True, outputs: bool = True) -> Completed:
        """Run podman with these arguments to its end."""
        command = ["podman", "--runtime", "gosudacon", *map(str, words)]
        return self.user.call(*command, check=check, outputs=outputs, env=self.environment, limit=120)

    def run(self, command: str | Sequence[str], *options: str, check: bool = True) -> Completed:
        """``podman run --rm``; a string is for ``sh -c``."""
        return self.call("run", "--rm", *options, IMAGE, *shell(command), check=check)


@pytest.fixture(scope="module")
def rootless(machine: None, session_scratch: Path, busybox_rootfs: Path) -> Iterator[Rootless]:
    directory = session_scratch / "podless"
    with logged_in(directory) as (user, session):
        podman = Rootless(user, session)
        write_image(directory / "image.tar", busybox_rootfs, IMAGE, {})
        podman.call("load", "--input", directory / "image.tar")
        podman.run("true")  # makes what stays, such as the process that keeps the user namespace
        yield podman
        podman.call("rm", "--all", "--force", "--time", "0", check=False)
        podman.call("unshare", "rm", "-rf", user.home / "graph", check=False)
        podman.call("system", "migrate", check=False)  # ends the process that keeps the user namespace
        eventually(
            lambda: not [each for each in descendants() if _is_of(each.pid)], 20, "the end of podman's processes"
        )


def _is_of(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == UID and Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.fixture
def podman(rootless: Rootless, leftovers: Watch) -> Rootless:
    return rootless


def test_output_and_status(podman: Rootless) -> None:
    result = podman.run("id -u; cat /proc/self/uid_map; exit 7", check=False)
    lines = [[int(word) for word in line.split()] for line in result.stdout.splitlines()]
    assert (result.returncode, lines) == (7, [[0], [0, UID, 1], [1, FIRST, COUNT]]), result.stderr


def test_a_user_of_the_image(podman: Rootless) -> None:
    assert podman.run("id -u", "--user", "1000").stdout == "1000\n"
    assert podman.run("id -u", "--userns", "keep-id").stdout == f"{UID}\n"


def test_life(podman: Rootless) -> None:
    """A container in the background, exec, inspect, signals, and its end."""
    podman.call("run", "--detach", "--name", "c", IMAGE, "sleep", "1000", outputs=False)
    assert podman.call("exec", "c", "sh", "-c", "echo in; exit 3", check=False).stdout == "in\n"
    found = json.loads(podman.call("inspect", "c").stdout)[0]
    assert found["State"]["Status"] == "running" and found["OCIRuntime"] == "gosudacon"
    podman.call("kill", "--signal", "KILL", "c")
    assert podman.call("wait", "c").stdout == "137\n"
    podman.call("rm", "c")
    assert podman.call("ps", "--all", "--quiet").stdout == ""


def test_errors(podman: Rootless) -> None:
    result = podman.run(["missing-program"], check=False)
    assert result.returncode == 127
    assert 'exec: "missing-program": executable file not found in $PATH' in result.stderr


def test_volume(podman: Rootless) -> None:
    (podman.user.home / "data").mkdir()
    os.chown(podman.user.home / "data", UID, UID)
    podman.run("echo hi >/data/file", "--volume", f"{podman.user.home}/data:/data")
    file = podman.user.home / "data/file"
    assert (file.read_text(), file.stat().st_uid) == ("hi\n", UID)


def test_state_of_the_user(podman: Rootless) -> None:
    """The state is below the session's directory, and nothing of a container's stays."""
    states = Path(podman.environment["XDG_RUNTIME_DIR"], "gosudacon")
    podman.call("run", "--detach", "--name", "s", IMAGE, "sleep", "1000", outputs=False)
    assert len(list(states.iterdir())) == 1
    podman.call("rm", "--force", "--time", "0", "s")
    assert list(states.iterdir()) == []
