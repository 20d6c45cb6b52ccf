"""A seccomp profile of the size and shape of Docker's default one, made from libseccomp's own tables.

Docker's profile allows some 350 names, a few of them by argument, for three architectures. What
the measurement needs is that shape (the work of parsing, compiling and loading it), so the names
come from the system's libseccomp and only what is denied is listed here.
"""

from __future__ import annotations

import ctypes

#: Calls that a default container profile withholds: they act on the host, not on the container.
_DENIED_TEXT = """
    acct add_key bpf clock_adjtime clock_settime create_module delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick get_kernel_syms init_module ioperm iopl kcmp kexec_file_load kexec_load
    keyctl lookup_dcookie mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl
    open_by_handle_at open_tree perf_event_open personality pivot_root process_vm_readv process_vm_writev
    ptrace query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday
    stime swapoff swapon sysfs syslog umount umount2 unshare uselib userfaultfd ustat vm86 vm86old vhangup
    clone socket set_mempolicy_home_node
"""
DENIED = frozenset(_DENIED_TEXT.split())
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
#: CLONE_NEW{NS,UTS,IPC,USER,PID,NET,CGROUP}.
CLONE_NAMESPACES = 0x7E020000
AF_VSOCK = 40
_HIGHEST = 480
#: SCMP_ARCH_* by ``uname -m``: the native one first, then those whose programs the machine also runs.
_ARCHES: dict[str, dict[str, int]] = {
    "x86_64": {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E},
    "aarch64": {"SCMP_ARCH_AARCH64": 0xC00000B7, "SCMP_ARCH_ARM": 0x40000028},
}


class NoProfile(Exception):
    """The profile cannot be made here (no libseccomp, or an architecture this module does not know)."""


def syscall_names(machine: str) -> list[str]:
    """Names of all system calls libseccomp knows for ``machine`` and its 32-bit sibling, sorted."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NoProfile(f"--seccomp needs libseccomp: {error}") from error
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_int]
    resolve.restype = ctypes.c_void_p
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    names = set()
    for arch in list(_ARCHES[machine].values())[:2]:
        for number in range(_HIGHEST):
            found = resolve(arch, number)
            if found:
                names.add(ctypes.string_at(found).decode())
                free(found)
    return sorted(names)


def profile(machine: str) -> dict[str, object]:
    """``linux.seccomp`` for the bench (config-linux.md, Seccomp). NoProfile when it cannot be made."""
    if machine not in _ARCHES:
        raise NoProfile(f"--seccomp knows no architecture {machine!r}")
    allowed = [name for name in syscall_names(machine) if name not in DENIED]
    rules: list[dict[str, object]] = [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]
    for value in PERSONALITIES:
        rules.append(_rule("personality", {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}))
    masked = {"index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules.append(_rule("clone", masked))
    rules.append(_rule("socket", {"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": list(_ARCHES[machine]),
        "syscalls": rules,
    }


def _rule(name: str, argument: dict[str, object]) -> dict[str, object]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
