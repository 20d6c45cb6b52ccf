"""What a container was given, as an annotation of ours in the configuration that is kept: for ``exec``, and for people.

The annotation is ours where the plugin has made it. A bundle may have it, too, written by any user: `create` takes
it away or puts its own in the place, and ``exec`` believes it only as far as the first process has the same.
"""

from __future__ import annotations

from gosudacon.api import Edit, Spec
from gosudacon.base import jsonio

ANNOTATION = "org.gosudacon.cdi"


def written(edit: Edit, devices: list[str], env: list[str], gids: list[int]) -> Edit:
    """Add the annotation to the edits of a container that gets devices."""
    return edit.set_annotation(ANNOTATION, jsonio.dumps({"devices": devices, "env": env, "gids": gids}))


def for_process(spec: Spec) -> Edit | None:
    """Variables and groups for another process in the container."""
    text = (spec.config.get("annotations") or {}).get(ANNOTATION)
    if not text or spec.target is None:
        return None
    try:
        given = jsonio.loads(text.encode())
    except (ValueError, AttributeError):
        return None
    if not isinstance(given, dict):
        return None
    first = spec.target.process
    edit = Edit()
    for line in _listed(given.get("env")):
        if isinstance(line, str) and line in (first.get("env") or ()):
            name, _, value = line.partition("=")
            edit.add_env(name, value)
    groups = (spec.process.get("user") or {}).get("additionalGids") or []
    for gid in _listed(given.get("gids")):
        if gid in ((first.get("user") or {}).get("additionalGids") or ()) and gid not in groups:
            edit.append("process.user.additionalGids", gid)
    return edit


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
