"""The runtime under test, called as its callers call it: by its command line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.timing import eventually, seconds

CHECKOUT = Path(__file__).resolve().parents[2]

Completed = subprocess.CompletedProcess[str]


def runtime_command() -> list[str]:
    """How to call the runtime under test: ``$GOSUDACON``, split as a shell does, else this checkout."""
    chosen = os.environ.get("GOSUDACON", "")
    if chosen:
        return shlex.split(chosen)
    return [sys.executable, "-B", str(CHECKOUT / "gosudacon/__main__.py")]


def runtime_name(command: Sequence[str]) -> str:
    """``gosudacon``, ``runc``, ``crun``...: the runtime's own name, not what it says for callers of runc."""
    program = Path(command[-1])
    return "gosudacon" if program.name == "__main__.py" else program.resolve().name


class Runtime:
    """The runtime with a private ``--root``; every call returns the completed process.

    ``create`` and ``run`` take the id from the bundle unless one is given, and send standard output and error
    of runtime and container to files in the bundle (``Bundle.stdout``, ``Bundle.stderr``), since a container
    that goes on holds them open.  With ``check`` (the default) a status other than 0 fails the test.
    """

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self.command = list(command)
        self.name = runtime_name(command)
        self.root = root
        self.created: list[str] = []

    def call(
        self,
        *arguments: str | Path,
        options: Sequence[str | Path] = (),
        check: bool = True,
        limit: float = 30.0,
        stdin: str | IO[Any] | int | None = None,
        outputs: tuple[Path, Path] | None = None,
        **popen: Any,
    ) -> Completed:
        """Run ``RUNTIME --root ROOT OPTIONS ARGUMENTS`` to its end, at most ``limit`` seconds.

        ``stdin`` is text, a file or a descriptor (default: nothing); ``outputs`` are files for its two
        outputs; anything more goes to ``subprocess.Popen``.  A call that takes too long is killed and raises
        TimeoutExpired.
        """
        words = [*self.command, "--root", str(self.root), *map(str, options), *map(str, arguments)]
        with tempfile.TemporaryDirectory(prefix="gt-io-") as scratch:
            out, err = outputs or (Path(scratch) / "out", Path(scratch) / "err")
            with out.open("ab") as stdout, err.open("ab") as stderr, _input(stdin, Path(scratch)) as source:
                offsets = stdout.tell(), stderr.tell()
                popen.setdefault("stdin", source)
                popen.setdefault("stdout", stdout)
                popen.setdefault("stderr", stderr)
                child = subprocess.Popen(words, **popen)
                try:
                    status = child.wait(seconds(limit))
                except BaseException:
                    child.kill()
                    child.wait()
                    raise
            texts = [
                path.read_bytes()[start:].decode(errors="replace")
                for path, start in zip((out, err), offsets, strict=True)
            ]
        result = Completed(words, status, *texts)
        if check and status != 0:
            raise AssertionError(f"{shlex.join(words)}: exit status {status}\n{result.stdout}{result.stderr}")
        return result

    def create(self, bundle: Bundle, *extra: str | Path, container_id: str | None = None, **kw: Any) -> Completed:
        """``create --bundle BUNDLE EXTRA ID``."""
        return self._start("create", bundle, extra, container_id, kw)

    def run(self, bundle: Bundle, *extra: str | Path, container_id: str | None = None, **kw: Any) -> Completed:
        """``run --bundle BUNDLE EXTRA ID``; not checked by default, since the status is the container's."""
        kw.setdefault("check", "--detach" in extra or "-d" in extra)
        return self._start("run", bundle, extra, container_id, kw)

    def _start(
        self, verb: str, bundle: Bundle, extra: Sequence[str | Path], given: str | None, kw: dict[str, Any]
    ) -> Completed:
        container_id = bundle.id if given is None else given
        if container_id not in self.created:
            self.created.append(container_id)
        kw.setdefault("outputs", (bundle.path / "stdout", bundle.path / "stderr"))
        return self.call(verb, "--bundle", bundle.path, *extra, container_id, **kw)

    def start(self, container: Bundle | str, **kw: Any) -> Completed:
        """``start ID``."""
        return self.call("start", _id(container), **kw)

    def kill(self, container: Bundle | str, signal: str | int = "TERM", *extra: str, **kw: Any) -> Completed:
        """``kill ID SIGNAL``."""
        return self.call("kill", *extra, _id(container), str(signal), **kw)

    def delete(self, container: Bundle | str, *extra: str, **kw: Any) -> Completed:
        """``delete EXTRA ID``."""
        return self.call("delete", *extra, _id(container), **kw)

    def state(self, container: Bundle | str, **kw: Any) -> dict[str, Any]:
        """The JSON that ``state ID`` prints."""
        value = json.loads(self.call("state", _id(container), **kw).stdout)
        if not isinstance(value, dict):
            raise AssertionError(f"state is not an object: {value!r}")
        return value

    def status(self, container: Bundle | str) -> str:
        """``status`` of ``state ID``; ``none`` for a container that does not exist."""
        result = self.call("state", _id(container), check=False)
        return str(json.loads(result.stdout)["status"]) if result.returncode == 0 else "none"

    def pid(self, container: Bundle | str) -> int:
        """The host's number of the container's init; 0 when it has stopped."""
        return int(self.state(container)["pid"])

    def until(self, container: Bundle | str, status: str, limit: float = 10.0) -> None:
        """Wait until the container has this status."""
        eventually(lambda: self.status(container) == status, limit, f"status {status} of {_id(container)}")

    def wait(self, pid: int, limit: float = 10.0) -> int:
        """Wait for a container's init, a child of the tests; return its exit status (128+N by signal)."""
        return processes.wait(pid, limit)

    def boot(self, bundle: Bundle, *extra: str | Path, **kw: Any) -> int:
        """``create`` and ``start``; return the pid of init."""
        self.create(bundle, *extra, **kw)
        pid = self.pid(bundle)
        self.start(bundle)
        return pid

    def output(self, bundle: Bundle, *extra: str | Path, status: int = 0, limit: float = 30.0) -> str:
        """Run a bundle to its end, in the foreground; return what it wrote.  It must exit with ``status``."""
        result = self.run(bundle, *extra, limit=limit)
        if result.returncode != status:
            raise AssertionError(f"exit status {result.returncode} instead of {status}\n{result.stdout}{result.stderr}")
        return result.stdout

    def clean(self) -> None:
        """``delete --force`` what tests have created through this object and not deleted."""
        for container_id in self.created:
            if (self.root / container_id).exists():
                self.call("delete", "--force", container_id, check=False)
        self.created.clear()


def _id(container: Bundle | str) -> str:
    return container if isinstance(container, str) else container.id


def _input(given: str | IO[Any] | int | None, scratch: Path) -> IO[Any]:
    if isinstance(given, str):
        path = scratch / "in"
        path.write_text(given)
        return path.open("rb")
    if isinstance(given, int):
        return os.fdopen(os.dup(given), "rb", buffering=0)
    return Path(os.devnull).open("rb") if given is None else os.fdopen(os.dup(given.fileno()), "rb", buffering=0)


def messages(text: str) -> list[str]:
    """The lines on standard error that tell of a failure, less the hint, of which there is one at most, at the end."""
    lines = [line for line in text.splitlines() if " level=warning " not in line]
    return lines[:-1] if lines and lines[-1].startswith("hint: ") else lines
