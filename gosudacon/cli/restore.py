"""``gosudacon restore``."""

from __future__ import annotations

from gosudacon.cli.create import attach_log, enter_options, publish
from gosudacon.cli.main import root_of
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.criu.restore import Restoration


def run(invocation: Invocation) -> int:
    """Restore a container; in the foreground, wait for it and return its exit status."""
    if invocation.options["detach"]:
        restoration = _make(invocation, {})
        restoration.run()
        publish(restoration, invocation)
        return 0
    return _foreground(invocation)


def _make(invocation: Invocation, extra: dict[str, object]) -> Restoration:
    from gosudacon.container.criu.restore import Restoration

    options = enter_options(invocation, extra, listen=False)
    os.umask(0o022)
    restoration = Restoration(root_of(invocation), invocation.args[0], invocation.options["bundle"], options)
    attach_log(restoration, invocation)
    return restoration


def _foreground(invocation: Invocation) -> int:
    from gosudacon.container import foreground
    from gosudacon.container.terminal import Terminal

    restoration = _make(invocation, {"foreground": True})
    host = foreground.prepare(restoration, subreaper=not invocation.options["no-subreaper"])
    restoration.run()
    terminal = None
    try:
        master = restoration.context.kept.pop("master", -1)
        if master >= 0:
            terminal = Terminal(master, host)
        publish(restoration, invocation)
    except BaseException:
        if terminal is not None:
            terminal.finish()
        restoration.abort()
        raise
    restoration.store.unlock()
    status = foreground.wait(restoration.context.pid, terminal)
    for warning in foreground.finish(restoration):
        invocation.log.warning(warning.message)
    return status
