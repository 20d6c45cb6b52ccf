"""Everything the author of a plugin needs, and nothing else. See also hookspecs.py and docs/plugins.md."""

from __future__ import annotations

from gosudacon.base.errors import ConfigError, Error, SettingsError, StepError, SyscallError
from gosudacon.pipeline.spec import (
    ADD_MOUNTS,
    CREATE,
    EXEC,
    REMOVE_MOUNTS,
    RESTORE,
    UPDATE,
    Host,
    Options,
    Spec,
    Target,
)
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
    PlanWarning,
    Rank,
    Stage,
    Step,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    from gosudacon.linux import listener
    from gosudacon.linux.child import in_namespaces, open_namespace
    from gosudacon.linux.mount import clone_tree, mount_setattr, move_mount, new_filesystem, umount
    from gosudacon.linux.namespace import setns, unshare
    from gosudacon.linux.notify_all import flag_bits, load_filter, notify_all
    from gosudacon.linux.path import mkdir_in_root, open_in_root
    from gosudacon.linux.program import Ended, Program
    from gosudacon.linux.rtnetlink import Rtnetlink
    from gosudacon.linux.syscalls import SyscallNames
    from gosudacon.pipeline.edit import Edit
    from gosudacon.pipeline.exited import EndedContainer, Exit
    from gosudacon.pipeline.expectation import Expectation
    from gosudacon.pipeline.expectation import Table as Table
    from gosudacon.pipeline.plan import Plan
    from gosudacon.schema.types import Arg as Arg  # for annotations alone, as what follows
    from gosudacon.schema.types import Config as Config
    from gosudacon.schema.types import Features as Features
    from gosudacon.schema.types import Linux as Linux
    from gosudacon.schema.types import Process as Process
    from gosudacon.schema.types import Resources as Resources
    from gosudacon.schema.types import Seccomp as Seccomp
    from gosudacon.schema.types import Syscall as Syscall

    Hook = TypeVar("Hook", bound=Callable[..., object])

    @overload
    def hookimpl(function: Hook) -> Hook: ...

    @overload
    def hookimpl(
        *, tryfirst: bool = False, trylast: bool = False, optionalhook: bool = False, specname: str | None = None
    ) -> Callable[[Hook], Hook]: ...

    def hookimpl(function: Any = None, **options: Any) -> Any: ...

else:

    def hookimpl(
        function: Callable[..., object] | None = None,
        *,
        tryfirst: bool = False,
        trylast: bool = False,
        optionalhook: bool = False,
        specname: str | None = None,
    ) -> Callable[..., object]:
        """Mark a function as the implementation of one of gosudacon's hooks, which `gosudacon.hookspecs` documents.

        Does what ``pluggy.HookimplMarker("gosudacon")`` does, without importing pluggy, which costs more than a
        whole ``gosudacon state``. The plugin enabled last is called first; ``tryfirst`` puts an implementation before
        those that do not say so, ``trylast`` behind them. ``optionalhook``: a gosudacon that does not have this hook
        is not an error. ``specname``: the hook's name, if the function's is another.
        """

        def mark(function):
            function.gosudacon_impl = {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": optionalhook,
                "tryfirst": tryfirst,
                "trylast": trylast,
                "specname": specname,
            }
            return function

        return mark if function is None else mark(function)


#: Name -> the module it comes from, which is imported at first use: `delete` does without `_ctypes`, and
#: a command without plugins does without `Edit`.
_later = {
    "Edit": "gosudacon.pipeline.edit",
    **dict.fromkeys(("EndedContainer", "Exit"), "gosudacon.pipeline.exited"),
    **dict.fromkeys(("flag_bits", "load_filter", "notify_all"), "gosudacon.linux.notify_all"),
    "listener": "gosudacon.linux",
    "Rtnetlink": "gosudacon.linux.rtnetlink",
    "SyscallNames": "gosudacon.linux.syscalls",
    "Expectation": "gosudacon.pipeline.expectation",
    "Plan": "gosudacon.pipeline.plan",
    **dict.fromkeys(("in_namespaces", "open_namespace"), "gosudacon.linux.child"),
    **dict.fromkeys(("setns", "unshare"), "gosudacon.linux.namespace"),
    **dict.fromkeys(("mkdir_in_root", "open_in_root"), "gosudacon.linux.path"),
    **dict.fromkeys(("Ended", "Program"), "gosudacon.linux.program"),
    **dict.fromkeys(("clone_tree", "mount_setattr", "move_mount", "new_filesystem", "umount"), "gosudacon.linux.mount"),
}


def __getattr__(name: str) -> Any:
    """The names of `_later`."""
    if name not in _later:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(_later[name], fromlist=(name,))
    return getattr(module, name)


__all__ = [
    "ADD_MOUNTS",
    "CONFINE",
    "CONTAINER",
    "CREATE",
    "CREATE_CONTAINER",
    "CREATE_RUNTIME",
    "DELETE",
    "EXEC",
    "ISOLATE",
    "MOUNT",
    "PIVOT",
    "PREPARE",
    "REMOVE_MOUNTS",
    "RESTORE",
    "RUNTIME",
    "START",
    "STARTED",
    "UPDATE",
    "ConfigError",
    "Context",
    "Edit",
    "Ended",
    "EndedContainer",
    "Error",
    "Exit",
    "Expectation",
    "Host",
    "Options",
    "Plan",
    "PlanWarning",
    "Program",
    "Rank",
    "Rtnetlink",
    "SettingsError",
    "Spec",
    "Stage",
    "Step",
    "StepError",
    "SyscallError",
    "SyscallNames",
    "Target",
    "clone_tree",
    "flag_bits",
    "hookimpl",
    "in_namespaces",
    "listener",
    "load_filter",
    "mkdir_in_root",
    "mount_setattr",
    "move_mount",
    "new_filesystem",
    "notify_all",
    "open_in_root",
    "open_namespace",
    "setns",
    "umount",
    "unshare",
]
