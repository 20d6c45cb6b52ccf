"""What the steps of `files` expect: the mounts are there, and are not to be written to."""

from __future__ import annotations

from gosudacon.api import Expectation
from gosudacon.plugins.netcommon.files import PLACES, WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Host, Spec, Table
    from gosudacon.plugins.netcommon import files


def _mounted(step: files.MountFiles, spec: Spec, host: Host) -> Iterator[Expectation]:
    for name in step.names:
        asked = {"words": list(WORDS), "propagation": "private", "optional": True}
        yield Expectation(step.where, "mount", asked, PLACES[name])


TABLE: Table = {
    "MakeFiles": "seen with the step that mounts the files",
    "MountFiles": _mounted,
    "RemakeFiles": "of a restored container, which CRIU has mounted",
}
