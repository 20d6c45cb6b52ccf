"""Scheduling, CPUs and limits: sched_setattr(2), ioprio_set(2), personality(2), set_mempolicy(2), prlimit(2)."""

from __future__ import annotations

from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

_sched_setattr = abi.syscall("sched_setattr", abi.INT, abi.BUFFER, abi.UINT)
_sched_setaffinity = abi.syscall("sched_setaffinity", abi.INT, abi.SIZE, abi.BUFFER)
IOPRIO_SHIFT = 13  # of the class in a number of ioprio_set(2)
_PR_SCHED_CORE, _CREATE, _PROCESS = 62, 1, 1  # PR_SCHED_CORE_CREATE for PIDTYPE_TGID
_ioprio_set = abi.syscall("ioprio_set", abi.INT, abi.INT, abi.INT)
_personality = abi.syscall("personality", abi.ULONG)
_set_mempolicy = abi.syscall("set_mempolicy", abi.INT, abi.BUFFER, abi.ULONG)
_prlimit64 = abi.syscall("prlimit64", abi.INT, abi.INT, abi.BUFFER, abi.BUFFER)

_ALL_CPUS = b"\xff" * 1024  # NR_CPUS is at most 8192

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}
RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        [
            "CPU",
            "FSIZE",
            "DATA",
            "STACK",
            "CORE",
            "RSS",
            "NPROC",
            "NOFILE",
            "MEMLOCK",
            "AS",
            "LOCKS",
            "SIGPENDING",
            "MSGQUEUE",
            "NICE",
            "RTPRIO",
            "RTTIME",
        ]
    )
}


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int, pid: int = 0
) -> None:
    """Set a thread's scheduling, by default the caller's; times in nanoseconds (sched_setattr(2))."""
    size = 48
    attributes = b"".join(
        (
            size.to_bytes(4, "little"),
            policy.to_bytes(4, "little"),
            flags.to_bytes(8, "little"),
            nice.to_bytes(4, "little", signed=True),
            priority.to_bytes(4, "little"),
            runtime.to_bytes(8, "little"),
            deadline.to_bytes(8, "little"),
            period.to_bytes(8, "little"),
        )
    )
    _sched_setattr(pid, attributes, 0)


def allow_all_cpus() -> None:
    """Let the calling thread run on every CPU that its cpuset has (sched_setaffinity(2)).

    The mask has more bits than any kernel has CPUs: how many there are need not be asked, which the C library does in
    files below /sys.
    """
    _sched_setaffinity(0, len(_ALL_CPUS), _ALL_CPUS)


def ioprio_set(io_class: int, priority: int) -> None:
    """Set the calling thread's I/O class and priority, 0 to 7 (ioprio_set(2))."""
    _ioprio_set(1, 0, io_class << IOPRIO_SHIFT | priority)


def ioprio_of(pid: int) -> int:
    """The I/O class and priority of a process, as one number (ioprio_get(2)); 0: this one."""
    return abi.syscall("ioprio_get", abi.INT, abi.INT)(1, pid)


def share_cores_with_nobody() -> None:
    """Give this process, and what it forks from now on, a core scheduling cookie of its own (prctl(2), Linux 5.14)."""
    abi.syscall("prctl", abi.INT, abi.ULONG, abi.ULONG, abi.ULONG, abi.ULONG)(_PR_SCHED_CORE, _CREATE, 0, _PROCESS, 0)


def personality(domain: int) -> None:
    """Set the execution domain (personality(2))."""
    _personality(domain)


def set_mempolicy(mode: int, nodes: int) -> None:
    """Set the NUMA policy; ``nodes`` is a bit mask (set_mempolicy(2))."""
    length = max(8, (nodes.bit_length() + 63) // 64 * 8)
    _set_mempolicy(mode, nodes.to_bytes(length, "little") if nodes else None, length * 8 + 1 if nodes else 0)


def prlimit(pid: int, resource: int, soft: int, hard: int, about: str) -> None:
    """Set a resource limit of a process; 2**64-1 is infinity (prlimit(2))."""
    _prlimit64(pid, resource, soft.to_bytes(8, "little") + hard.to_bytes(8, "little"), None, about=about)


def limits_of(pid: int, resource: int) -> tuple[int, int]:
    """The soft and the hard limit of a process, 0 for this one (prlimit(2))."""
    limits = bytearray(16)
    _prlimit64(pid, resource, None, limits)
    return int.from_bytes(limits[:8], "little"), int.from_bytes(limits[8:], "little")


def allow_descriptors(count: int) -> None:
    """Have this process open at least ``count`` descriptors, as far as it may allow itself that (RLIMIT_NOFILE)."""
    limits = bytearray(16)
    try:
        _prlimit64(0, RLIMITS["RLIMIT_NOFILE"], None, limits)
    except SyscallError:
        return
    soft, hard = int.from_bytes(limits[:8], "little"), int.from_bytes(limits[8:], "little")
    for most in (max(count, hard), hard) if soft < count else ():  # more than the hard limit takes CAP_SYS_RESOURCE
        try:
            return prlimit(0, RLIMITS["RLIMIT_NOFILE"], min(count, most), most, "RLIMIT_NOFILE")
        except SyscallError:
            continue
