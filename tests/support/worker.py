"""A caller without a command line, as a shim's worker is: it runs operations for descriptors that it is handed.

This file is run as a program, by `run`. It has nothing of the command line: it imports no module of `gosudacon.cli`.
What it is to do is one JSON object; so is what it reports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATHS = [str(Path(__file__).resolve().parents[2]), sysconfig.get_path("purelib")]


def run(
    root: Path, id: str, bundle: Path, streams: Sequence[int], steps: Sequence[Any], **caller: Any
) -> dict[str, Any]:
    """Have a worker do the ``steps`` for a caller with these ``streams`` (and what else `Caller` takes).

    A step is a name and arguments: ``create OPTIONS``, ``start``, ``exec ARGS OPTIONS``, ``kill SIGNAL``, ``delete``,
    ``note`` (who init is, and what it has open). Returns ``results``, one for each step, what the worker's descriptors
    were before and after, its umask, how many signals it has blocked, and its own ``output``.
    """
    order = {"root": str(root), "id": id, "bundle": str(bundle), "streams": list(streams), "steps": list(steps)}
    handed = [*streams, *caller.get("preserved", ()), *([caller["terminal"]] if "terminal" in caller else ())]
    report_end, report = os.pipe()
    leaked = os.open("/etc/hostname", os.O_RDONLY)  # something of the worker's own, which a container must not get
    try:
        words = [
            sys.executable,
            "-ISBXutf8",
            __file__,
            json.dumps({**order, "caller": caller, "report": report, "paths": PATHS}),
        ]
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=[*handed, report, leaked],
            check=False,
        )
        os.close(report)
        report = -1
        with os.fdopen(report_end, closefd=False) as file:
            said = file.read()
        assert result.returncode == 0, result.stderr
        return {**json.loads(said), "output": result.stdout + result.stderr}
    finally:
        for fd in (report_end, report, leaked):
            if fd >= 0:
                os.close(fd)


class _Log:
    debugging = False

    def outcome(self, message: str, hint: str) -> None:
        """For a container in the foreground, which a worker never has."""

    def warning(self, message: str) -> None:
        raise AssertionError(message)

    def debug(self, message: str) -> None:
        raise AssertionError(message)


def _main(order: dict[str, Any]) -> None:
    os.umask(0o27)
    before = _descriptors("self")
    results = [_step(order, name, *arguments) for name, *arguments in order["steps"]]
    report = {
        "results": results,
        "before": before,
        "after": _descriptors("self"),
        "umask": os.umask(0),
        "blocked": len(signal.pthread_sigmask(0, ())),
    }
    report["cli"] = [name for name in sys.modules if name.startswith("gosudacon.cli")]
    os.write(order["report"], json.dumps(report).encode())


def _step(order: dict[str, Any], name: str, *arguments: Any) -> Any:
    from gosudacon.base.errors import Error, reason

    try:
        return globals()[f"_{name}"](order, *arguments)
    except (Error, OSError) as error:
        return reason(error)


def _create(order: dict[str, Any], options: dict[str, Any]) -> int:
    from gosudacon.container.caller import Caller
    from gosudacon.container.create import Creation
    from gosudacon.container.operation import Operation
    from gosudacon.pipeline.spec import Options

    with Caller(tuple(order["streams"]), _Log(), **order["caller"]) as caller:
        return Operation(Creation(order["root"], order["id"], order["bundle"], Options(**options), caller)).run()


def _exec(order: dict[str, Any], args: list[str], options: dict[str, Any]) -> int:
    from gosudacon.container.caller import Caller
    from gosudacon.container.exec import Execution
    from gosudacon.container.operation import Operation
    from gosudacon.container.process import ExecOptions

    with Caller(tuple(order["streams"]), _Log(), **order["caller"]) as caller:
        return Operation(Execution(order["root"], order["id"], args, ExecOptions(**options), caller)).run()


def _start(order: dict[str, Any]) -> None:
    from gosudacon.container.start import start

    start(order["root"], order["id"])


def _kill(order: dict[str, Any], number: int) -> None:
    from gosudacon.container.kill import kill

    kill(order["root"], order["id"], number)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _delete(order: dict[str, Any]) -> list[str]:
    from gosudacon.container.delete import delete

    return [warning.message for warning in delete(order["root"], order["id"])]


def _note(order: dict[str, Any]) -> list[str]:
    from gosudacon.container.query import state

    return sorted(_descriptors(str(state(order["root"], order["id"])["pid"])).values())


def _descriptors(pid: int | str) -> dict[str, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # the directory itself
            continue
    return found


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    sys.path.extend(order["paths"])
    from gosudacon.launcher import seal

    seal.ensure(sys.argv[1:], __file__)
    _main(order)
