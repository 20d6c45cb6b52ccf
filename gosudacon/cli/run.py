"""``gosudacon run``."""

from __future__ import annotations

from gosudacon.cli.create import make, publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.create import Creation


def run(invocation: Invocation) -> int:
    """Create and start a container; in the foreground, wait for it and return its exit status."""
    if invocation.options["detach"]:
        creation = make(invocation, {"run": True})
        creation.run()
        publish(creation, invocation)
        _start(creation)
        return 0
    return _foreground(invocation)


def _foreground(invocation: Invocation) -> int:
    from gosudacon.container import run as foreground

    creation = make(invocation, {"run": True, "foreground": True})
    foreground.prepare()
    creation.run()
    try:
        terminal = foreground.attach(creation.context)
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
    creation.store.unlock()
    status = foreground.wait(creation.context.pid, terminal)
    if not invocation.options["keep"]:
        for warning in foreground.finish(creation):
            invocation.log.warning(warning.message)
    return status


def _start(creation: Creation) -> None:
    """Wait until init has executed its process, and run poststart hooks; undo everything if either fails."""
    from gosudacon.container.recorded import run_started

    try:
        creation.await_exec()
        run_started(creation.container)
    except BaseException:
        creation.abort()
        raise
