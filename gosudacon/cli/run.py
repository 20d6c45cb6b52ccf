"""``gosudacon run``."""

from __future__ import annotations

from gosudacon.cli.create import make, publish, warn
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.create import Creation
    from gosudacon.container.notify import Notifier


def run(invocation: Invocation) -> int:
    """Create and start a container; in the foreground, wait for it and return its exit status."""
    if not invocation.options["detach"]:
        return _foreground(invocation)
    creation = make(invocation, {"run": True})
    creation.run()
    notifier = _listen(creation)
    publish(creation, invocation)
    _start(creation)
    warn(creation, invocation.log)
    creation.store.unlock()
    if notifier is not None:
        notifier.wait(creation.container)
    return 0


def _foreground(invocation: Invocation) -> int:
    from gosudacon.container import delete  # noqa: F401 - for `finish`, whatever becomes of the package until then
    from gosudacon.container import foreground

    creation = make(invocation, {"run": True, "foreground": True})
    host = foreground.prepare(creation, subreaper=not invocation.options["no-subreaper"])
    creation.run()
    notifier = _listen(creation)
    try:
        terminal = foreground.attach(creation.context, host)
    except BaseException:
        creation.abort()
        raise
    try:
        publish(creation, invocation)
        _start(creation)
    except BaseException:
        if terminal is not None:
            terminal.finish()
        raise
    warn(creation, invocation.log)
    creation.store.unlock()
    status = foreground.wait(creation.context.pid, terminal, notifier)
    if notifier is not None and notifier.failure is not None:
        invocation.log.warning(notifier.failure.message)
    if not invocation.options["keep"]:
        for warning in foreground.finish(creation):
            invocation.log.warning(warning.message)
    return status


def _listen(creation: Creation) -> Notifier | None:
    """Listen for the container's readiness where there is a service manager to be told of it (NOTIFY_SOCKET)."""
    if "notify_directory" not in creation.spec.options:
        return None
    from gosudacon.container import notify

    try:
        return notify.listen(creation.store, os.getenv("NOTIFY_SOCKET"))
    except BaseException:
        creation.abort()
        raise


def _start(creation: Creation) -> None:
    """Wait until init has executed its process, and run poststart hooks; undo everything if either fails."""
    from gosudacon.container.replay import run_started

    try:
        creation.await_exec()
        run_started(creation.container, creation.observers)
    except BaseException:
        creation.abort()
        raise
