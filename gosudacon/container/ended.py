"""Why a container's process in the foreground ended, where its exit status does not tell: memory, or the filter."""

from __future__ import annotations

from _signal import SIGSYS

from gosudacon.base import posix
from gosudacon.linux.cgroup import files, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.pipeline.spec import Spec

_MEMORY_FILES = {"memory": ("memory.limit_in_bytes", "memory.max_usage_in_bytes"), "": ("memory.max", "memory.peak")}
_KILLING = ("SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP")
_BY_A_SHELL = 128 + SIGSYS  # what a shell exits with when a command has died of it


def why(ended: int, spec: Spec, cgroups: Mapping[str, str]) -> tuple[str, str]:
    """What killed the process whose wait status is ``ended`` (wait(2)), and what to do; empty strings for nothing.

    ``cgroups``: the container's, which must still be there.
    """
    killed = processes.oom_kills(cgroups)
    if killed:
        who = "the container's process" if posix.WIFSIGNALED(ended) else "a process of the container"
        text = f"{who} was killed for lack of memory (OOM-killed{_memory(cgroups)})"
        return text, "raise linux.resources.memory.limit, or find out what takes so much: `gosudacon events` shows it"
    code = posix.waitstatus_to_exitcode(ended)
    if code in (-SIGSYS, _BY_A_SHELL) and _kills(spec):
        who = "the container's process" if code < 0 else "a process of the container"
        text = f"{who} was killed by signal {int(SIGSYS)} (SIGSYS): the seccomp profile forbids a system call it made"
        return text, "dmesg names the call (type=1326, syscall=): allow it in linux.seccomp, or use SCMP_ACT_ERRNO"
    return "", ""


def _memory(cgroups: Mapping[str, str]) -> str:
    """``; limit …, peak …``, as far as the kernel tells."""
    controller = "memory" if "memory" in cgroups else ""
    found = []
    for name, file in zip(("limit", "peak"), _MEMORY_FILES[controller], strict=True):
        try:
            fd = files.open_directory(cgroups[controller])
            try:
                value = files.read(fd, file).strip()
            finally:
                posix.close(fd)
        except OSError:
            continue
        found.append(f"{name} {_shown(int(value))}" if value.isdigit() else f"{name} {value}")
    return f": {', '.join(found)}" if found else ""


def _shown(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count} bytes"


def _kills(spec: Spec) -> bool:
    """Whether the profile kills at all."""
    profile = spec.linux.get("seccomp") or {}
    rules = profile.get("syscalls") or ()
    return bool({profile.get("defaultAction"), *(rule.get("action") for rule in rules)} & set(_KILLING))
