"""What the kernel says of another process by system calls: scheduling, I/O priority, whether it still is the one."""

from __future__ import annotations

from gosudacon.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Scheduling(TypedDict):
        """struct sched_attr; times in nanoseconds."""

        policy: int
        flags: int
        nice: int
        priority: int
        runtime: int
        deadline: int
        period: int


_sched_getattr = abi.syscall("sched_getattr", abi.INT, abi.BUFFER, abi.UINT, abi.UINT)
_ioprio_get = abi.syscall("ioprio_get", abi.INT, abi.INT)

_SIZE = 64


def scheduling(tid: int) -> Scheduling:
    """Policy and parameters of a thread (sched_getattr(2)). Raises `SyscallError`."""
    data = bytearray(_SIZE)
    _sched_getattr(tid, data, _SIZE, 0)

    def number(offset: int, size: int, signed: bool = False) -> int:
        return int.from_bytes(data[offset : offset + size], "little", signed=signed)

    return {
        "policy": number(4, 4),
        "flags": number(8, 8),
        "nice": number(16, 4, True),
        "priority": number(20, 4),
        "runtime": number(24, 8),
        "deadline": number(32, 8),
        "period": number(40, 8),
    }


def io_priority(tid: int) -> tuple[int, int]:
    """I/O class and level of a thread (ioprio_get(2)); (0, 0) if none was set."""
    value = _ioprio_get(1, tid)
    return value >> 13, value & 0x1FFF
