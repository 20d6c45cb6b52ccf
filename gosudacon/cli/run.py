"""``gosudacon run``."""

from __future__ import annotations

from gosudacon.cli.create import make, publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.container.create import Creation


def run(invocation: Invocation) -> int:
    """Create and start a container; in the foreground, wait for it and return its exit status."""
    from gosudacon.container.start import run_started

    detach = invocation.options["detach"]
    creation = make(invocation, {"run": True, "foreground": not detach})
    foreground = None if detach else _foreground(invocation)
    creation.run()
    publish(creation, invocation)
    try:
        _await_exec(creation)
        run_started(creation.container)
    except BaseException:
        creation.abort()
        raise
    return 0 if foreground is None else foreground(creation, invocation)


def _await_exec(creation: Creation) -> None:
    kind, payload = creation.engine.channel.receive()
    if kind == b"E":
        from gosudacon.linux import jsonio
        from gosudacon.linux.errors import from_record

        raise from_record(jsonio.loads(payload))  # type: ignore[arg-type]


def _foreground(invocation: Invocation):  # type: ignore[no-untyped-def]
    from gosudacon.container import run as foreground

    foreground.prepare()

    def wait(creation: Creation, invocation: Invocation) -> int:
        status = foreground.wait(creation)
        if not invocation.options["keep"]:
            for warning in foreground.finish(creation):
                invocation.log.warning(warning.message)
        return status

    return wait
