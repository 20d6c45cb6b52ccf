"""The action ``delete``: remove what is left of a container whose shim is gone, killed or ended in order."""

from __future__ import annotations

import time

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.container import delete, query
from gosudacon.shim import dialogue, place, rootfs
from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.shim.arguments import Arguments

STATE = "gosudacon"  # in the bundle: a link to the container's state directory
_KILLED = 137
_LONGEST = 4096  # bytes of an address
_PATIENCE = 0.5  # seconds for a shim to accept a connection


def note(bundle: str, root: str, id: str) -> None:
    """Leave in the bundle where the container's state is."""
    try:
        posix.symlink(f"{root}/{id}", f"{bundle}/{STATE}")
    except FileExistsError:
        posix.unlink(f"{bundle}/{STATE}")
        posix.symlink(f"{root}/{id}", f"{bundle}/{STATE}")


def remove(given: Arguments) -> bytes:
    """Remove it; what is not there is fine. Returns the answer for containerd. Raises `Error`, OSError."""
    bundle = given.bundle or posix.getcwd()
    pid = 0
    try:
        root, _, id = posix.readlink(f"{bundle}/{STATE}").rpartition("/")
    except FileNotFoundError:  # it never came to a container
        id = ""
    socket = _socket_of(bundle)
    _end_work(socket, given.id)
    if id:
        pid = _pid(root, id)
        delete.delete(root, id, force=True)
    rootfs.unmount(f"{bundle}/rootfs")
    if id:
        if socket and not _lives(socket):
            _remove_pod(root, given.id)
        place.remove_empty(root)
    if socket:
        place.clear(socket)
    answer = {"pid": pid, "exit_status": _KILLED, "exited_at": wire.timestamp(time.time_ns())}
    return protobuf.encode(wire.DELETE_RESPONSE, answer)


def _remove_pod(root: str, pod: str) -> None:
    """Remove the containers of a pod whose shim was killed, where ``pod`` is the container that represents it.

    containerd executes no ``delete`` for the others, where they speak the third version of the task service.
    Raises `Error`, OSError: for one of them, when all have been tried.
    """
    failure: Error | OSError | None = None
    for state in query.everything(root, explicit=False)[0]:
        if place.named_group(state.get("annotations")) != pod:
            continue
        try:
            delete.delete(root, str(state["id"]), force=True)
            rootfs.unmount(f"{state['bundle']}/rootfs")
        except (Error, OSError) as error:
            failure = error
    if failure is not None:
        raise failure


def _lives(socket: str) -> bool:
    """Whether a process listens there, though it may not answer."""
    try:
        return dialogue.answers(socket, _PATIENCE)
    except TimeoutError:
        return True


def _socket_of(bundle: str) -> str:
    """The path of the shim's socket; empty where the bundle does not say it."""
    try:
        with open(f"{bundle}/address", "rb", buffering=0) as file:
            return posix.fsdecode(file.read(_LONGEST) or b"").removeprefix("unix://")
    except FileNotFoundError:
        return ""


def _end_work(socket: str, id: str) -> None:
    """Have the shim, if it lives, end what it does to the container: a hook may hang, and hold the state's lock."""
    try:
        dialogue.abandon(socket, id)
    except (Error, OSError):  # none is there, or none that answers
        return


def _pid(root: str, id: str) -> int:
    try:
        pid = query.state(root, id)["pid"]
    except (Error, OSError):
        return 0
    return pid if isinstance(pid, int) else 0
