"""What a seccomp filter says to a call: classic BPF, as the kernel runs it (bpf(4), kernel's networking/filter.rst)."""

from __future__ import annotations

import operator
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
ACTION, VALUE = 0xFFFF0000, 0x0000FFFF
NAMES = {
    KILL_PROCESS: "SCMP_ACT_KILL_PROCESS",
    KILL_THREAD: "SCMP_ACT_KILL_THREAD",
    TRAP: "SCMP_ACT_TRAP",
    ERRNO: "SCMP_ACT_ERRNO",
    NOTIFY: "SCMP_ACT_NOTIFY",
    TRACE: "SCMP_ACT_TRACE",
    LOG: "SCMP_ACT_LOG",
    ALLOW: "SCMP_ACT_ALLOW",
}
_SIZE = 8  # of struct sock_filter
_WORD = (1 << 32) - 1
_MOST = 4096  # verdicts that are kept: a program may call any number
_FIRST_ARGUMENT = 2  # in words of struct seccomp_data: number, architecture, then what one call has unlike another

# Instructions (linux/bpf_common.h): those that libseccomp and our own stub make, and their kin.
_LOAD, _LOAD_CONSTANT, _LOAD_MEMORY, _STORE = 0x20, 0x00, 0x60, 0x02
_INDEX_CONSTANT, _INDEX_MEMORY, _STORE_INDEX, _TO_INDEX, _FROM_INDEX = 0x01, 0x61, 0x03, 0x07, 0x87
_JUMP, _RETURN, _RETURN_ACCUMULATOR = 0x05, 0x06, 0x16
_EQUAL, _GREATER, _AT_LEAST, _BITS = 0x15, 0x25, 0x35, 0x45
_AND, _OR, _RIGHT, _LEFT, _ADD, _SUBTRACT = 0x54, 0x44, 0x74, 0x64, 0x04, 0x14


class Program:
    """A filter to ask; `ask` is fast for calls whose arguments the filter does not look at."""

    def __init__(self, code: bytes) -> None:
        """``code``: an array of struct sock_filter; empty: all is allowed. Raises ValueError if `ask` cannot run it."""
        self._code = [
            (
                int.from_bytes(code[at : at + 2], sys.byteorder),
                code[at + 2],
                code[at + 3],
                int.from_bytes(code[at + 4 : at + 8], sys.byteorder),
            )
            for at in range(0, len(code), _SIZE)
        ]
        self._known: dict[tuple[int, int], int] = {}
        for each, *_ in self._code:
            if each not in _ALL:
                raise ValueError(f"unknown instruction {each:#x} in the seccomp filter")

    def ask(self, data: Sequence[int]) -> int:
        """What the filter returns for struct seccomp_data, given as its 16 words."""
        key = (data[0], data[1])
        verdict = self._known.get(key)
        if verdict is None:
            if not self._code:
                return ALLOW
            verdict, depends = self._run(data)
            if not depends and len(self._known) < _MOST:
                self._known[key] = verdict
        return verdict

    def _run(self, data: Sequence[int]) -> tuple[int, bool]:
        """The verdict, and whether it depends on more than the call's number and architecture."""
        accumulator = index = at = 0
        memory = [0] * 16
        depends = False
        while at < len(self._code):
            code, if_true, if_false, operand = self._code[at]
            at += 1
            if code == _LOAD:
                depends = depends or operand >> 2 >= _FIRST_ARGUMENT
                accumulator = data[operand >> 2]
            elif code == _RETURN:
                return operand, depends
            elif code == _JUMP:
                at += operand
            elif code in _TESTS:
                at += if_true if _TESTS[code](accumulator, operand) else if_false
            elif code in _OPERATIONS:
                accumulator = _OPERATIONS[code](accumulator, operand) & _WORD
            elif code == _RETURN_ACCUMULATOR:
                return accumulator, depends
            else:
                accumulator, index = _rare(code, operand, accumulator, index, memory)
        return KILL_PROCESS, depends  # no filter that the kernel takes ends so


def _rare(code: int, operand: int, accumulator: int, index: int, memory: list[int]) -> tuple[int, int]:
    """What moves values about; returns accumulator and index."""
    if code in (_STORE, _STORE_INDEX):
        memory[operand] = accumulator if code == _STORE else index
    elif code in (_LOAD_CONSTANT, _LOAD_MEMORY):
        accumulator = operand if code == _LOAD_CONSTANT else memory[operand]
    elif code in (_INDEX_CONSTANT, _INDEX_MEMORY):
        index = operand if code == _INDEX_CONSTANT else memory[operand]
    elif code == _TO_INDEX:
        index = accumulator
    elif code == _FROM_INDEX:
        accumulator = index
    return accumulator, index


def _is_true(accumulator: int, operand: int) -> bool:
    return bool(accumulator & operand)


_TESTS: dict[int, Callable[[int, int], bool]] = {
    _EQUAL: operator.eq,
    _GREATER: operator.gt,
    _AT_LEAST: operator.ge,
    _BITS: _is_true,
}
_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    _AND: operator.and_,
    _OR: operator.or_,
    _RIGHT: operator.rshift,
    _LEFT: operator.lshift,
    _ADD: operator.add,
    _SUBTRACT: operator.sub,
}
_ALL = frozenset(
    (
        *(_LOAD, _LOAD_CONSTANT, _LOAD_MEMORY, _STORE),
        *(_INDEX_CONSTANT, _INDEX_MEMORY, _STORE_INDEX, _TO_INDEX, _FROM_INDEX),
        *(_JUMP, _RETURN, _RETURN_ACCUMULATOR),
        *_TESTS,
        *_OPERATIONS,
    )
)
