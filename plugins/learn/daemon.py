"""The recorder as a process: how it starts, gives up what is the runtime's, and says who it is."""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from gosudacon.base import layout
from gosudacon.plugins.learn.supervisor import NAME, READY, Supervisor, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from gosudacon.plugins.learn.supervisor import Job


def start(job: Job, connection: socket.socket, state_dir: int) -> None:
    """Fork the recorder, which takes ``connection`` as that of the first process; it says `READY` there, or why not.

    It is not a child of the command: it would disturb callers that wait for all their children.
    ``state_dir`` gets its note and socket.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _main(job, connection, state_dir)
    finally:
        os._exit(0)


def _main(job: Job, connection: socket.socket, state_dir: int) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        wake, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        directory = os.open(f"/proc/self/fd/{state_dir}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _leave({connection.fileno(), wake, alarm, directory, job.output.directory})
        _name_itself()
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        note = _take_note(directory)
        server = _serve(directory)
        os.close(directory)
        connection.send(READY)
        Supervisor(job, connection, server, wake).run()
        os.close(note)
    except BaseException as error:  # noqa: BLE001 - nothing may reach the interpreter's own traceback
        _complain(job, connection, error)
    os._exit(0)


def _name_itself() -> None:
    """What ps(1) and the host's administrator see; the command line is still the runtime's."""
    with open("/proc/self/comm", "w") as file:
        file.write(NAME)


def _leave(kept: set[int]) -> None:
    """Give up what the runtime has open: its streams, its lock on the container, what it has of the caller."""
    os.chdir("/")
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # that of listdir itself


def _take_note(directory: int) -> int:
    """Say which process this is, in a file that is locked for as long as it lives. There is no other: O_EXCL."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    note = os.open(layout.LEARN_NOTE, flags, 0o600, dir_fd=directory)
    fcntl.flock(note, fcntl.LOCK_EX)
    os.write(note, b"%d\n" % os.getpid())
    return note


def _serve(directory: int) -> socket.socket:
    """The socket for processes that are executed in the container later."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o177)
    try:
        server.bind(f"/proc/self/fd/{directory}/{layout.LEARN_SOCKET}")
    finally:
        os.umask(mask)
    server.listen()
    return server


def _complain(job: Job, connection: socket.socket, error: BaseException) -> None:
    text = f"recorder of {job.container}: {type(error).__name__}: {error}"
    try:
        connection.send(text.encode(errors="replace")[:4096])
    except OSError:
        log(text)
