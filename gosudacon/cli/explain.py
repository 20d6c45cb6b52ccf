"""``gosudacon explain``."""

from __future__ import annotations

import _signal

from gosudacon.base import posix
from gosudacon.cli import output
from gosudacon.cli.main import options_of, root_of
from gosudacon.container.explain import Explanation, Refusal
from gosudacon.container.process import ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


_FOUND = 2  # the exit status with --strict or --risk


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle, or on stderr everything that is wrong with its configuration."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # as any filter's source: `explain | head` ends without a word
    bundle = posix.path.abspath(invocation.args[0] if invocation.args else ".")
    options, stage = options_of(invocation, ExecOptions), invocation.options["stage"]
    options.process = invocation.options["exec"]
    id, root = invocation.options["id"], root_of(invocation)
    try:
        waits = root if posix.getenv("NOTIFY_SOCKET") else ""
        explanation = Explanation(bundle, options, id, waits, invocation.options["mounts"])
    except Refusal as refusal:
        output.write(refusal.text, 2)
        return 1
    if not invocation.options["no-check"]:
        explanation.check(root)
    risk = invocation.options["risk"]
    if invocation.options["format"] == "json":
        output.write(explanation.as_json(stage))
    else:
        explanation.show(stage, risk)
    found = explanation.findings and invocation.options["strict"]
    return _FOUND if found or explanation.exceeds(risk) else 0
