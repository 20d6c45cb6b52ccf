"""What the steps of ``hooks`` expect: nothing that the kernel could show."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import Table

_PAST = "hooks are events of the past: what they have done is theirs"

TABLE: Table = {"OpenHook": _PAST, "RunHook": _PAST, "OpenOutputs": _PAST}
