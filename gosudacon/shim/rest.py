"""What a shim does when it has nothing to do: give back what memory it can (`gosudacon.linux.sharing`)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Act: TypeAlias = Callable[[int, float], object]

#: What that is in this process: nothing, to share with the template, or, in a rehearsal, to have the image written.
act: Act | None = None


def rest(fd: int, seconds: float) -> None:
    """Do it, and perhaps wait until ``fd`` is ready to be read, for so long at most. Raises OSError."""
    if act is not None:
        act(fd, seconds)
