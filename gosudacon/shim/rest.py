"""What a shim does when it has nothing to do: give back what memory it can (`gosudacon.linux.sharing`)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: What that is in this process: nothing, to share with the template, or, in a rehearsal, to write the image.
act: Callable[[], object] | None = None


def rest() -> None:
    """Do it. Raises OSError."""
    if act is not None:
        act()
