"""Capabilities: their names and numbers, capset(2), the bounding and the ambient set (capabilities(7))."""

from __future__ import annotations

from errno import EINVAL, EPERM

from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi
from gosudacon.linux.process import PR_SET_KEEPCAPS, prctl

NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
NUMBERS = {f"CAP_{name}": number for number, name in enumerate(NAMES)}

_capset = abi.syscall("capset", abi.BUFFER, abi.BUFFER)
_capget = abi.syscall("capget", abi.BUFFER, abi.BUFFER)

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _RAISE, _CLEAR_ALL = 47, 2, 4


def mask(names: list[str]) -> int:
    """The bit mask of a list of ``CAP_X`` names, which must be known."""
    result = 0
    for name in names:
        result |= 1 << NUMBERS[name]
    return result


def drop_bounding(keep: int) -> None:
    """Drop everything but ``keep`` from the bounding set, up to the last capability the kernel knows."""
    for number in range(64):
        if keep >> number & 1:
            continue
        try:
            prctl(_PR_CAPBSET_DROP, number, about="PR_CAPBSET_DROP")
        except SyscallError as error:
            if error.errno == EINVAL:
                return
            raise


def held() -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets of this thread (capget(2))."""
    data = bytearray(24)
    _capget(_header(), data)
    words = [int.from_bytes(data[offset : offset + 4], "little") for offset in range(0, 24, 4)]
    return words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32


def set_caps(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) with the three sets as masks."""
    words = []
    for shift in (0, 32):
        words += [value >> shift & 0xFFFFFFFF for value in (effective, permitted, inheritable)]
    _capset(_header(), b"".join(word.to_bytes(4, "little") for word in words))


def set_ambient(wanted: int) -> None:
    """Clear the ambient set, then raise ``wanted`` one by one, except what the kernel refuses (capabilities(7))."""
    try:
        prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, about="PR_CAP_AMBIENT_CLEAR_ALL")
    except SyscallError as error:
        if error.errno != EINVAL:
            raise
        return
    for number in range(64):
        if wanted >> number & 1:
            try:
                prctl(_PR_CAP_AMBIENT, _RAISE, number)
            except SyscallError as error:
                if error.errno not in (EINVAL, EPERM):
                    raise


def keep_over_setuid(keep: bool) -> None:
    """PR_SET_KEEPCAPS: permitted capabilities survive the change to another uid."""
    prctl(PR_SET_KEEPCAPS, int(keep), about="PR_SET_KEEPCAPS")


def _header() -> bytearray:
    return bytearray(_VERSION_3.to_bytes(4, "little") + bytes(4))
