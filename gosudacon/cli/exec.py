"""``gosudacon exec``."""

from __future__ import annotations

from gosudacon.cli.create import attach_log, enter_options
from gosudacon.cli.main import root_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.exec import Execution


def run(invocation: Invocation) -> int:
    """Run another process in a container; in the foreground, wait for it and return its exit status."""
    detach = invocation.options["detach"]
    execution = _make(invocation, detach)
    if detach:
        execution.run()
        _publish(execution)
        return 0
    from gosudacon.container import foreground

    host = foreground.prepare(execution, subreaper=False)
    execution.run()
    terminal = None
    try:
        terminal = foreground.attach(execution.context, host)
        _publish(execution)
    except BaseException:
        execution.abort()
        if terminal is not None:
            terminal.finish()
        raise
    execution.container.store.close()
    return foreground.wait(execution.context.pid, terminal)


def _make(invocation: Invocation, detach: bool) -> Execution:
    options = enter_options(invocation, {"foreground": not detach}, listen=False)
    if "user" in invocation.given:
        options["user"] = invocation.options["user"]  # an empty one, too, is no wish for the container's
    from gosudacon.container.exec import Execution

    execution = Execution(root_of(invocation), invocation.args[0], invocation.args[1:], options)
    attach_log(execution, invocation)
    return execution


def _publish(execution: Execution) -> None:
    """Write the pid file and have the process executed; kill it if either fails."""
    try:
        path = execution.spec.options.get("pid_file")
        if path:
            from gosudacon.container.create import write_pid_file

            write_pid_file(path, execution.context.pid)
        execution.commit()
    except BaseException:
        execution.abort()
        raise
