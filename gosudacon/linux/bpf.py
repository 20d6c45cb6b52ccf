"""eBPF for one purpose: which devices the processes of a cgroup v2 may use (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE)."""

from __future__ import annotations

from errno import EINVAL, EPERM

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_bpf = abi.syscall("bpf", abi.INT, abi.BUFFER, abi.UINT)
_prlimit = abi.syscall("prlimit64", abi.INT, abi.INT, abi.BUFFER, abi.BUFFER)

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI, _REPLACE = 2, 4
_OBJ_GET_INFO_BY_FD, _INFO_SIZE = 15, 64
_ATTR_SIZE = 144  # of union bpf_attr; what a kernel does not know must be zero
_MOST_PROGRAMS = 64  # per cgroup (kernel: BPF_CGROUP_MAX_PROGS)
_RLIMIT_MEMLOCK, _INFINITY = 8, (1 << 64) - 1
_LICENSE = b"Apache-2.0\0"

# Opcodes (Documentation/bpf/standardization/instruction-set.rst): class | source | operation.
_LDX_W, _ALU64_MOV, _ALU64_AND, _ALU64_RSH = 0x61, 0xB7, 0x57, 0x77
_MOV_REGISTER = 0xBF
_JNE, _JSET, _JA, _EXIT = 0x55, 0x45, 0x05, 0x95
_R0, _CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERYTHING = 7
_ANY = -1


def device_program(rules: Sequence[Sequence[object]]) -> bytes:
    """The instructions that answer by ``rules``: ``(allow, type a|b|c, major, minor, access)`` in the order they apply.

    Each of the bits r, w and m that an access wants is decided by the last rule for the device that speaks of
    it, and by denial if none does; all must be allowed. So the rules are gone through backwards, and what is
    allowed is struck from what is wanted until nothing is left. -1 is any number.
    """
    code = [
        _instruction(_LDX_W, _KIND, _CONTEXT, 0),
        _instruction(_MOV_REGISTER, _WANTED, _KIND),
        _instruction(_ALU64_RSH, _WANTED, value=16),
        _instruction(_ALU64_AND, _KIND, value=0xFFFF),
        _instruction(_LDX_W, _MAJOR, _CONTEXT, 4),
        _instruction(_LDX_W, _MINOR, _CONTEXT, 8),
    ]
    for allow, kind, major, minor, access in reversed(rules):
        assert isinstance(kind, str) and isinstance(access, str) and isinstance(major, int) and isinstance(minor, int)
        tests = [(_KIND, _KINDS[kind])] if kind in _KINDS else []
        tests += [(register, number) for register, number in ((_MAJOR, major), (_MINOR, minor)) if number != _ANY]
        verdict = _verdict(bool(allow), sum(_ACCESS[mode] for mode in set(access)))
        for index, (register, number) in enumerate(tests):
            code.append(_instruction(_JNE, register, offset=len(tests) - index - 1 + len(verdict), value=number))
        code += verdict
        if not tests and len(verdict) == 2:
            return b"".join(code)  # the verifier takes no instructions that cannot be reached
    return b"".join(code + _return(0))


def _verdict(allow: bool, access: int) -> list[bytes]:
    """What a rule that matches the device does; falls through to the next one if it does not settle the matter."""
    if access == _EVERYTHING:
        return _return(int(allow))
    if allow:
        return [
            _instruction(_ALU64_AND, _WANTED, value=_EVERYTHING & ~access),
            _instruction(_JNE, _WANTED, offset=2, value=0),
            *_return(1),
        ]
    return [_instruction(_JSET, _WANTED, offset=1, value=access), _instruction(_JA, offset=2), *_return(0)]


def _return(value: int) -> list[bytes]:
    return [_instruction(_ALU64_MOV, _R0, value=value), _instruction(_EXIT)]


def _instruction(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    fields = (opcode, 1), (source << 4 | target, 1), (offset, 2), (value, 4)
    return b"".join(number.to_bytes(size, "little") for number, size in fields)


def limit_devices(cgroup: int, rules: Sequence[Sequence[object]]) -> None:
    """Attach the program for ``rules`` to the cgroup v2 behind a descriptor, replacing what was attached.

    At no moment is there none. Programs attached further up still have their say. Raises `SyscallError`.
    """
    program = load(device_program(rules))
    try:
        before = attached(cgroup)
        if len(before) == 1:
            _replace(cgroup, program, before[0])
            return
        _attach(cgroup, program, _ALLOW_MULTI)
        for number in before:
            _detach(cgroup, number)
    finally:
        posix.close(program)


def load(code: bytes) -> int:
    """Load a device program; a descriptor (BPF_PROG_LOAD). Raises `SyscallError`."""
    try:
        return _load(code)
    except SyscallError as error:
        if error.errno != EPERM or not _unlimit_locked_memory():
            raise
    return _load(code)


def _unlimit_locked_memory() -> bool:
    """Programs count as locked memory before Linux 5.11."""
    try:
        _prlimit(0, _RLIMIT_MEMLOCK, _INFINITY.to_bytes(8, "little") * 2, None)
    except SyscallError:
        return False
    return True


def _load(code: bytes) -> int:
    instructions, license = bytearray(code), bytearray(_LICENSE)
    return _call(
        _PROG_LOAD,
        "BPF_PROG_LOAD",
        (_TYPE_CGROUP_DEVICE, 4),
        (len(code) // 8, 4),
        (abi.address(instructions), 8),
        (abi.address(license), 8),
    )


def attached(cgroup: int) -> list[int]:
    """The ids of the device programs attached to this very cgroup (BPF_PROG_QUERY)."""
    ids = bytearray(4 * _MOST_PROGRAMS)
    attributes = _attributes(
        (cgroup, 4), (_ATTACH_CGROUP_DEVICE, 4), (0, 8), (abi.address(ids), 8), (_MOST_PROGRAMS, 4)
    )
    _bpf(_PROG_QUERY, attributes, len(attributes), about="BPF_PROG_QUERY")
    count = int.from_bytes(attributes[24:28], "little")
    return [int.from_bytes(ids[at : at + 4], "little") for at in range(0, 4 * count, 4)]


def instructions(number: int) -> bytes:
    """The instructions of the program with an id (BPF_OBJ_GET_INFO_BY_FD), as loaded. Raises `SyscallError`."""
    program = _call(_PROG_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", (number, 4))
    try:
        info = bytearray(_INFO_SIZE)
        _info(program, info)
        length = int.from_bytes(info[20:24], "little")  # xlated_prog_len
        code = bytearray(length)
        info = bytearray(_INFO_SIZE)
        info[20:24] = length.to_bytes(4, "little")
        info[32:40] = abi.address(code).to_bytes(8, "little")  # xlated_prog_insns
        _info(program, info)
        return bytes(code)
    finally:
        posix.close(program)


def _info(program: int, info: bytearray) -> None:
    _call(_OBJ_GET_INFO_BY_FD, "BPF_OBJ_GET_INFO_BY_FD", (program, 4), (len(info), 4), (abi.address(info), 8))


def _replace(cgroup: int, program: int, number: int) -> None:
    old = _call(_PROG_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", (number, 4))
    try:
        _attach(cgroup, program, _ALLOW_MULTI | _REPLACE, old)
        return
    except SyscallError as error:
        if error.errno != EINVAL:  # Linux before 5.6 cannot replace, nor any if the old one was attached otherwise
            raise
    finally:
        posix.close(old)
    _attach(cgroup, program, _ALLOW_MULTI)
    _detach(cgroup, number)


def _attach(cgroup: int, program: int, flags: int, replaced: int = 0) -> None:
    fields = ((cgroup, 4), (program, 4), (_ATTACH_CGROUP_DEVICE, 4), (flags, 4), (replaced, 4))
    _call(_PROG_ATTACH, "BPF_PROG_ATTACH", *fields)


def _detach(cgroup: int, number: int) -> None:
    old = _call(_PROG_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", (number, 4))
    try:
        _call(_PROG_DETACH, "BPF_PROG_DETACH", (cgroup, 4), (old, 4), (_ATTACH_CGROUP_DEVICE, 4))
    finally:
        posix.close(old)


def _call(command: int, name: str, *fields: tuple[int, int]) -> int:
    attributes = _attributes(*fields)
    return _bpf(command, attributes, len(attributes), about=name)


def _attributes(*fields: tuple[int, int]) -> bytearray:
    data = b"".join(value.to_bytes(size, "little") for value, size in fields)
    return bytearray(data.ljust(_ATTR_SIZE, b"\0"))
