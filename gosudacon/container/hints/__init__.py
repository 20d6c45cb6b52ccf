"""Hints: what to do about the failures that people meet most.

May use: what `gosudacon.container` may.
Start with `recognized`, then `program`.

`TABLE` is the one table of kinds. A kind looks at an error, and where it needs to at the configuration, the host and
the image, and says in one line what to do, or nothing if the failure is of another kind. The first that has something
to say is heard. docs/errors.md lists them. Imported only when something has failed, or by ``explain``.
"""

from __future__ import annotations

from gosudacon.container.hints import cgroups, configuration, machine, mounts, process, program
from gosudacon.container.hints.kinds import Failure as Failure
from gosudacon.container.hints.kinds import Kind as Kind

TOPICS: dict[str, tuple[Kind, ...]] = {
    "The configuration": configuration.KINDS,
    "The program": program.KINDS,
    "Mounts, devices and kernel parameters": mounts.KINDS,
    "Cgroups and limits": cgroups.KINDS,
    "The process": process.KINDS,
    "The machine": machine.KINDS,
}
TABLE: tuple[Kind, ...] = tuple(kind for kinds in TOPICS.values() for kind in kinds)


def find(failure: Failure) -> str:
    """What to do about a failure; an empty string if nothing is known."""
    return recognized(failure)[1]


def recognized(failure: Failure) -> tuple[str, str]:
    """The name of the failure's kind, and what to do about it; empty strings if it is of none."""
    for kind in TABLE:
        try:
            hint = kind.hint(failure)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # the configuration may be of any form, and the host may change: another kind may know
        if hint:
            return kind.name, hint
    return "", ""
