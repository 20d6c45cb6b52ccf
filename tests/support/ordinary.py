"""An ordinary user of the run's own: in its private /etc, with ids to map, a home, and a runtime installed for all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.installation import Installation
from tests.support.runtime import Completed
from tests.support.timing import seconds

UID, NAME = 4321, "gtuser"
FIRST, COUNT = 500000, 65536  # of the ids in /etc/subuid and /etc/subgid
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LINES = {
    "passwd": f"{NAME}:x:{UID}:{UID}::{{home}}:/bin/sh",
    "group": f"{NAME}:x:{UID}:",
    "subuid": f"{NAME}:{FIRST}:{COUNT}",
    "subgid": f"{NAME}:{FIRST}:{COUNT}",
}


class User:
    """The user, and the command that an administrator has installed: ``runtime``."""

    def __init__(self, directory: Path, installation: Installation) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        os.chown(self.home, UID, UID)
        self._saved = {name: Path("/etc", name).read_bytes() for name in _LINES if Path("/etc", name).exists()}
        for name, line in _LINES.items():
            with Path("/etc", name).open("a") as file:
                file.write(f"{line.format(home=self.home)}\n")
        self.runtime = installation.command

    def remove(self) -> None:
        """Take the user out of the run's /etc."""
        for name, content in self._saved.items():
            Path("/etc", name).write_bytes(content)

    def call(
        self,
        *words: str | Path,
        check: bool = True,
        outputs: bool = True,
        env: Mapping[str, str] | None = None,
        limit: float = 60,
        **kw: Any,
    ) -> Completed:
        """Run a command as this user to its end; with ``check`` a status other than 0 fails the test.

        Without ``outputs``, which what goes on in the background would hold open, they are thrown away.
        """
        kw.setdefault("cwd", self.home)
        kw.setdefault("stdin", subprocess.DEVNULL)
        result = subprocess.run(
            [*map(str, words)],
            env={"PATH": _PATH, "HOME": str(self.home), "USER": NAME, **(env or {})},
            user=UID,
            group=UID,
            extra_groups=[],
            umask=0o022,
            stdout=subprocess.PIPE if outputs else subprocess.DEVNULL,
            stderr=subprocess.PIPE if outputs else subprocess.DEVNULL,
            text=True,
            timeout=seconds(limit),
            check=False,
            **kw,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{result.args}: exit status {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def bundle(self, rootfs: Path, args: Sequence[str], name: str = "bundle") -> Path:
        """A bundle as `spec --rootless` makes it for this user."""
        path = self.home / name
        shutil.copytree(rootfs, path / "rootfs", symlinks=True)
        subprocess.run(["chown", "-hR", f"{UID}:{UID}", path], check=True)
        self.call(self.runtime, "spec", "--rootless", cwd=path)
        text = (path / "config.json").read_text()
        words = ", ".join(f'"{word}"' for word in args)
        text = text.replace('"terminal": true', '"terminal": false').replace('"sh"\n', f"{words}\n")
        (path / "config.json").write_text(text)
        return path


def can_start() -> bool:
    """Whether the interpreter of the tests is one that an ordinary user can start."""
    command = [os.path.realpath(sys.executable), "-I", "-c", "pass"]
    try:
        return subprocess.run(command, user=UID, group=UID, extra_groups=[], capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def logged_in(directory: Path) -> Iterator[tuple[User, Path]]:
    """The user with a runtime installed for all below ``directory``, which is made, and the session's directory."""
    directory.mkdir()
    installation = Installation(directory)
    installation.install()
    user = User(directory, installation)
    session = Path(f"/run/user/{UID}")
    session.mkdir(parents=True)
    os.chown(session, UID, UID)
    session.chmod(0o700)
    try:
        yield user, session
    finally:
        user.remove()
        shutil.rmtree(session, ignore_errors=True)
