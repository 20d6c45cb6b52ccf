"""A stand-in for CRIU, which cannot save every kernel's processes: it speaks the service interface (``criu swrk``).

What it saves of a process is the command line, and what it restores is a process that executes that anew, in the root
filesystem that it is told, with the descriptors that it is told. Where a word of the command line is ``%N``, it becomes
the number of restores that these images have seen.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
_CLONE = 56
_CLONE_PARENT = 0x8000
_SAVED = "command.json"


def install(path: Path) -> Path:
    """Make it a program at ``path``."""
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -IBS {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)
    return path


def _main(fd: int) -> None:
    sys.path.insert(0, str(CHECKOUT))
    from gosudacon.container.criu import rpc
    from gosudacon.wire import protobuf

    connection = socket.socket(fileno=fd)

    def say(**fields: object) -> None:
        connection.send(protobuf.encode(rpc.RESPONSE, {"success": True, **fields}))

    def tell(script: str, pid: int) -> None:
        say(type=rpc.NOTIFY, notify={"script": script, "pid": pid})
        if not protobuf.decode(rpc.REQUEST, connection.recv(1 << 16))["notify_success"]:
            os._exit(1)

    request = protobuf.decode(rpc.REQUEST, connection.recv(1 << 16))
    kind = request["type"]
    options: dict[str, Any] = request["opts"] or {}
    if kind == rpc.VERSION:
        say(type=kind, version={"major_number": 3, "minor_number": 17, "sublevel": 1})
    elif kind == rpc.DUMP:
        _log(options, "dumping")
        if (Path(f"/proc/{options['pid']}/root") / "refuse").exists():
            _log(options, "Error (fake): refused")
            connection.send(protobuf.encode(rpc.RESPONSE, {"type": kind, "success": False, "cr_errno": 95}))
            return
        _dump(options)
        say(type=kind)
    elif kind == rpc.RESTORE:
        _log(options, "restoring")
        pid, go = _restore(options)
        tell("setup-namespaces", pid)
        tell("post-restore", pid)
        os.write(go, b"x")
        say(type=kind, restore={"pid": pid})


def _log(options: dict[str, Any], text: str) -> None:
    with open(f"/proc/self/fd/{_directory(options)}/{options['log_file']}", "a") as file:
        file.write(f"{text}\n")


def _directory(options: dict[str, Any]) -> int:
    """CRIU looks at what its peer has under the number that it is told."""
    number: int = options["work_dir_fd"] or options["images_dir_fd"]
    return _of_peer(number)


def _of_peer(number: int) -> int:
    import struct

    peer = socket.socket(fileno=os.dup(int(sys.argv[2])))
    pid, _, _ = struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return os.open(f"/proc/{pid}/fd/{number}", os.O_PATH)


def _dump(options: dict[str, Any]) -> None:
    pid = options["pid"]
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    images = f"/proc/self/fd/{_of_peer(options['images_dir_fd'])}"
    saved = {"command": words, "restores": 0, "external": options["external"]}
    Path(f"{images}/{_SAVED}").write_text(json.dumps(saved))
    if not options["leave_running"]:
        os.kill(pid, signal.SIGKILL)


def _restore(options: dict[str, Any]) -> tuple[int, int]:
    """The pid of a process that is this one's sister, and what it waits for a byte on."""
    path = Path(f"/proc/self/fd/{_of_peer(options['images_dir_fd'])}/{_SAVED}")
    saved = json.loads(path.read_text())
    saved["restores"] += 1
    path.write_text(json.dumps(saved))
    words = [str(saved["restores"]) if word == "%N" else word for word in saved["command"]]
    wait, go = os.pipe()
    pid = ctypes.CDLL(None).syscall(_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os.read(wait, 1)
        os.chroot(options["root"])
        os.chdir("/")
        os.closerange(3, 256)
        os.execv(words[0], words)
    return pid, go


if __name__ == "__main__":
    _main(int(sys.argv[2]))
