"""``gosudacon learn``."""

from __future__ import annotations

import time

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, reason
from gosudacon.cli import output
from gosudacon.cli.learn_report import as_table
from gosudacon.cli.main import bundle_of, caller_of, options_of, root_of
from gosudacon.container.caller import Options
from gosudacon.container.create import Creation
from gosudacon.container.operation import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

_PATIENCE = 10.0  # seconds for the recorder of a container that is kept to write
_MOST = 64 << 20  # bytes


def run(invocation: Invocation) -> int:
    """Run a container whose system calls are recorded; print the report, and return the container's exit status."""
    format = invocation.options["format"]
    if invocation.options["show"]:
        if invocation.args:
            raise Error("--show takes no container")
        output.write(_shown(load(invocation.options["show"]), format))
        return 0
    if not invocation.args:
        raise Error("which container? give it an id")
    profile = posix.path.abspath(invocation.options["profile"] or "seccomp.json")
    report = profile.removesuffix(".json") + ".report.json"
    before = _identity(report)
    status = _operation(invocation, profile).run()
    if invocation.options["detach"]:
        return status
    deadline = time.monotonic() + _PATIENCE
    while _identity(report) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    if _identity(report) == before:
        invocation.log.warning(
            f"{report}: not written yet: something of the container still runs, or the host's log says why"
        )
    else:
        output.write(_shown(load(report), format), 2)
    return status


def _operation(invocation: Invocation, profile: str) -> Operation:
    caller = caller_of(invocation)
    options = options_of(invocation, Options)
    options.run, options.foreground = True, not invocation.options["detach"]
    options.plugins, options.learn, options.learn_anew = ("learn",), profile, invocation.options["anew"]
    creation = Creation(root_of(invocation), invocation.args[0], bundle_of(invocation), options, caller)
    return Operation(creation, invocation.options["keep"], not invocation.options["no-subreaper"])


def load(path: str) -> dict[str, object]:
    """The report in a file. Raises `Error`."""
    try:
        value = jsonio.loads(posix.read_file(path, _MOST))
    except OSError as error:
        raise Error(f"open {reason(error)}") from error
    except ValueError as error:
        raise Error(f"{path}: {error}") from error
    if not isinstance(value, dict) or value.get("version") != 1 or not isinstance(value.get("calls"), list):
        raise Error(f"{path}: not a report of `gosudacon learn`", hint="it is next to the profile: FILE.report.json")
    return value


def _shown(report: dict[str, object], format: str) -> str:
    return jsonio.dumps(report, 2) + "\n" if format == "json" else as_table(report)


def _identity(path: str) -> tuple[int, int]:
    """Which version of a file it is: each has an inode of its own."""
    try:
        status = posix.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns
