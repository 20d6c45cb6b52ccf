"""``gosudacon create``."""

from __future__ import annotations

import _signal

from gosudacon.cli.main import root_of, spec_options
from gosudacon.linux import process
from gosudacon.linux import system as os
from gosudacon.linux.errors import Error

_SIGCHLD = 17

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.cli.log import Log
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.create import Creation
    from gosudacon.container.exec import Execution
    from gosudacon.pipeline.step import Context, Step


def run(invocation: Invocation) -> int:
    """Create a container, which then waits for ``start``."""
    creation = make(invocation, {})
    creation.run()
    publish(creation, invocation)
    warn(creation, invocation.log)
    return 0


def make(invocation: Invocation, extra: dict[str, object]) -> Creation:
    """The creation that an invocation of ``create`` or ``run`` asks for."""
    from gosudacon.container.create import Creation

    options = enter_options(invocation, extra)
    root, id = root_of(invocation), invocation.args[0]
    if os.getenv("NOTIFY_SOCKET"):
        options["notify_directory"] = f"{root}/{id}/notify"
    os.umask(0o022)  # whatever the caller's was; what must be private is made with its own mode
    creation = Creation(root, id, invocation.options["bundle"], options)
    attach_log(creation, invocation)
    return creation


def enter_options(invocation: Invocation, extra: dict[str, object], listen: bool = True) -> dict[str, Any]:
    """The options of a command that enters a container, for which this process is made fit: sealed and swept.

    ``listen``: descriptors passed by LISTEN_FDS are passed on.
    """
    from gosudacon.linux import seal

    options = {**spec_options(invocation), **extra}
    _sweep(options, invocation.log.fd, listen)
    _signal.signal(_SIGCHLD, _signal.SIG_DFL)  # a caller that ignores it would have our children reaped by the kernel
    seal.require()
    for name in ("pid_file", "console_socket", "pidfd_socket"):  # relative to the caller's directory
        if name in options:
            options[name] = os.path.abspath(options[name])
    return options


def attach_log(operation: Creation | Execution, invocation: Invocation) -> None:
    """Keep the log from the container's process; with ``--debug``, record the steps that begin."""
    log = invocation.log
    if log.fd >= 0:
        operation.engine.private.append(log.fd)
    if log.debugging:
        operation.observers[0].append(("--debug", lambda step, context: _log(log, step, context)))


def _log(log: Log, step: Step, context: Context) -> None:
    """Record a step that begins; on the container side the log is closed."""
    if context.side == "runtime":
        log.debug(f"{step.stage}: {step.describe()}")


def publish(creation: Creation, invocation: Invocation) -> None:
    """Write the pid file and let init go; undo everything if that fails."""
    from gosudacon.container.create import write_pid_file

    try:
        path = creation.spec.options.get("pid_file")
        if path:
            write_pid_file(path, creation.context.pid)
        creation.commit()
    except BaseException:
        creation.abort()
        raise


def warn(creation: Creation, log: Log) -> None:
    """Log what stages and steps had to say about the configuration.

    Not before all has gone well: Podman takes the record of a failure for the whole log.
    """
    for message in [*(warning.describe() for warning in creation.plan.warnings), *creation.context.warnings]:
        log.warning(message, always=True)


def _sweep(options: dict[str, Any], log: int, listen: bool) -> None:
    """Close what the caller leaked; keep stdio, the log and what is to be passed on: LISTEN_FDS (sd_listen_fds(3)) too.

    Close-on-exec would not do: init waits for ``start`` before it calls execve(2).
    """
    count = int(str(options.get("preserve_fds") or 0))
    given = os.getenv("LISTEN_FDS") if listen else ""
    if given.isascii() and given.isdigit() and os.getenv("LISTEN_PID") == str(os.getpid()):
        options["listen_fds"] = int(given)
        count += int(given)
    if count:
        options["preserve_fds"] = count
    if 3 <= log < 3 + count:  # opened at a number that the caller says is one of those, and left free
        raise Error(f"unable to stat preserved-fd {log} (of {count})")
    process.close_from(3 + count, log)
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)  # takes the lowest free number: fd
    for fd in range(3, 3 + count):
        try:
            os.set_inheritable(fd, True)
        except OSError:  # said now, before a descriptor of our own can have that number
            raise Error(f"unable to stat preserved-fd {fd} (of {count})") from None
