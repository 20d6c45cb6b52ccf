"""Everything the author of a stage needs, and nothing else. See docs/plugins.md."""

from __future__ import annotations

from gosudacon.linux.errors import ConfigError, Error, StepError
from gosudacon.pipeline.step import (
    CONFINE,
    CONTAINER,
    CREATE_CONTAINER,
    CREATE_RUNTIME,
    DELETE,
    ISOLATE,
    MOUNT,
    PIVOT,
    PREPARE,
    RUNTIME,
    START,
    STARTED,
    Context,
    Host,
    PlanWarning,
    Rank,
    Spec,
    Stage,
    Step,
    Target,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from gosudacon.linux.path import mkdir_in_root, open_in_root
    from gosudacon.pipeline.plan import Plan as Plan  # for annotations of gosudacon_amend_plan

    Hook = TypeVar("Hook", bound=Callable[..., object])


def hookimpl(function: Hook) -> Hook:
    """Mark a function as the implementation of one of gosudacon's pluggy hooks (see `gosudacon.pipeline.hookspecs`).

    Does what ``pluggy.HookimplMarker("gosudacon")`` does, without importing pluggy, which costs more than a
    whole ``gosudacon state``.
    """
    function.gosudacon_impl = {  # type: ignore[attr-defined]
        "wrapper": False,
        "hookwrapper": False,
        "optionalhook": False,
        "tryfirst": False,
        "trylast": False,
        "specname": None,
    }
    return function


def __getattr__(name: str) -> Any:
    """``mkdir_in_root`` and ``open_in_root`` bring `_ctypes` with them, which `delete` does without."""
    if name not in ("mkdir_in_root", "open_in_root"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gosudacon.linux import path

    return getattr(path, name)


__all__ = [
    "CONFINE",
    "CONTAINER",
    "CREATE_CONTAINER",
    "CREATE_RUNTIME",
    "DELETE",
    "ISOLATE",
    "MOUNT",
    "PIVOT",
    "PREPARE",
    "RUNTIME",
    "START",
    "STARTED",
    "ConfigError",
    "Context",
    "Error",
    "Host",
    "PlanWarning",
    "Rank",
    "Spec",
    "Stage",
    "Step",
    "StepError",
    "Target",
    "hookimpl",
    "mkdir_in_root",
    "open_in_root",
]
