"""A device, a variable and a mount for every container that asks for a GPU: by an annotation, or by its image."""

from __future__ import annotations

from gosudacon.api import Edit, Spec, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ANNOTATION = "org.example.gpu"  # of the container: "true"
VARIABLE = "GPU=wanted"  # in the environment that an image sets


@hookimpl
def gosudacon_edit_spec(spec: Spec, settings: Mapping[str, Any]) -> Edit | None:
    """Settings: ``major`` and ``minors`` of the devices, ``libraries``, the directory that programs need."""
    annotations = spec.config.get("annotations") or {}
    if annotations.get(ANNOTATION) != "true" and VARIABLE not in (spec.process.get("env") or ()):
        return None
    edit = Edit().add_env("GPU_LIBRARIES", "/opt/gpu")
    edit.add_mount("/opt/gpu", settings["libraries"], options=["ro", "nosuid", "nodev"])
    for minor in settings["minors"]:
        edit.add_device(f"/dev/gpu{minor}", "c", settings["major"], minor)
    return edit
