"""ENOSYS for system calls newer than the profile.

C libraries try a new system call and fall back on an old one when the kernel answers ENOSYS. A profile made
before the call existed does not list it, so that the default action, EPERM for most, would break the fallback.
A few instructions before the filter answer ENOSYS for every number above the highest that the profile has heard of.
"""

from __future__ import annotations

import sys
from errno import ENOSYS

# Opcodes of classic BPF (linux/bpf_common.h, linux/filter.h) and offsets in struct seccomp_data.
_LOAD, _JUMP, _IF_EQUAL, _IF_GREATER, _IF_BITS, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4

_ENOSYS = 0x00050000 | ENOSYS
_TRACE, _LOG, _ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
_ACTION = 0xFFFF0000

_X86_64, _X32 = 0xC000003E, 0x4000003E
_X32_BIT = 0x40000000  # set in the numbers of x32, which to the kernel is the same architecture as x86_64
_S390, _S390X = 0x00000016, 0x80000016

TYPE_CHECKING = False
if TYPE_CHECKING:
    Instruction = tuple[int, int, int, int]  # code, jt, jf, k of struct sock_filter


def wanted(default: int) -> bool:
    """Whether the default action needs the stub: not one that lets the call through, nor ENOSYS itself."""
    return default & _ACTION not in (_TRACE, _LOG, _ALLOW) and default != _ENOSYS


def stub(highest: dict[int, int]) -> bytes:
    """Instructions to put before a filter, for SCMP_ARCH_* -> highest known number; empty without architectures."""
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for token in highest:
        if token != _X32:
            code += _section(token, highest)
    if len(code) == 1:
        return b""
    end = len(code)
    # Every jump is one to the filter, behind the last instruction.
    code = [(op, yes, no, end - at if op == _JUMP else k) for at, (op, yes, no, k) in enumerate(code, 1)]
    return b"".join(map(_encode, code))


def _section(token: int, highest: dict[int, int]) -> list[Instruction]:
    """What the calls of one architecture pass through; those of others skip it, their own still in the accumulator."""
    checks: list[Instruction] = []
    if token in (_S390, _S390X):
        # Numbers the kernel does not know arrive as 0, setup(2), which no program has called for decades.
        checks += _refuse(_IF_EQUAL, 0)
    checks += _refuse(_IF_GREATER, highest[token])
    if token == _X86_64:
        checks.insert(0, (_IF_BITS, len(checks), 0, _X32_BIT))
        if _X32 in highest:
            checks += _refuse(_IF_GREATER, highest[_X32])
    body: list[Instruction] = [(_LOAD, 0, 0, _NUMBER), *checks, (_JUMP, 0, 0, 0)]
    return [(_IF_EQUAL, 0, len(body), token), *body]


def _refuse(comparison: int, number: int) -> list[Instruction]:
    return [(comparison, 0, 1, number), (_RETURN, 0, 0, _ENOSYS)]


def _encode(instruction: Instruction) -> bytes:
    code, if_true, if_false, operand = instruction
    return code.to_bytes(2, sys.byteorder) + bytes((if_true, if_false)) + operand.to_bytes(4, sys.byteorder)
