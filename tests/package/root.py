"""A root of Debian's in which a test may change everything: an overlay in memory, with processes of its own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

from tests.support import namespaces
from tests.support.runtime import Completed
from tests.support.timing import seconds
from tools import debian_root

SCRIPTS = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NOT_KEPT = ("dev", "proc", "run", "sys", "tmp")
"""Directories that are not the root's own."""


class Root:
    """The root ``lower`` below ``directory``, entered; `stop` ends all that runs in it. Its /tmp is this machine's."""

    def __init__(self, lower: Path, directory: Path) -> None:
        self._memory = directory
        namespaces.mount("tmpfs", str(directory), "tmpfs", data="mode=755")
        upper, work, self.path = (directory / name for name in ("upper", "work", "root"))
        for path in (upper, work, self.path):
            path.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        namespaces.mount("overlay", str(self.path), "overlay", data=options)
        self._process = subprocess.Popen(
            debian_root.inside(self.path, ["sh", "-c", "echo ready; exec sleep infinity"], home=""),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        (self.init,) = map(
            int, Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        )

    def words(self, *words: str | Path) -> list[str]:
        """The command line that runs ``words`` in the root."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--uts", "--ipc", "--root", "--wd=/"]
        return [*enter, *map(str, words)]

    def call(self, *words: str | Path, check: bool = True, output: bool = True, limit: float = 120) -> Completed:
        """Run a command in the root to its end; with ``check`` a status other than 0 fails the test.

        Without ``output``, which what goes on in the background would hold open, it is thrown away.
        """
        where = subprocess.PIPE if output else subprocess.DEVNULL
        result = subprocess.run(
            self.words(*words),
            stdin=subprocess.DEVNULL,
            stdout=where,
            stderr=where,
            text=True,
            env=SCRIPTS,
            timeout=seconds(limit),
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{words}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def files(self) -> dict[str, tuple[int, int]]:
        """Mode and size of every file, without dpkg's own notes; sizes of directories count as 0."""
        found = {}
        for directory, folders, names in os.walk(self.path):
            at = Path(directory).relative_to(self.path)
            if at == Path("."):
                folders[:] = [name for name in folders if name not in NOT_KEPT]
            for name in [*folders, *names]:
                status = os.lstat(Path(directory, name))
                found[str(at / name)] = (status.st_mode, 0 if stat.S_ISDIR(status.st_mode) else status.st_size)
        return {name: value for name, value in found.items() if not name.startswith(("var/lib/dpkg/", "var/log/dpkg"))}

    def run(self) -> set[str]:
        """What is below /run."""
        return set(self.call("find", "/run", "-mindepth", "1").stdout.splitlines())

    def stop(self) -> None:
        """End its processes, and forget what was changed."""
        os.kill(self.init, signal.SIGKILL)
        self._process.communicate(timeout=seconds(20))
        namespaces.unmount(str(self.path))
        namespaces.unmount(str(self._memory))
