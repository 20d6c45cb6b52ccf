"""Delete a container whose state.json cannot be read, using the other files of its state directory."""

from __future__ import annotations

from gosudacon.base.errors import Error, reason
from gosudacon.container import host as hosts
from gosudacon.pipeline.kinds import SALVAGE, rebuild
from gosudacon.pipeline.spec import Spec
from gosudacon.pipeline.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Store, UnreadableError

_LOST = "the state could not be read: poststop hooks and what plugins do when a container is deleted were left out"


def salvage(store: Store, damage: UnreadableError) -> list[Error]:
    """End the container's processes and remove its cgroups and its directory; returns what is to be said of it.

    Raises ``damage`` where no note tells which cgroups are the container's, and keeps all that is there.
    """
    context = Context(Spec({}, store.id, ""), hosts.gather())
    context.state_dir = store.fd
    try:
        for name in SALVAGE:
            rebuild([name, 1, {}]).undo(context)
    except Exception as error:
        damage.message += f"; and its processes could not be ended: {reason(error)}"
        damage.hint = f"end them, if there are any, and remove {store.root}/{store.id}"
        raise damage from error
    store.remove()
    return [Error(f"container {store.id}: {_LOST}")]
