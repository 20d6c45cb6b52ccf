"""``gosudacon explain``."""

from __future__ import annotations

import _signal

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.cli.main import options_of, root_of
from gosudacon.container.explain import Explanation, Refusal
from gosudacon.container.process import ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.trace.model import Trace


_FOUND = 2  # the exit status with --strict or --risk


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle, or on stderr everything that is wrong with its configuration."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # as any filter's source: `explain | head` ends without a word
    stage, path = invocation.options["stage"], invocation.options["timings"]
    trace = None
    if path:
        from gosudacon.cli.trace import load

        trace = load(path)
    try:
        explanation = _explanation(invocation, invocation.args[0] if invocation.args else ".", trace)
    except Refusal as refusal:
        output.write(refusal.text, 2)
        return 1
    if not invocation.options["no-check"]:
        explanation.check(root_of(invocation))
    timings = None
    if trace is not None:
        from gosudacon.trace import measured

        timings = measured.measure(trace, path, explanation.spec.operation, explanation.steps())
    risk = invocation.options["risk"] if "risk" in invocation.given else ""
    if invocation.options["format"] == "json":
        output.write(explanation.as_json(stage, timings))
    else:
        explanation.show(stage, risk, timings)
    found = explanation.findings and invocation.options["strict"]
    return _FOUND if found or explanation.exceeds(risk) else 0


def _explanation(invocation: Invocation, what: str, trace: Trace | None) -> Explanation:
    """Of a container that exists, or of a bundle, which may be the path of any directory.

    A bundle has the id of the container that was traced, if there is one and no other is asked for.
    """
    from gosudacon.container import existing

    options, root = options_of(invocation, ExecOptions), root_of(invocation)
    if existing.names_one(what):
        for name in ("exec", "mounts", "id", "config"):
            if name in invocation.given:
                raise Error(f"explain: --{name} is for a bundle, and {what} is no directory")
        return existing.Existing(root, what, options)
    options.process = invocation.options["exec"]
    waits = root if posix.getenv("NOTIFY_SOCKET") else ""
    id = invocation.options["id"] or (trace.id if trace is not None else "")
    return Explanation(posix.path.abspath(what), options, id, waits, invocation.options["mounts"])
