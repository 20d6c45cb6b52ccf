"""Evaluating programs that were read back from the kernel: classic BPF of seccomp filters, eBPF of device programs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Filter = list[tuple[int, int, int, int]]

KILL_THREAD = 0
_ACTION = 0xFFFF0000
_PRECEDENCE = (0x80000000, 0, 0x30000, 0x50000, 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000)  # the strictest first
_NAMES = ("KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "USER_NOTIF", "TRACE", "LOG", "ALLOW")
_MOST_STEPS = 8192
_WORD = 0xFFFFFFFF


class Unknown(Exception):
    """An instruction that is not among those that such programs consist of."""


def decoded(program: bytes) -> Filter:
    """The instructions (struct sock_filter): code, jt, jf, k."""
    found = []
    for at in range(0, len(program) - 7, 8):
        code, k = int.from_bytes(program[at : at + 2], sys.byteorder), program[at + 4 : at + 8]
        found.append((code, program[at + 2], program[at + 3], int.from_bytes(k, sys.byteorder)))
    return found


def answer(program: Filter, architecture: int, number: int, arguments: Sequence[int]) -> int:
    """What a filter returns for a system call (seccomp(2), struct seccomp_data). Raises `Unknown`."""
    return _run(program, architecture, number, arguments)[0]


def looks_at_arguments(program: Filter, architecture: int, number: int) -> bool:
    """Whether the filter loads an argument for this call, with all of them 0."""
    return _run(program, architecture, number, (0,) * 6)[1]


def _run(program: Filter, architecture: int, number: int, arguments: Sequence[int]) -> tuple[int, bool]:
    accumulator = index = at = 0
    memory = [0] * 16
    looked = False
    for _ in range(_MOST_STEPS):
        code, if_true, if_false, k = program[at]
        at += 1
        if code == 0x15:  # JEQ
            at += if_true if accumulator == k else if_false
        elif code == 0x20:  # LD W ABS
            if k == 0:
                accumulator = number & _WORD
            elif k == 4:
                accumulator = architecture
            elif k < 16:
                accumulator = 0
            else:
                looked = True
                accumulator = (
                    arguments[(k - 16) >> 3] >> (32 if ((k - 16) & 4 != 0) == (sys.byteorder == "little") else 0)
                    & _WORD
                )
        elif code == 0x35:  # JGE
            at += if_true if accumulator >= k else if_false
        elif code == 0x25:  # JGT
            at += if_true if accumulator > k else if_false
        elif code == 0x45:  # JSET
            at += if_true if accumulator & k else if_false
        elif code == 0x54:  # AND K
            accumulator &= k
        elif code == 0x05:  # JA
            at += k
        elif code == 0x06:  # RET K
            return k, looked
        elif code == 0x16:  # RET A
            return accumulator, looked
        elif code == 0x02:  # ST
            memory[k] = accumulator
        elif code == 0x60:  # LD MEM
            accumulator = memory[k]
        elif code == 0x07:  # TAX
            index = accumulator
        elif code == 0x87:  # TXA
            accumulator = index
        elif code == 0x00:  # LD IMM
            accumulator = k
        else:
            raise Unknown(f"instruction {code:#x}")
    raise Unknown("a program without an end")


def together(values: Iterable[int]) -> int:
    """What the kernel does where several filters answer: the strictest action."""
    return min(values, key=lambda value: _PRECEDENCE.index(value & _ACTION) if value & _ACTION in _PRECEDENCE else 0)


def strictness(value: int) -> int:
    """The place of an action in the kernel's order: the smaller, the stricter."""
    action = value & _ACTION
    return _PRECEDENCE.index(action) if action in _PRECEDENCE else 0


def action_name(value: int) -> str:
    """``ERRNO(EPERM)``, ``ALLOW``, …"""
    name = _NAMES[strictness(value)]
    if name == "ERRNO":
        from errno import errorcode

        return f"ERRNO({errorcode.get(value & 0xFFFF, value & 0xFFFF)})"
    return name


_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def device_allowed(code: bytes, kind: str, major: int, minor: int, letter: str) -> bool:
    """What a device program answers (struct bpf_cgroup_dev_ctx). Raises `Unknown` for what no runtime's program has."""
    context = (_KINDS[kind] | _ACCESS[letter] << 16, major, minor)
    registers = [0] * 11
    at = 0
    for _ in range(_MOST_STEPS):
        raw = code[8 * at : 8 * at + 8]
        opcode, target, source = raw[0], raw[1] & 15, raw[1] >> 4
        offset = int.from_bytes(raw[2:4], "little", signed=True)
        value = int.from_bytes(raw[4:8], "little", signed=True)
        at += 1
        kind_of = opcode & 7
        if opcode == 0x95:
            return bool(registers[0] & _WORD)
        if opcode == 0x61:  # LDX W
            registers[target] = context[offset // 4]
        elif kind_of in (4, 7):  # ALU, ALU64
            registers[target] = _computed(opcode, registers[target], registers[source] if opcode & 8 else value)
            if kind_of == 4:
                registers[target] &= _WORD
        elif kind_of in (5, 6):
            other = registers[source] if opcode & 8 else value
            own = registers[target]
            if kind_of == 6:
                own, other = own & _WORD, other & _WORD
            if _jumps(opcode, own, other):
                at += offset
        else:
            raise Unknown(f"instruction {opcode:#x}")
    raise Unknown("a program without an end")


def _computed(opcode: int, own: int, other: int) -> int:
    operation = opcode & 0xF0
    mask = (1 << 64) - 1
    if operation == 0xB0:
        return other & mask
    if operation == 0x50:
        return own & other & mask
    if operation == 0x40:
        return (own | other) & mask
    if operation == 0x70:
        return own >> (other & 63)
    if operation == 0x60:
        return own << (other & 63) & mask
    if operation == 0x00:
        return (own + other) & mask
    raise Unknown(f"instruction {opcode:#x}")


def _jumps(opcode: int, own: int, other: int) -> bool:
    operation = opcode & 0xF0
    other &= (1 << 64) - 1
    tests = {
        0x00: True,
        0x10: own == other,
        0x50: own != other,
        0x40: bool(own & other),
        0x20: own > other,
        0x30: own >= other,
        0xA0: own < other,
        0xB0: own <= other,
    }
    if operation not in tests:
        raise Unknown(f"instruction {opcode:#x}")
    return tests[operation]
