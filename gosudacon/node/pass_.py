"""A pass as a process of its own, whose root is the node's: paths and links are what they are for the node."""

from __future__ import annotations

import ctypes  # noqa: F401 - builds.flush imports it, and in the node's root the image's modules cannot be found
import fcntl
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import asdict

from gosudacon.base.errors import Error, reason
from gosudacon.node.install import Outcome, said


def run(root: str, work: Callable[[], Outcome]) -> Outcome:
    """What ``work`` comes to in a child whose root is ``root``. What goes wrong is in `Outcome.trouble`.

    Passes of other pods wait, and are waited for: flock(2) on the root directory.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            outcome = _outcome(root, work)
            with os.fdopen(writer, "w", encoding="utf-8") as file:
                json.dump(asdict(outcome), file)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    try:
        return Outcome(**json.loads(text))
    except ValueError:  # nothing, or a part: it was killed
        return Outcome(trouble=[f"the pass was ended (exit status {os.waitstatus_to_exitcode(status)})"])


def _outcome(root: str, work: Callable[[], Outcome]) -> Outcome:
    try:
        os.chroot(root)
        os.chdir("/")
        lock = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return work()
    except Error as error:
        return Outcome(trouble=[said(error)])
    except OSError as error:
        return Outcome(trouble=[reason(error)])
    except Exception as error:  # noqa: BLE001 - told, and tried again
        traceback.print_exc()
        return Outcome(trouble=[reason(error)])
