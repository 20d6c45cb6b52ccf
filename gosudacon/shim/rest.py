"""What a shim does when it has nothing to do: give back what memory it can (`gosudacon.linux.sharing`).

Callbacks and what they are for refer to each other, and only the garbage collector frees those. It is off in a template
and in commands, which are over before there is garbage worth looking for; a shim may live for months.
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Act: TypeAlias = Callable[[int, float], object]

_MANY = 400  # new objects, of which a pod with one container makes half
_BUSY = 1000, 2, 1  # the collector's thresholds for a shim that never rests

#: What that is in this process: nothing, to share with the template, or, in a rehearsal, to have the image written.
act: Act | None = None


def collect_garbage() -> None:
    """Have garbage collected from now on. What there is already stays: all of that is shared, and needed."""
    gc.freeze()
    gc.collect()  # of nothing, and that is what the size of later garbage is compared with
    gc.set_threshold(*_BUSY)
    gc.enable()


def rest(fd: int, seconds: float) -> None:
    """Collect garbage, if there is much, and act, which may wait until ``fd`` is ready, for so long at most.

    Raises OSError.
    """
    new, collections, _ = gc.get_count()
    if new > _MANY or collections:
        gc.collect()
    if act is not None:
        act(fd, seconds)
