"""Running a function in a process of its own, which may confine or destroy itself."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from tests.support import processes


class Ended(Exception):
    """The child did not return from its function; ``status`` is its exit status, negative for a signal."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the child ended with status {status}: {text}")
        self.status = status


def in_child(function: Callable[[], Any], limit: float = 20.0) -> Any:
    """The function's result, which must be JSON, from a fork of this process.

    Raises `Ended` if the child raised or was killed instead, TimeoutError after ``limit`` seconds (then it is
    killed).
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(function, writer)
    os.close(writer)
    try:
        status = processes.wait(pid, limit)
        text = os.read(reader, 1 << 16).decode(errors="replace")
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(reader)
    if status != 0 or not text:
        raise Ended(128 - status if status > 128 else status, text)
    return json.loads(text)


def _run(function: Callable[[], Any], writer: int) -> NoReturn:
    status = 1
    try:
        try:
            text = json.dumps(function())
            status = 0
        except BaseException:  # noqa: BLE001 - all of it is the parent's to see
            text = traceback.format_exc()
        os.write(writer, text.encode())
    finally:
        os._exit(status)
