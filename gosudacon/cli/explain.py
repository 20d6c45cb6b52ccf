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


_FOUND = 2  # the exit status with --strict or --risk


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle, or on stderr everything that is wrong with its configuration."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # as any filter's source: `explain | head` ends without a word
    stage = invocation.options["stage"]
    try:
        explanation = _explanation(invocation, invocation.args[0] if invocation.args else ".")
    except Refusal as refusal:
        output.write(refusal.text, 2)
        return 1
    if not invocation.options["no-check"]:
        explanation.check(root_of(invocation))
    risk = invocation.options["risk"]
    if invocation.options["format"] == "json":
        output.write(explanation.as_json(stage))
    else:
        explanation.show(stage, risk)
    found = explanation.findings and invocation.options["strict"]
    return _FOUND if found or explanation.exceeds(risk) else 0


def _explanation(invocation: Invocation, what: str) -> Explanation:
    """Of a container that exists, or of a bundle, which may be the path of any directory."""
    from gosudacon.container import existing

    options, root = options_of(invocation, ExecOptions), root_of(invocation)
    if existing.names_one(what):
        for name in ("exec", "mounts", "id", "config"):
            if name in invocation.given:
                raise Error(f"explain: --{name} is for a bundle, and {what} is no directory")
        return existing.Existing(root, what, options)
    options.process = invocation.options["exec"]
    waits = root if posix.getenv("NOTIFY_SOCKET") else ""
    return Explanation(posix.path.abspath(what), options, invocation.options["id"], waits, invocation.options["mounts"])
