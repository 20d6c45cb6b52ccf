"""One audit: plan the container anew, look at its process, and hold the one against the other."""

from __future__ import annotations

import sys
from importlib import import_module

from gosudacon.audit import inside
from gosudacon.audit.plan import Asked
from gosudacon.audit.subject import Subject
from gosudacon.audit.verdict import CHANGED, FAILURES, NOT_ASKED, ORDER, UNSEEN, Finding, Unseen
from gosudacon.base.errors import Error, reason
from gosudacon.container import host as hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gosudacon.audit.containers import Found
    from gosudacon.pipeline.expectation import Expectation
    from gosudacon.pipeline.spec import Host
    from gosudacon.pipeline.step import Step

    Reader = Callable[[Subject, Expectation], Iterator[Finding]]

#: Name of a reader, as `Expectation.reader` has it -> the function, by module.
READERS = {
    **{
        name: f"process:{name.replace('-', '_')}"
        for name in (
            *("ids", "groups", "umask", "no-new-privileges", "capabilities", "rlimit", "oom-score", "scheduler"),
            *("io-priority", "personality", "memory-policy", "affinity", "label", "keyring", "program", "directory"),
            *("terminal", "descriptors"),
        )
    },
    **{name: f"spaces:{name.replace('-', '_')}" for name in ("id-map", "time-offset", "name", "sysctl", "device-up")},
    "namespace": "spaces:space",
    "resctrl": "spaces:resctrl",
    "mount": "places:mounted",
    "masked": "places:masked",
    "read-only": "places:read_only",
    "node": "places:node",
    "link": "places:link",
    "root": "places:root",
    "old-root-gone": "places:old_root_gone",
    "propagation": "places:propagation",
    "cgroup": "limits:cgroup",
    "cgroup-value": "limits:value",
    "cgroup-first": "limits:first",
    "devices-v1": "devices:v1",
    "devices-v2": "devices:v2",
    "seccomp": "filters:seccomp",
}
_PATHS = ("mount", "masked", "read-only", "node", "link")
_ASKED = frozenset((*_PATHS, "sysctl", "name", "program", "memory-policy", "device-up"))


class Audit:
    """The findings about one container.

    ``id``, ``runtime`` (empty if it is not known) and ``pid`` say which; ``lost`` what of its plan is lost;
    ``traceless`` are the steps that leave nothing to see, with the reason.
    """

    def __init__(self, found: Found, findings: list[Finding], traceless: list[tuple[int, str, str]]) -> None:
        self.id = found.id
        self.runtime = found.runtime
        self.pid = found.pid
        self.lost = found.lost
        self.findings = findings
        self.traceless = traceless

    def counts(self) -> dict[str, int]:
        """How many findings have each verdict, those without any left out."""
        numbers = {verdict: sum(each.verdict == verdict for each in self.findings) for verdict in ORDER}
        return {verdict: number for verdict, number in numbers.items() if number}

    def failed(self, strict: bool = False) -> bool:
        """Whether a finding is a failure; with ``strict``, a change by the container itself is one, too."""
        return any(each.verdict in FAILURES or (strict and each.verdict == CHANGED) for each in self.findings)


class Auditor:
    """What many audits share: facts about the host, and how seccomp filters are to be looked at.

    ``program``: read filters back, which stops the container for a moment.
    """

    def __init__(self, config_file: str = "", use_snapshot: bool = True, program: bool = False) -> None:
        self.host: Host = hosts.gather()
        self.config_file = config_file
        self.use_snapshot = use_snapshot
        self.program = program
        self._spaces: dict[tuple[int, int], list[int]] | None = None

    def audit(self, found: Found) -> Audit:
        """Raises `Error` if the container cannot be audited: it has no plan here, or it has stopped."""
        if not found.pid:
            raise Error("the container has no process: it has stopped, or is being created")
        asked = Asked(found, self.host, self.config_file, self.use_snapshot)
        subject = Subject(
            found.spec, self.host, found.pid, found.start_time, found.runtime, found.cgroups, found.started
        )
        try:
            subject.program, subject.updated = self.program, found.updated
            subject.claimed |= asked.covered
            subject.asking = inside.Asking(subject, _questions(subject, asked))
            findings = _all(subject, asked)
            findings += self._beyond(subject)
            subject.check()
        except OSError as error:
            subject.check()
            raise Error(f"cannot look at process {found.pid}: {reason(error)}") from error
        finally:
            subject.close()
        return Audit(found, findings + asked.silent, asked.traceless)

    def _beyond(self, subject: Subject) -> list[Finding]:
        """What the configuration does not ask for: mounts, and processes that are less confined than init."""
        from gosudacon.audit import neighbours, places

        found: list[Finding] = []
        try:
            found += places.unasked(subject)
        except (OSError, Unseen) as error:
            found.append(Finding("mounts", "", "", UNSEEN, "", note=str(error)))
        try:
            found += neighbours.less_confined(subject, self._of_namespace(subject))
        except (OSError, Unseen) as error:
            found.append(Finding("processes", "", "", UNSEEN, "", note=str(error)))
        return found

    def _of_namespace(self, subject: Subject) -> list[int]:
        """The processes of the container's pid namespace; all of the machine's are looked at once."""
        if self._spaces is None:
            from gosudacon.audit import neighbours

            self._spaces = neighbours.by_pid_namespace()
        return self._spaces.get(subject.inode("pid") or (0, 0), []) if subject.differs("pid") else []


def _all(subject: Subject, asked: Asked) -> list[Finding]:
    """The findings in the order of the plan; first those that need no answer, while the child looks for the others."""
    found: dict[int, list[Finding]] = {}
    for waits in (False, True):
        for index, entry in enumerate(asked.expected):
            if (entry[2].reader in _ASKED) is waits:
                found[index] = _judged(subject, *entry)
    return [finding for index in sorted(found) for finding in found[index]]


def _questions(subject: Subject, asked: Asked) -> list[str]:
    from gosudacon.audit import places, process

    questions: list[str] = []
    for _, _, wanted in asked.expected:
        if wanted.reader in _PATHS:
            questions += places.questions(wanted)
        elif wanted.reader == "sysctl":
            questions.append(inside.SYSCTL + wanted.key)
        elif wanted.reader == "device-up":
            questions.append(inside.DEVICE + wanted.key)
        elif wanted.reader == "name":
            questions.append(inside.UNAME)
        elif wanted.reader == "program":
            questions += process.program_questions(subject, wanted)
        elif wanted.reader == "memory-policy":
            questions.append(inside.NUMA)
    return questions


def _judged(subject: Subject, number: int, step: Step, wanted: Expectation) -> list[Finding]:
    """The findings of one expectation, with the step that answers for them."""
    asked = wanted.asked if isinstance(wanted.asked, str) else ""
    late = not subject.started and wanted.reader in ("seccomp", "program", "descriptors", "capabilities")
    try:
        if late:
            raise Unseen("the container has not been started: this is not final yet")
        found = list(_reader(wanted.reader)(subject, wanted))
    except Unseen as unseen:
        found = [Finding(wanted.where, asked, "", UNSEEN, wanted.reader, note=str(unseen))]
    except OSError as error:
        found = [Finding(wanted.where, asked, "", UNSEEN, wanted.reader, note=reason(error))]
    for finding in found:
        finding.number, finding.step = number, step.describe()
        if finding.verdict not in (UNSEEN,) and not subject.ours and not _in_config(subject, wanted.where):
            _excuse(finding)
    return found


def _excuse(finding: Finding) -> None:
    """What the configuration does not ask for is a runtime's own choice."""
    if finding.verdict in (*FAILURES, CHANGED) and finding.property != "open descriptors":
        finding.verdict, finding.who = NOT_ASKED, ""


_BY_SPECIFICATION = ("default devices", "open descriptors", "root.path", "linux.namespaces")


def _in_config(subject: Subject, where: str) -> bool:
    name = where.partition("[")[0].partition("'")[0]
    return where in _BY_SPECIFICATION or subject.spec.has(name)


def _reader(name: str) -> Reader:
    place = READERS.get(name)
    if place is None:
        raise Unseen(f"there is no reader {name!r}")
    module, _, function = place.partition(":")
    path = f"gosudacon.audit.{module}"
    if path not in sys.modules:
        import_module(path)
    reader: Reader = getattr(sys.modules[path], function)
    return reader
