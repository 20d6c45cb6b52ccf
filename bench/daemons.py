"""A daemon of the bench's own: started, asked until it answers, ended with everything it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import leftovers
from .spawn import ENVIRONMENT, Spawner

#: How long a daemon may take to answer its first question, and to end, seconds.
PATIENCE = 30


class NoAnswer(Exception):
    """A daemon ended, or did not answer in time; the message has the end of its log."""


class Daemon:
    """One process in the background, ``pid``, with its output in a file."""

    def __init__(
        self, spawner: Spawner, argv: list[str], log: Path, environment: Mapping[str, str] = ENVIRONMENT
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self.pid = spawner.start(argv, output.fileno(), output.fileno(), environment)
        self._ended = False

    def wait_for(self, answers: Callable[[], bool]) -> None:
        """Return once ``answers`` says so; NoAnswer when the daemon ends or time is up."""
        deadline = time.monotonic() + PATIENCE
        while not answers():
            if self._gone() or time.monotonic() > deadline:
                end = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                raise NoAnswer(f"{self._log.stem} did not come up: {' '.join(end)[-300:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, then make it."""
        deadline = time.monotonic() + PATIENCE
        if not self._gone():
            os.kill(self.pid, signal.SIGTERM)
        while not self._gone():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.05)

    def _gone(self) -> bool:
        if not self._ended:
            try:
                self._ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                self._ended = True
        return self._ended


def answers(argv: list[str]) -> bool:
    """Whether the command ends with 0."""
    return subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False).returncode == 0


def wait_for_children(keep: int = 0) -> None:
    """Wait, and not for ever, until no more than ``keep`` children are left: a client's helpers outlive it a little."""
    deadline = time.monotonic() + PATIENCE / 3
    while time.monotonic() < deadline:
        leftovers.reap_orphans()
        if len(leftovers.children()) <= keep:
            return
        time.sleep(0.05)
