"""What the steps of ``learn`` expect: a filter that asks, instead of the profile's own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import Table

TABLE: Table = {
    "StartRecorder": "the recorder is a process of the host's, which ends with the container's last one",
    "FindRecorder": "the connection is closed when the filter is loaded",
    "HoldSysAdmin": "execve(2) has taken it away; seen with the capabilities",
    "LendProfile": "it is for hooks, which have ended",
    "LoadRecorder": "its filter leaves every answer to the recorder; the profile is the compiling step's",
}
