"""Reader of seccomp: that there is a filter, and with ``--seccomp=program``, what it answers."""

from __future__ import annotations

from itertools import islice, product

from gosudacon.audit import bpf
from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import BROKEN, ENFORCED, FAULT, STRICTER, Finding, Unseen, difference
from gosudacon.base import posix
from gosudacon.base.errors import Error, reason
from gosudacon.linux import child, tracing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.bpf import Filter
    from gosudacon.audit.subject import Subject
    from gosudacon.pipeline.expectation import Expectation

_HIGHEST = 600  # system call numbers; the newest of Linux 6.18 is below 480
_X32 = 0x40000000
_X86_64 = 0xC000003E
_MOST = 256  # of combinations of arguments for one system call
_FOREIGN = 0x40000028  # ARM: an architecture that no x86 profile lists


def seccomp(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``Seccomp`` and ``Seccomp_filters`` of all of init's threads; the programs on demand."""
    assert isinstance(wanted.asked, dict)
    mode, count = subject.field("Seccomp"), subject.status.get("Seccomp_filters", "")
    asked = f"a filter: {wanted.asked['action']}, {wanted.asked['rules']} rules"
    shown = f"mode {mode}" + (f", {count} filters" if count else "")
    bare = [] if subject.status.get("Threads") in ("", "1") else _threads_without(subject)
    if mode != "2" or bare:
        verdict, who = difference(subject, FAULT)
        note = f"threads without a filter: {' '.join(bare[:8])}" if bare else ""
        yield Finding(wanted.where, asked, shown, verdict, "status Seccomp", who, note)
        return
    if not subject.program:
        note = "what it answers is compared with --seccomp=program"
        yield Finding(wanted.where, asked, shown, ENFORCED, "status Seccomp", note=note)
        return
    yield from _evaluated(subject, wanted, asked)


def _threads_without(subject: Subject) -> list[str]:
    """The threads of init that have no filter: each has its own (seccomp(2))."""
    fd = posix.open("task", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=subject.proc)
    try:
        found = []
        for name in posix.listdir(fd):
            try:
                if b"\nSeccomp:\t2\n" not in read_at(fd, f"{name}/status"):
                    found.append(name)
            except OSError:  # it has ended
                continue
        return sorted(found)
    finally:
        posix.close(fd)


def _evaluated(subject: Subject, wanted: Expectation, asked: str) -> Iterator[Finding]:
    evidence = "PTRACE_SECCOMP_GET_FILTER"
    try:
        texts = child.in_namespaces({}, lambda: [each.hex() for each in tracing.filters(subject.pid)])
    except (Error, OSError) as error:
        raise Unseen(f"the filter cannot be read: {reason(error)}") from None
    programs = [bytes.fromhex(text) for text in texts]
    try:
        compiled: dict[str, object] = wanted.work() if wanted.work else {}  # type: ignore[assignment]
    except (Error, OSError) as error:
        raise Unseen(f"the profile cannot be compiled here: {reason(error)}") from None
    shown = f"{len(programs)} programs, {', '.join(str(len(each) // 8) for each in programs)} instructions"
    for text in compiled["overlooked"] if isinstance(compiled["overlooked"], list) else ():
        yield Finding(wanted.where, str(text), "unknown to libseccomp", BROKEN, evidence, "the runtime's libseccomp")
    program = compiled["program"]
    assert isinstance(program, bytes)
    if programs == [program]:
        yield Finding(wanted.where, asked, f"{shown}, the same as gosudacon compiles", ENFORCED, evidence)
        return
    try:
        yield _compared(subject, wanted, asked, shown, Comparison(program, programs, wanted, compiled))
    except bpf.Unknown as unknown:
        raise Unseen(f"the filter cannot be evaluated: {unknown}") from None


class Comparison:
    """Two sets of filters asked about every system call of every architecture that matters.

    ``calls`` are asked in all, ``agreed`` are answered alike; ``more`` are those that the kernel lets further than the
    profile, ``less`` those that it holds back more.
    """

    def __init__(self, asked: bytes, found: list[bytes], wanted: Expectation, compiled: dict[str, object]) -> None:
        self.calls = self.agreed = 0
        self.more: list[str] = []
        self.less: list[str] = []
        self.held: dict[str, list[int]] = {}  # what was asked -> [calls, of which the kernel agrees]
        self._asked = bpf.decoded(asked)
        self._found = [bpf.decoded(each) for each in found]
        arguments: dict[str, object] = wanted.asked  # type: ignore[assignment]
        self._values = _values(arguments["arguments"])
        self._names: dict[int, dict[int, str]] = {}
        for token, numbers in _tables(compiled["numbers"]):
            self._names[token] = {number: name for name, number in numbers.items() if number >= 0}
        for token in [*self._names, _FOREIGN]:
            self._ask(token)

    def _ask(self, token: int) -> None:
        numbers = [*range(_HIGHEST), _X32 - 1, 0x7FFFFFFF, 0xFFFFFFFF] if token != _FOREIGN else [0, 1, 59]
        if token == _X86_64:
            numbers += [_X32 + number for number in (0, 1, 59, 520)]
        for number in numbers:
            self._one(token, number)

    def _one(self, token: int, number: int) -> None:
        self.calls += 1
        more = less = ""
        first = -1
        for arguments in self._arguments(token, number):
            wish = bpf.answer(self._asked, token, number, arguments)
            is_ = bpf.together(bpf.answer(each, token, number, arguments) for each in self._found)
            first = wish if first < 0 else first
            if wish == is_:
                continue
            shown = f"{self._name(token, number)} (asked {bpf.action_name(wish)}, kernel {bpf.action_name(is_)})"
            if bpf.strictness(is_) > bpf.strictness(wish):
                more = more or shown
            else:
                less = less or shown
        counts = self.held.setdefault(bpf.action_name(first), [0, 0])
        counts[0] += 1
        if not more and not less:
            self.agreed += 1
            counts[1] += 1
        elif more:  # for some arguments is enough, whatever it holds back for others
            self.more.append(more)
        else:
            self.less.append(less)

    def _arguments(self, token: int, number: int) -> Iterator[tuple[int, ...]]:
        yield (0,) * 6
        filters: list[Filter] = [self._asked, *self._found]
        if not self._values or not any(bpf.looks_at_arguments(each, token, number) for each in filters):
            return
        yield from islice(product(*(self._values.get(index, [0]) for index in range(6))), _MOST)
        for index, values in self._values.items():
            for value in values:
                yield tuple(value if place == index else 0 for place in range(6))

    def _name(self, token: int, number: int) -> str:
        name = self._names.get(token, {}).get(
            number, f"system call {number:#x}" if number >= _HIGHEST else f"system call {number}"
        )
        return name if token == next(iter(self._names), token) else f"{name} of architecture {token:#x}"


def _values(conditions: object) -> dict[int, list[int]]:
    """Argument -> the values that the profile's conditions name, with their neighbours and what masks leave over."""
    found: dict[int, set[int]] = {}
    most = (1 << 64) - 1
    for condition in conditions if isinstance(conditions, list) else ():
        index, first, second = (int(each) for each in condition)
        values = found.setdefault(index, {0, most})
        for value in (first, second):
            values.update(each & most for each in (value, value + 1, value - 1, ~value))
    return {index: sorted(values)[:24] for index, values in found.items()}


def _tables(numbers: object) -> Iterator[tuple[int, dict[str, int]]]:
    if isinstance(numbers, dict):
        for token, table in numbers.items():
            yield int(token), table


def _compared(subject: Subject, wanted: Expectation, asked: str, shown: str, result: Comparison) -> Finding:
    held = "; ".join(
        f"{action} was asked for {count} calls, the kernel agrees for {agreed}"
        for action, (count, agreed) in result.held.items()
        if count != agreed
    )
    evidence = "PTRACE_SECCOMP_GET_FILTER, evaluated"
    kernel = f"{shown}; {result.calls} calls evaluated, {result.agreed} alike"
    if result.more:
        verdict, who = difference(subject, FAULT)
        note = f"{held}; lets through: {', '.join(result.more[:6])}"
        return Finding(wanted.where, asked, kernel, verdict, evidence, who, note)
    if result.less:
        note = f"{held}; holds back more: {', '.join(result.less[:6])}"
        return Finding(wanted.where, asked, kernel, STRICTER, evidence, note=note)
    return Finding(wanted.where, asked, kernel, ENFORCED, evidence)
