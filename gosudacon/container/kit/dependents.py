"""Which containers that exist have been made with a plugin: its steps undo what it has made of them."""

from __future__ import annotations

import os

from gosudacon.base.errors import Error, StateError
from gosudacon.container.state import Container, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def containers(root: str, plugin: str, stages: Collection[str]) -> list[str]:
    """The ids of the containers below ``root`` that have recorded steps of a plugin, or of its ``stages``.

    What cannot be read is left out.
    """
    try:
        ids = sorted(os.listdir(root))
    except OSError:
        return []
    return [id for id in ids if _needs(root, id, plugin, stages)]


def _needs(root: str, id: str, plugin: str, stages: Collection[str]) -> bool:
    store = Store(root, id)
    try:
        store.open()
        data = Container.load(store).data
    except (Error, StateError, OSError):
        return False
    finally:
        store.close()
    return any(
        str(record[0]).startswith(f"{plugin}.") or record[2].get("stage") in (plugin, *stages)
        for record in (*data["lasting"], *data["started"], *data["deleted"])
    )
