"""``gosudacon audit``."""

from __future__ import annotations

from gosudacon.audit import containers, report
from gosudacon.audit.audit import Audit, Auditor
from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.cli.main import root_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.containers import Found
    from gosudacon.cli.parse import Invocation

_CANNOT = 2  # a container could not be audited


def run(invocation: Invocation) -> int:
    """Audit one container, or all: 0 if all holds, 1 if something does not, 2 if one could not be looked at."""
    options = invocation.options
    settings = invocation.globals["config-file"] if "config-file" in invocation.given else ""
    auditor = Auditor(settings, not invocation.globals["no-snapshot"], options["seccomp"] == "program")
    audits: list[Audit] = []
    failed: list[tuple[str, Error]] = []
    for found in _wanted(invocation):
        if isinstance(found, tuple):
            failed.append(found)
            continue
        try:
            audits.append(auditor.audit(found))
        except Error as error:
            failed.append((found.id, error))
    _show(invocation, audits, failed)
    if failed:
        return _CANNOT
    return int(any(audit.failed(options["strict"]) for audit in audits))


def _wanted(invocation: Invocation) -> Iterator[Found | tuple[str, Error]]:
    options, args = invocation.options, invocation.args
    chosen = bool(args) + bool(options["pid"]) + bool(options["all"])
    if chosen != 1:
        raise Error("audit needs the id of a container, or --pid with --bundle, or --all")
    if options["pid"]:
        if not options["bundle"]:
            raise Error("audit: --pid needs --bundle, for the config.json that the container was made from")
        yield containers.by_pid(options["pid"], posix.path.abspath(options["bundle"]))
        return
    roots = [root_of(invocation)] if "root" in invocation.given else [root_of(invocation), *containers.ROOTS]
    roots = list(dict.fromkeys(roots))
    if options["all"]:
        yield from containers.everything(roots)
    else:
        yield containers.by_id(args[0], roots)


def _show(invocation: Invocation, audits: list[Audit], failed: list[tuple[str, Error]]) -> None:
    chosen = invocation.options["format"]
    if chosen == "json":
        output.write(report.json(audits, failed))
    elif chosen == "prometheus":
        output.write(report.prometheus(audits, failed))
    else:
        tables = (report.table(audit, invocation.options["all-properties"]) for audit in audits)
        output.write("\n".join(tables))
        output.write(report.failures(failed), 2)
