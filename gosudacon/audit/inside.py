"""Questions that only a process in the container's namespaces can answer: asked by a child, with a deadline.

The child imports nothing, executes nothing and opens nothing but by O_PATH; what the host's /proc has for it, it reads
below a descriptor that was opened before. A file system of the container that does not answer costs the question that
was asked of it, and a new child goes on with the next one.
"""

from __future__ import annotations

import _socket
import fcntl
import select
import time
from _signal import SIGKILL

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import reason
from gosudacon.linux import mount, namespace, path
from gosudacon.pipeline.executor import build_wall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from gosudacon.audit.subject import Subject

_PATIENCE = 3.0  # seconds for one answer
_MOST_CHILDREN = 4
_KINDS = ("uts", "ipc", "network")

#: Questions about files of the host's /proc that the process that asks must be in the container's namespaces for.
UNAME, SYSCTL, DEVICE = "uname", "sysctl ", "device "
#: Questions about the process, which may wait for memory or a file system of the container.
EXE, NUMA = "exe", "numa"
PATH, LINK = "path ", "link "  # of a path in its root; followed, or not


class Asking:
    """Questions on their way: the first child works while the caller goes on, and `collect` takes the answers."""

    def __init__(self, subject: Subject, questions: list[str]) -> None:
        self._subject = subject
        self._waiting = sorted(dict.fromkeys(questions), key=_order)
        self._reader = self._child = -1
        self._begin()

    def collect(self) -> dict[str, object]:
        """Wait for all answers: at most a few seconds for each child. A question without one says so."""
        answers: dict[str, object] = {}
        for _ in range(_MOST_CHILDREN):
            self._waiting = self._take(answers)
            if not self._waiting:
                break
            answers[self._waiting.pop(0)] = {"unseen": "a file system of the container does not answer"}
            self._begin()
        self._end(False)
        return answers

    def _begin(self) -> None:
        if not self._waiting:
            return
        self._reader, writer = posix.pipe2(posix.O_CLOEXEC)
        self._child = posix.fork()
        if self._child == 0:
            _work(self._subject, self._waiting, writer)
        posix.close(writer)

    def _take(self, answers: dict[str, object]) -> list[str]:
        """The answers of the child that works; returns the questions that it has not answered."""
        done = 0
        if self._reader >= 0:
            for text in _lines(self._reader):
                answer: object = jsonio.loads(text)
                answers[self._waiting[done]] = answer
                done += 1
        self._end(done == len(self._waiting))
        return self._waiting[done:]

    def _end(self, finished: bool) -> None:
        """Let go of the child. One that waits for a file system may not even end: it is not waited for."""
        if self._child > 0:
            try:
                posix.kill(self._child, SIGKILL)
                posix.waitpid(self._child, 0 if finished else posix.WNOHANG)
            except OSError:
                pass
        if self._reader >= 0:
            posix.close(self._reader)
        self._reader = self._child = -1


def _order(question: str) -> int:
    if question.startswith((PATH, LINK)):
        return 2
    return 1 if question in (EXE, NUMA) else 0


def _lines(fd: int) -> Iterator[bytes]:
    waits = select.poll()
    waits.register(fd, select.POLLIN)
    data = b""
    end = time.monotonic() + _PATIENCE
    while (left := end - time.monotonic()) > 0 and waits.poll(left * 1000):
        chunk = posix.read(fd, 1 << 16)
        if not chunk:
            return
        *lines, data = (data + chunk).split(b"\n")
        yield from lines
        end = time.monotonic() + _PATIENCE


def _work(subject: Subject, questions: list[str], writer: int) -> NoReturn:
    try:
        build_wall()
        root = -1
        _join(subject, _KINDS)
        for question in questions:
            if root < 0 and question.startswith((PATH, LINK)):
                root = _root(subject)
            try:
                answer = _answer(subject, question, root)
            except OSError as error:
                answer = {"errno": error.errno or 0}
            except Exception as error:  # noqa: BLE001 - a file of the kernel may have another form one day
                answer = {"unseen": reason(error)}
            _send(writer, jsonio.dumps(answer).encode() + b"\n")  # at once: the next one may never be answered
    finally:
        posix._exit(0)


def _send(writer: int, data: bytes) -> None:
    while data:
        data = data[posix.write(writer, data) :]


def _join(subject: Subject, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        if not subject.differs(kind):
            continue
        try:
            fd = posix.open(f"ns/{namespace.KINDS[kind][2]}", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=subject.proc)
            namespace.setns(fd, namespace.KINDS[kind][0])
            posix.close(fd)
        except OSError:
            continue


def _root(subject: Subject) -> int:
    """The root of the container's mount namespace, whatever the process's own is; without one, the process's."""
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    if subject.differs("mount"):
        try:
            fd = posix.open("ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=subject.proc)
            namespace.setns(fd, namespace.CLONE_NEWNS)  # which makes the namespace's root that of this process
            posix.close(fd)
            return posix.open("/", flags)
        except OSError:
            pass
    return posix.open("root", flags, dir_fd=subject.proc)


def _answer(subject: Subject, question: str, root: int) -> dict[str, object]:
    if question == UNAME:
        names = [_read(subject.all_proc, f"sys/kernel/{name}") for name in ("hostname", "domainname")]
        return {"hostname": names[0], "domainname": names[1]}
    if question.startswith(DEVICE):
        return {"up": _is_up(question.removeprefix(DEVICE))}
    if question.startswith(SYSCTL):
        return {"value": _read(subject.all_proc, f"sys/{question.removeprefix(SYSCTL)}")}
    if question == EXE:
        fd = posix.open("exe", posix.O_PATH | posix.O_CLOEXEC, dir_fd=subject.proc)
        return _look(subject, fd)
    if question == NUMA:
        return {"value": _read(subject.proc, "numa_maps")}
    if question.startswith(LINK):
        flags = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
        return _look(subject, path.open_in_root(root, question.removeprefix(LINK), flags))
    return _look(subject, path.open_in_root(root, question.removeprefix(PATH), posix.O_PATH | posix.O_CLOEXEC))


def _is_up(name: str) -> bool:
    """IFF_UP of a network device (netdevice(7))."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = bytearray(name.encode()[:15].ljust(40, b"\0"))
        fcntl.ioctl(probe.fileno(), 0x8913, request)  # SIOCGIFFLAGS
        return bool(request[16] & 1)
    finally:
        probe.close()


def _look(subject: Subject, fd: int) -> dict[str, object]:
    try:
        info = _read(subject.all_proc, f"self/fdinfo/{fd}")
        status = posix.fstat(fd)
        return {
            "id": int(info.partition("mnt_id:")[2].split()[0]),
            "mode": status.st_mode,
            "device": [posix.major(status.st_rdev), posix.minor(status.st_rdev)],
            "on": [status.st_dev, status.st_ino],
            "owner": [status.st_uid, status.st_gid],
            "flags": mount.mount_flags(fd),
        }
    finally:
        posix.close(fd)


def _read(directory: int, name: str) -> str:
    fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=directory)
    try:
        chunks = []
        while chunk := posix.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks).decode(errors="replace")
    finally:
        posix.close(fd)
