"""``gosudacon checkpoint``."""

from __future__ import annotations

from gosudacon.cli.main import root_of, spec_options
from gosudacon.container.criu.checkpoint import checkpoint
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Save a running container to disk."""
    options = with_images(spec_options(invocation))
    options["status_fd"] = invocation.options["status-fd"]
    for warning in checkpoint(root_of(invocation), invocation.args[0], options):
        invocation.log.warning(warning.message)
    return 0


def with_images(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the directories of images and work files as absolute paths."""
    paths = {"image_path": options.get("image_path", "checkpoint"), "work_path": options.get("work_path", "")}
    return {**options, **{name: os.path.abspath(path) for name, path in paths.items() if path}}
