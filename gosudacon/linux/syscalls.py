"""The names of system calls and architectures as seccomp profiles have them, for the numbers that the kernel has."""

from __future__ import annotations

import ctypes

#: AUDIT_ARCH_* of linux/audit.h -> its name in profiles.
ARCHITECTURES = {
    0x40000003: "SCMP_ARCH_X86",
    0xC000003E: "SCMP_ARCH_X86_64",
    0x4000003E: "SCMP_ARCH_X32",  # libseccomp's number; to the kernel it is x86_64
    0x40000028: "SCMP_ARCH_ARM",
    0xC00000B7: "SCMP_ARCH_AARCH64",
    0x80000015: "SCMP_ARCH_PPC64",
    0xC0000015: "SCMP_ARCH_PPC64LE",
    0x00000016: "SCMP_ARCH_S390",
    0x80000016: "SCMP_ARCH_S390X",
    0xC00000F3: "SCMP_ARCH_RISCV64",
    0xC0000102: "SCMP_ARCH_LOONGARCH64",
}
#: Newer calls, which have one number on every architecture and which libseccomp may not know.
_NEWER = {
    449: "futex_waitv",
    450: "set_mempolicy_home_node",
    451: "cachestat",
    452: "fchmodat2",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    459: "lsm_get_self_attr",
    460: "lsm_set_self_attr",
    461: "lsm_list_modules",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
    467: "open_tree_attr",
    468: "file_getattr",
    469: "file_setattr",
}
_X86_64, _X32, _X32_BIT = 0xC000003E, 0x4000003E, 0x40000000


class SyscallNames:
    """What libseccomp calls a system call. ``path`` is that of the library, as ``listener.library()`` finds it.

    Raises OSError where it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._resolve = library.seccomp_syscall_resolve_num_arch
        self._resolve.restype = ctypes.c_void_p
        self._resolve.argtypes = (ctypes.c_uint32, ctypes.c_int)
        self._number = library.seccomp_syscall_resolve_name
        self._number.restype = ctypes.c_int
        self._number.argtypes = (ctypes.c_char_p,)
        self._free = ctypes.CDLL(None).free
        self._free.argtypes = (ctypes.c_void_p,)

    def name(self, architecture: int, number: int) -> str:
        """The name, or an empty string for a number without a call. ``architecture`` is AUDIT_ARCH_*."""
        token = self._token(architecture, number)
        signed = number - (1 << 32) if number >> 31 else number
        if signed < 0:
            return ""
        found = self._resolve(token, signed)
        if found:
            name = ctypes.string_at(found).decode()
            self._free(found)
            return name
        return _NEWER.get(number & ~_X32_BIT if token == _X32 else number, "")

    def architecture(self, architecture: int, number: int) -> str:
        """The architecture's name in profiles, or its number."""
        token = self._token(architecture, number)
        return ARCHITECTURES.get(token, f"{token:#x}")

    def knows(self, name: str) -> bool:
        """Whether libseccomp knows a call of this name, so that a filter can be made for it."""
        return bool(self._number(name.encode()) != -1)

    def _token(self, architecture: int, number: int) -> int:
        x32 = architecture == _X86_64 and number & _X32_BIT and not number >> 31
        return _X32 if x32 else architecture
