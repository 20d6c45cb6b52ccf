"""A program between a client and the runtime that writes down every call.

``program(command, directory, records)`` makes it; engines are given its path in place of the runtime's. It calls the
runtime with the same words, surroundings and descriptors, passes signals on, ends as the runtime ends, and appends
one JSON object to ``records``:

``caller``       name of the process that called
``words``        the arguments
``cwd``          working directory
``environment``  names of the variables, and the values of those in `TOLD`
``fds``          number and kind of each descriptor that was open: pipe, socket, file, terminal, /dev/null
``status``       exit status, 128 + N for signal N
``message``      the last message in the file of ``--log``

``python -m tests.support.recorder RECORDS > tests/unit/calls.json`` makes of it what is checked in: each form of call
once, without names of this machine and ids.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOLD = ("PATH", "LISTEN_FDS", "NOTIFY_SOCKET", "XDG_RUNTIME_DIR", "LANG")
"""The variables of which a record has the value, too: the runtime could depend on them."""

_OF_CALLERS = (
    r"CRI_O_EXTERNAL|GOMAXPROCS|HOME|LANG|LD_LIBRARY_PATH|LISTEN_.*|NOTIFY_SOCKET|PATH|TTRPC_.*|XDG_.*|_OCI_.*"
)
_PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")


def program(command: Sequence[str], directory: Path, records: Path) -> Path:
    """Make the recording program in ``directory``, under the name by which engines know the runtime."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "gosudacon"
    words = shlex.join([os.path.realpath(sys.executable), "-ISB", __file__, "--", str(records), *command, "--"])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def main(records: str, command: list[str], words: list[str]) -> int:
    """Make one call, and record it; returns the runtime's exit status."""
    record: dict[str, Any] = {
        "caller": Path(f"/proc/{os.getppid()}/comm").read_text().strip(),
        "words": words,
        "cwd": os.getcwd(),
        "environment": {name: value if name in TOLD else "" for name, value in sorted(os.environ.items())},
        "fds": {str(number): kind(number) for number in _open_fds()},
    }
    record["status"] = status = _run([*command, *words])
    record["message"] = _message(words)
    line = json.dumps(record) + "\n"
    fd = os.open(records, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, line.encode())
    os.close(fd)
    return status


def kind(fd: int) -> str:
    """What a descriptor is."""
    target = os.readlink(f"/proc/self/fd/{fd}")
    if target.startswith(("pipe:", "socket:")):
        return target.partition(":")[0]
    if target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        return "terminal"
    if target.startswith("anon_inode:"):
        return target.removeprefix("anon_inode:")
    return "/dev/null" if target == "/dev/null" else "file"


def _open_fds() -> list[int]:
    found = sorted(map(int, os.listdir("/proc/self/fd")))
    return [fd for fd in found if os.path.lexists(f"/proc/self/fd/{fd}")]


def _run(words: list[str]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(words, parent)
    for name in _PASSED_ON:
        signal.signal(getattr(signal, name), lambda number, frame: os.kill(child, number))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256


def _become(words: list[str], parent: int) -> None:
    """Turn into the runtime, which must not outlive a killed caller and may be told its own pid."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(137)
    if os.environ.get("LISTEN_PID") == str(parent):
        os.environ["LISTEN_PID"] = str(os.getpid())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    try:
        for fd in _open_fds():
            os.set_inheritable(fd, True)
        os.execv(words[0], words)
    finally:
        os._exit(127)


def _message(words: list[str]) -> str:
    for number, word in enumerate(words):
        if word == "--log" and number + 1 < len(words):
            try:
                records = Path(words[number + 1]).read_text().splitlines()
                return str(json.loads(records[-1])["msg"]) if records else ""
            except (OSError, ValueError, KeyError):
                return ""
    return ""


def sanitised(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each form of call once, in order: ids, directories and the machine's own names replaced."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        bare = {
            "caller": record["caller"],
            "words": [_bare(word) for word in record["words"]],
            "environment": [name for name in sorted(record["environment"]) if re.fullmatch(_OF_CALLERS, name)],
            "fds": record["fds"],
            "status": record["status"],
        }
        key = json.dumps([bare["caller"], bare["words"], bare["status"]])
        found.setdefault(key, bare)
    return sorted(found.values(), key=lambda call: (call["caller"], call["words"]))


def _bare(word: str) -> str:
    for pattern, instead in (
        (r"^.*/(runtime|runtime-runc)/[^/]+$", "/T/runtime/NAMESPACE"),
        (r"^.*/io\.containerd\.runtime\.v2\.task/[^/]+/[^/]+", "/T/task/NAMESPACE/ID"),
        (r"^.*/overlay-containers/[^/]+", "/T/overlay-containers/ID"),
        (r"^.*/(runc-process|pty|buildah|podman|conmon-term\.)[A-Za-z0-9]+", r"/T/\g<1>1"),
        (r"\b[0-9a-f]{64}\b|\bc[0-9a-f]{10}\b", "ID"),
        (r"/T(/[a-z.-]+)*/ID/[0-9a-f]{64}", "/T/ID/EXECID"),
        (r"(/userdata)/[0-9a-f]{64}", r"\1/EXECID"),
    ):
        word = re.sub(pattern, instead, word)
    return word


if __name__ == "__main__":
    if sys.argv[1] == "--":
        split = sys.argv.index("--", 3)
        sys.exit(main(sys.argv[2], sys.argv[3:split], sys.argv[split + 1 :]))
    lines = [json.loads(line) for name in sys.argv[1:] for line in Path(name).read_text().splitlines()]
    print("[\n" + ",\n".join(f" {json.dumps(call)}" for call in sanitised(lines)) + "\n]")
