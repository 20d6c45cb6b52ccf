"""Docker's rootless mode: a dockerd of an ordinary user's, and a runtime that was installed for all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.clients.daemon import checked, end_templates, templates
from tests.clients.dockerd import IMAGE, NEWER, PROGRAM, shim_json
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.ordinary import COUNT, FIRST, UID, User, logged_in
from tests.support.processes import end
from tests.support.runtime import Completed
from tests.support.timing import eventually

pytestmark = needs(
    "program:dockerd", "program:rootlesskit", "program:newuidmap", "runtime:gosudacon", "public-interpreter"
)

# What dockerd-rootless.sh does before it executes dockerd: /etc and /run are copies, and other daemons' places go. The
# network namespace is one of the user's, as there, but with nothing in it.
_INSIDE = """
rm -rf /run/docker /run/containerd /run/xtables.lock
exec unshare --net dockerd --rootless --config-file {home}/daemon.json
"""


class RootlessDocker:
    """A dockerd in a user namespace of its own, whose socket is in the session's directory."""

    def __init__(self, user: User, session: Path, runtime: dict[str, str]) -> None:
        self.user = user
        self.log = user.home / "log"
        self._host = f"unix://{session}/docker.sock"
        settings = {
            "default-runtime": "gosudacon",
            "runtimes": {"gosudacon": runtime},
            "data-root": str(user.home / "data"),
            "exec-root": str(session / "docker"),
            "pidfile": str(session / "docker.pid"),
            "hosts": [self._host],
            "storage-driver": "vfs",
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
        }
        (user.home / "daemon.json").write_text(json.dumps(settings))
        words = ["rootlesskit", "--net=host", f"--state-dir={session}/kit", "--copy-up=/etc", "--copy-up=/run"]
        words += ["--propagation=rslave", "sh", "-c", _INSIDE.format(home=user.home)]
        path = f"{user.runtime.parent}:{NEWER}:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "HOME": str(user.home), "XDG_RUNTIME_DIR": str(session)}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=user.home,
                env=environment,
                user=UID,
                group=UID,
                extra_groups=[],
            )
        try:
            eventually(self._answers, 40, "the answer of dockerd")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-4000:]}") from None

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"rootlesskit has ended with status {self._process.returncode}"
        return self.docker("ps", check=False).returncode == 0  # `version` needs RootlessKit to have made a network

    def docker(self, *words: str | Path, check: bool = True) -> Completed:
        """Run ``docker`` as the user to its end."""
        result = self.user.call(PROGRAM, "--host", self._host, *words, check=False, limit=120)
        return checked(result) if check else result

    def run(self, command: str | Sequence[str], *options: str, check: bool = True) -> Completed:
        """``docker run --rm`` without a network; a string is for ``sh -c``."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return self.docker("run", "--rm", "--network=none", *options, IMAGE, *words, check=check)

    def stop(self) -> None:
        """End the daemon with all that is in its namespaces."""
        end(self._process, 30)


@pytest.fixture(scope="module", params=["runc", "shim"])
def rootless(
    request: pytest.FixtureRequest, machine: None, session_scratch: Path, busybox_rootfs: Path
) -> Iterator[RootlessDocker]:
    """The daemon of a user, with the runtime under test below the shim for runc, and again with our shim."""
    ours = shim_json()["runtimes"]["gosudacon"] if request.param == "shim" else None
    directory = session_scratch / f"dockless-{request.param}"
    with logged_in(directory) as (user, session):
        before = templates()
        daemon = RootlessDocker(user, session, ours or {"path": str(user.runtime)})
        try:
            subprocess.run(["tar", "-C", busybox_rootfs, "-cf", directory / "image.tar", "."], check=True)
            daemon.docker("import", "--change", "CMD sh", directory / "image.tar", IMAGE)
            daemon.run("true")  # which makes a template of shims, and that stays
            yield daemon
        finally:
            daemon.stop()
            end_templates(before)


@pytest.fixture
def docker(rootless: RootlessDocker, leftovers: Watch) -> Iterator[RootlessDocker]:
    yield rootless
    left = rootless.docker("ps", "--all", "--quiet").stdout.split()
    if left:
        rootless.docker("rm", "--force", *left)


def test_output_and_status(docker: RootlessDocker) -> None:
    result = docker.run("id -u; cat /proc/self/uid_map; echo err >&2; exit 7", check=False)
    lines = [[int(word) for word in line.split()] for line in result.stdout.splitlines()]
    assert (result.returncode, lines, result.stderr) == (7, [[0], [0, UID, 1], [1, FIRST, COUNT]], "err\n")


def test_the_runtime_is_ours(docker: RootlessDocker) -> None:
    name = docker.docker("run", "--detach", "--network=none", IMAGE, "sleep", "1000").stdout.strip()
    assert docker.docker("inspect", "--format", "{{.HostConfig.Runtime}} {{.State.Running}}", name).stdout == (
        "gosudacon true\n"
    )


def test_a_user_of_the_image(docker: RootlessDocker) -> None:
    assert docker.run("id -u", "--user", "1000").stdout == "1000\n"


def test_life(docker: RootlessDocker) -> None:
    """A container in the background, exec, signals, and its end."""
    docker.docker("run", "--detach", "--name", "one", "--network=none", IMAGE, "sleep", "1000")
    assert docker.docker("exec", "one", "sh", "-c", "echo in; exit 3", check=False).stdout == "in\n"
    assert docker.docker("exec", "--user", "1000", "one", "id", "-u").stdout == "1000\n"
    docker.docker("restart", "--time", "0", "one")
    docker.docker("kill", "one")
    assert docker.docker("wait", "one").stdout == "137\n"
    assert "one" in docker.docker("ps", "--all", "--format", "{{.Names}}").stdout
    docker.docker("rm", "one")


def test_volumes_and_a_read_only_root(docker: RootlessDocker) -> None:
    (docker.user.home / "data-of-user").mkdir(exist_ok=True)
    os.chown(docker.user.home / "data-of-user", UID, UID)
    script = "echo text >/v/file; touch /x 2>&1; echo end"
    result = docker.run(script, "--read-only", "--volume", f"{docker.user.home}/data-of-user:/v")
    assert "Read-only file system" in result.stdout and result.stdout.endswith("end\n")
    assert (docker.user.home / "data-of-user/file").read_text() == "text\n"
    assert (docker.user.home / "data-of-user/file").stat().st_uid == UID


def test_a_terminal(docker: RootlessDocker) -> None:
    assert "/dev/pts/0" in docker.run("tty", "--tty").stdout


def test_a_command_that_is_not_there(docker: RootlessDocker) -> None:
    result = docker.run(["nosuch"], check=False)
    assert result.returncode == 127
    assert 'exec: "nosuch": executable file not found in $PATH' in result.stderr


def test_privileged_is_no_more_than_the_user(docker: RootlessDocker) -> None:
    assert docker.run("mount -t tmpfs t /mnt && echo mounted", "--privileged").stdout == "mounted\n"
