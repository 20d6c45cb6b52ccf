"""``gosudacon explain``."""

from __future__ import annotations

import _signal

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.cli.main import options_of, root_of
from gosudacon.container.explain import Explanation, Refusal
from gosudacon.container.process import ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


_FOUND = 2  # the exit status with --strict or --risk
_DIFFERENT, _TROUBLE = 1, 2  # as diff(1) has them
_OF_ONE = ("timings", "audit", "risk", "strict", "long")
_OF_BUNDLES = ("exec", "mounts", "id", "config")


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle, or on stderr everything that is wrong with its configuration; or compare two."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)  # as any filter's source: `explain | head` ends without a word
    if len(invocation.args) > 1 or len(invocation.options["host"]) > 1:
        return _compare(invocation)
    stage, path = invocation.options["stage"], invocation.options["timings"]
    trace = None
    if path:
        from gosudacon.cli.trace import load

        trace = load(path)
    try:
        id = trace.id if trace is not None else ""  # of a bundle, if no other is asked for
        explanation = _explanation(invocation, (invocation.args or ["."])[0], id, *invocation.options["host"])
    except Refusal as refusal:
        output.write(refusal.text, 2)
        return 1
    if not invocation.options["no-check"] and not invocation.options["host"]:
        explanation.check(root_of(invocation))
    timings = None
    if trace is not None:
        from gosudacon.trace import measured

        timings = measured.measure(trace, path, explanation.spec.operation, explanation.steps())
    risk = invocation.options["risk"] if "risk" in invocation.given else ""
    form, long, audit = (invocation.options[name] for name in ("format", "long", "audit"))
    verdicts = {}
    if audit:
        from gosudacon.audit import saved

        if form not in ("html", "svg"):
            raise Error("explain: --audit is for --format html and svg")
        verdicts = saved.verdicts(audit, explanation.spec.id, [line for _, _, line in explanation.steps()])
    if form == "json":
        output.write(explanation.as_json(stage, timings, long))
    elif form == "table":
        explanation.show(stage, risk, timings, long)
    elif form == "html":
        output.write(explanation.as_page(stage, timings, long, verdicts))
    else:
        output.write(explanation.as_svg(stage, timings, verdicts))
    found = explanation.findings and invocation.options["strict"]
    return _FOUND if found or explanation.exceeds(risk) else 0


def _explanation(invocation: Invocation, what: str, id: str = "", host: str = "") -> Explanation:
    """Of a container that exists, or of a bundle, which may be the path of any directory.

    ``id``: a bundle's, unless the option says another one; ``host``: a file of facts about another machine.
    """
    from gosudacon.container import existing, facts

    options, root = options_of(invocation, ExecOptions), root_of(invocation)
    machine = facts.load(host) if host else None
    if existing.names_one(what):
        for name in _OF_BUNDLES:
            if name in invocation.given:
                raise Error(f"explain: --{name} is for a bundle, and {what} is not a directory")
        return existing.Existing(root, what, options, machine)
    options.process = invocation.options["exec"]
    waits = root if posix.getenv("NOTIFY_SOCKET") else ""
    id = invocation.options["id"] or id
    return Explanation(posix.path.abspath(what), options, id, waits, invocation.options["mounts"], machine)


def _compare(invocation: Invocation) -> int:
    """Print what differs between two plans: of two bundles or containers, on two hosts, or both."""
    from gosudacon.container.comparison import Comparison

    try:
        for name in _OF_ONE:
            if name in invocation.given:
                raise Error(f"explain: --{name} is about one plan")
        if invocation.options["format"] in ("html", "svg"):
            raise Error("explain: two plans are compared as table or json")
        hosts = invocation.options["host"] or [""]
        if len(hosts) > 2:
            raise Error("explain: more than two hosts")
        whats = invocation.args or ["."]
        one = _explanation(invocation, whats[0], host=hosts[0])
        other = _explanation(invocation, whats[-1], one.spec.id, hosts[-1])
        comparison = Comparison(one, other, one.labels(invocation.options["stage"]))
    except Refusal as refusal:
        output.write(refusal.text, 2)
        return _TROUBLE
    except (Error, OSError) as error:
        invocation.log.error(error)
        return _TROUBLE
    if invocation.options["format"] == "json":
        output.write(jsonio.dumps(comparison.to_json(), 2) + "\n")
    else:
        from gosudacon.container import compared

        compared.show(comparison)
    return _DIFFERENT if not comparison.equal else 0
