"""Podman with storage, state, configuration and cgroups of its own, and conmon under it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.daemon import Completed, checked
from tests.support import cgroups, namespaces
from tests.support.console import Terminal
from tests.support.processes import descendants
from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually, seconds

IMAGE = "docker.io/gosudacon/busybox:test"
USER_IMAGE = "docker.io/gosudacon/busybox:user"

GUIDE = CHECKOUT / "docs/integration.md"
INSTALLED = "/usr/local/bin/gosudacon"

# What does not concern the runtime.  Podman asks for 1048576 descriptors unless told otherwise: CAP_SYS_RESOURCE.
_CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
netns = "none"
"""
_ENGINE = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
num_locks = 256
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{base}/graph"
runroot = "{base}/run"
"""


def snippet(kind: str) -> str:
    """The lines for containers.conf in the guide: ``name`` or ``default``."""
    pattern = rf"^<!-- tests/clients/podman.py: {kind} -->\n```toml\n(.*?)^```$"
    found = re.search(pattern, GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Podman:
    """Calls of ``podman``; containers run with the runtime named ``gosudacon``, which is ``runtime``."""

    def __init__(self, base: Path, runtime: Path, cgroup_parent: str) -> None:
        self.base = base
        self.runtime = runtime
        self.cgroup_parent = cgroup_parent
        base.mkdir()
        (base / "tmp").mkdir()
        for name, kind in (("containers.conf", "name"), ("default.conf", "default")):
            text = snippet(kind).replace(INSTALLED, str(runtime))
            (base / name).write_text(text.replace("[engine]\n", _ENGINE) + _CONTAINERS)
        (base / "storage.conf").write_text(_STORAGE.format(base=base))
        (base / "registries.conf").write_text("unqualified-search-registries = []\n")

    def environment(self, conf: str = "containers.conf") -> dict[str, str]:
        """The environment in which podman finds its own configuration and none of the machine's."""
        return {
            **{name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"},
            "CONTAINERS_CONF": f"{self.base}/{conf}",
            "CONTAINERS_STORAGE_CONF": f"{self.base}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self.base}/registries.conf",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "TMPDIR": f"{self.base}/tmp",
        }

    def words(self, *arguments: str | Path, runtime: str | Path | None = "gosudacon") -> list[str]:
        """The command line of podman with these arguments; no ``--runtime`` if that is None."""
        chosen = ["--runtime", str(runtime)] if runtime else []
        places = ["--root", f"{self.base}/graph", "--runroot", f"{self.base}/run", "--tmpdir", f"{self.base}/libpod"]
        return ["podman", *places, *chosen, *map(str, arguments)]

    def call(
        self,
        *arguments: str | Path,
        check: bool = True,
        limit: float = 60,
        runtime: str | Path | None = "gosudacon",
        conf: str = "containers.conf",
        **kw: Any,
    ) -> Completed:
        """Run podman to its end; with ``check`` a status other than 0 fails the test."""
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("env", self.environment(conf))
        words = self.words(*arguments, runtime=runtime)
        result = subprocess.run(
            words, capture_output=True, text=True, timeout=seconds(limit), check=False, cwd="/", **kw
        )
        return checked(result) if check else result

    def output(self, *arguments: str | Path, **kw: Any) -> str:
        """What podman writes to standard output, without white space around it."""
        return self.call(*arguments, **kw).stdout.strip()

    def options(self, *options: str | Path) -> list[str | Path]:
        """Options of ``run`` and ``create``: these, and a cgroup parent of the tests' own."""
        return ["--cgroup-parent", self.cgroup_parent, *options]

    def run(self, command: str | Sequence[str], *options: str | Path, image: str = IMAGE, **kw: Any) -> Completed:
        """``podman run --rm``; a string is for ``sh -c``."""
        return self.call("run", "--rm", *self.options(*options), image, *shell(command), **kw)

    def start(self, command: str | Sequence[str], *options: str | Path, image: str = IMAGE, **kw: Any) -> str:
        """``podman run --detach``; the container's id."""
        return self.output("run", "--detach", *self.options(*options), image, *shell(command), **kw)

    def inspect(self, container: str, form: str) -> str:
        """A field of ``podman inspect``, in Go's template language."""
        return self.output("inspect", "--format", "{{" + form + "}}", container)

    def spec(self, container: str) -> dict[str, Any]:
        """The config.json that podman has written for a container."""
        value = json.loads(Path(self.inspect(container, ".OCIConfigPath")).read_text())
        assert isinstance(value, dict)
        return value

    def pid(self, container: str) -> int:
        """The host's number of the container's first process."""
        return int(self.inspect(container, ".State.Pid"))

    def status(self, container: str) -> str:
        """``created``, ``running``, ``paused``, ``exited``..."""
        return self.inspect(container, ".State.Status")

    def ready(self, container: str, path: str = "ready") -> None:
        """Wait until there is a file of this name in the container's root."""
        root = Path(f"/proc/{self.pid(container)}/root")
        eventually(lambda: (root / path).exists(), 20, f"/{path} in {container}")

    def remove(self, *containers: str) -> None:
        """``podman rm --force --time 0``."""
        self.call("rm", "--force", "--time", "0", *containers)

    def cgroup(self, container: str) -> str:
        """The path of a running container's cgroup, the same in all hierarchies."""
        paths = set(cgroups.of_process(self.pid(container)).values())
        found = {path for path in paths if self.cgroup_parent in path}
        assert len(found) == 1, paths
        return found.pop()

    def left(self) -> list[str]:
        """Directories of containers and volumes that there are, and files that libpod keeps for containers."""
        patterns = ("graph/overlay-containers/*/", "run/overlay-containers/*/", "graph/volumes/*/", "libpod/exits/*")
        found = [str(path) for pattern in patterns for path in self.base.glob(pattern)]
        known = self.base / "graph/overlay-containers/containers.json"  # from Podman 5 on not before it is needed
        return found + [f"container {item['id']}" for item in json.loads(known.read_text() if known.exists() else "[]")]

    def _busy(self) -> bool:
        """Whether a podman or conmon of ours is at work, as podman is that conmon calls to clean up."""
        for process in descendants():
            try:
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            except OSError:
                continue
            if bytes(self.base) in words:
                return True
        return False

    def unmount(self) -> None:
        """Take away what podman mounts over its storage when it needs it, and only sometimes unmounts."""
        eventually(lambda: not self._busy(), 20, "the end of podman and conmon")
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if line.split()[1] == f"{self.base}/graph/overlay":
                namespaces.unmount(line.split()[1])

    def remove_all(self) -> None:
        """Remove pods, containers and volumes by force."""
        self.call("pod", "rm", "--all", "--force", "--time", "0", check=False)
        self.call("rm", "--all", "--force", "--time", "0", check=False)
        self.call("volume", "rm", "--all", "--force", check=False)

    @contextmanager
    def terminal(self, *arguments: str | Path) -> Iterator[tuple[Terminal, Callable[[], int]]]:
        """Podman in a session of its own on a new terminal; the terminal, and a function that waits for the status."""
        master, slave = pty.openpty()
        client = subprocess.Popen(
            self.words(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd="/",
            env=self.environment(),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        terminal = Terminal(master)
        try:
            yield terminal, lambda: client.wait(seconds(30))
        finally:
            client.kill()
            client.wait()
            terminal.close()


def shell(command: str | Sequence[str]) -> list[str]:
    """The words of a command; a string is for ``sh -c``."""
    return ["sh", "-c", command] if isinstance(command, str) else list(command)
