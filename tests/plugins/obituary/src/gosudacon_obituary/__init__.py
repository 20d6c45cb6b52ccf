"""Writes down how containers have ended, in the file ``ended`` of the bundle."""

from __future__ import annotations

import json
import time

from gosudacon.api import EndedContainer, Exit, hookimpl


@hookimpl
def gosudacon_container_exited(container: EndedContainer, exit: Exit) -> None:
    """Write it down; take too long, or fail, where an annotation asks for it."""
    with open(f"{container.bundle}/ended", "a") as file:
        file.write(json.dumps({**vars(exit), "id": container.id, "annotations": container.annotations}) + "\n")
    if "fail" in container.annotations:
        raise RuntimeError("the obituary is not printed")
    if "hang" in container.annotations:
        time.sleep(1000)
