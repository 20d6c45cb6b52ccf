"""The verdicts, and who could have made a difference between what was asked and what is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.audit.subject import Subject

ENFORCED = "enforced"  # the kernel shows what was asked
STRICTER = "stricter"  # it allows less
ROUNDED = "rounded"  # equal after the kernel's own rounding
CHANGED = "changed since"  # differs, and the container's own processes had the right to do that
DRIFTED = "drifted"  # differs, and only a privileged process outside of the container can have done it
BROKEN = "NOT ENFORCED"  # differs, and nothing explains it but the runtime
UNSEEN = "cannot be observed"  # no interface shows it, or it could not be read
NOT_ASKED = "not asked"  # the configuration is silent, and this runtime does otherwise than gosudacon

ORDER = (BROKEN, DRIFTED, CHANGED, STRICTER, ROUNDED, UNSEEN, NOT_ASKED, ENFORCED)
#: Of no interest unless all is asked for.
QUIET = (ENFORCED, UNSEEN, NOT_ASKED)
FAILURES = (BROKEN, DRIFTED)

NO_PROCESS = "no process: the kernel has no interface by which a container that had it can lose it"
OUTSIDE = "root of the host, from outside"

SELF, FAULT, HOST = "self", "fault", "host"


class Finding:
    """One property: what was asked, what the kernel shows, the verdict, and the evidence (a file or a call).

    ``who`` could have changed it, ``step`` is the description of the step that answers for it and ``number`` its place
    in the plan (0: none); ``note`` says more.
    """

    __slots__ = ("asked", "evidence", "kernel", "note", "number", "property", "step", "verdict", "who")

    def __init__(
        self, property: str, asked: str, kernel: str, verdict: str, evidence: str, who: str = "", note: str = ""
    ) -> None:
        self.property = property
        self.asked = asked
        self.kernel = kernel
        self.verdict = verdict
        self.evidence = evidence
        self.who = who
        self.note = note
        self.step = ""
        self.number = 0

    def record(self) -> dict[str, object]:
        """As JSON data."""
        return {name: getattr(self, name) for name in (*_FIELDS, "number") if getattr(self, name) not in ("", 0)}


_FIELDS = ("property", "asked", "kernel", "verdict", "evidence", "who", "step", "note")


class Unseen(Exception):
    """A property that cannot be read, and why."""


def difference(subject: Subject, *rights: str, untouched: bool = False) -> tuple[str, str]:
    """Verdict and suspect for a value that is not what was asked.

    ``rights``: `SELF`, any process may change it; ``CAP_X``, one with that capability may; ``host:CAP_X``, only if it
    counts in the host's user namespace; `FAULT`: not even root of the host can. ``untouched``: it is what a runtime
    that ignores the property leaves. gosudacon fails to create a container where the kernel refuses, so of its own
    containers a value that could be changed from outside has been.
    """
    if untouched and not subject.ours:
        return BROKEN, "the runtime: it is as if nothing had been asked"
    if SELF in rights:
        return CHANGED, "any process of the container"
    for right in rights:
        name = right.removeprefix("host:")
        if name.startswith("CAP_") and subject.may(name, on_host=right != name):
            return CHANGED, f"the container: it may have {name}"
    if FAULT in rights:
        return BROKEN, NO_PROCESS
    return DRIFTED, OUTSIDE
