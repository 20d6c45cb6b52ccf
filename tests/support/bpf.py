"""An interpreter of the classic BPF that seccomp filters consist of, to ask a program about any architecture."""

from __future__ import annotations

import sys
from collections.abc import Sequence

ALLOW, LOG, ERRNO, KILL_THREAD, KILL_PROCESS = 0x7FFF0000, 0x7FFC0000, 0x00050000, 0, 0x80000000


def answer(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What the filter returns for a system call (struct seccomp_data, linux/seccomp.h).

    Raises ValueError for an instruction that no filter of ours has, IndexError when the program ends without a word.
    """
    low = (number & 0xFFFFFFFF).to_bytes(4, sys.byteorder) + architecture.to_bytes(4, sys.byteorder) + bytes(8)
    values = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = low + b"".join(value.to_bytes(8, sys.byteorder) for value in values)
    accumulator = at = 0
    while True:
        code, if_true, if_false, k = instruction(program, at)
        at += 1
        if code == 0x20:  # load a word
            accumulator = int.from_bytes(data[k : k + 4], sys.byteorder)
        elif code == 0x54:  # and
            accumulator &= k
        elif code == 0x05:  # jump
            at += k
        elif code == 0x06:  # return
            return k
        else:
            at += if_true if _holds(code, accumulator, k) else if_false


def instruction(program: bytes, at: int) -> tuple[int, int, int, int]:
    """code, jt, jf and k of one struct sock_filter."""
    raw = program[8 * at : 8 * at + 8]
    if len(raw) < 8:
        raise IndexError("the program ends without returning")
    return int.from_bytes(raw[:2], sys.byteorder), raw[2], raw[3], int.from_bytes(raw[4:], sys.byteorder)


def _holds(code: int, accumulator: int, k: int) -> bool:
    if code == 0x15:
        return accumulator == k
    if code == 0x25:
        return accumulator > k
    if code == 0x35:
        return accumulator >= k
    if code == 0x45:
        return accumulator & k != 0
    raise ValueError(f"unknown instruction {code:#x}")
