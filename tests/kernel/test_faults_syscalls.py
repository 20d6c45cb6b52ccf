"""A signal or an error at every system call of create, run, start, exec and delete, and then nothing is left.

Each command is run once to count its calls in each of its processes (tests/support/injection.py), and then again for
each place and fault. Afterwards ``delete --force`` must succeed and the machine must be as before; the command must
have failed or have done what it should; and it must not have printed a traceback.

All places take an hour: by default every test takes a sample of them, always the same for the same sequence of calls.
``GOSUDACON_TEST_FAULTS=1`` takes every place, ``=10`` every tenth.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import cgroups, injection, processes
from tests.support.bundle import Bundle
from tests.support.injection import Fault
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

pytestmark = [needs("runtime:gosudacon", "x86-64"), pytest.mark.slow]

STRIDE = int(os.environ.get("GOSUDACON_TEST_FAULTS", "97"))
SIGNALS: list[dict[str, int]] = [{"signal": number} for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)]
ERRORS = [{"errno": number} for number in (errno.EMFILE, errno.EIO, errno.ENOSPC)]
SAME = 3  # of more equal calls in a row than these, the first and the last are places
_EXIT_GROUP, _EXIT, _BRK = 231, 60, 12
_NO_ERROR = (_EXIT_GROUP, _EXIT, _BRK)  # these cannot fail: brk(2) has no error for the C library to see
_CRASHES = (128 + signal.SIGKILL, 128 + signal.SIGSEGV, 128 + signal.SIGABRT)  # of a C library without memory, too


class Bench:
    """A command to be made to fail: how to get there, how to call it, and what it should have done."""

    def __init__(self, runtime: Runtime, bundle: Bundle, watch: Watch, verb: str) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.watch = watch
        self.verb = verb
        self.problems: list[str] = []
        self.ready = False
        path = bundle.config["linux"]["cgroupsPath"].lstrip("/")
        self.cgroups = [item.mountpoint / path for item in cgroups.hierarchies()]
        self.mounts = Path("/proc/self/mountinfo").read_text()

    def arguments(self) -> list[str]:
        bundle = self.bundle
        return {
            "create": ["create", "--bundle", str(bundle.path), bundle.id],
            "run": ["run", "--detach", "--bundle", str(bundle.path), bundle.id],
            "start": ["start", bundle.id],
            "exec": ["exec", bundle.id, "/bin/true"],
            "delete": ["delete", "--force", bundle.id],
        }[self.verb]

    def prepare(self) -> None:
        """What must be there before the command; for ``exec`` one container serves as long as it is in order."""
        if self.verb in ("create", "run") or (self.verb == "exec" and self.ready):
            return
        self.runtime.create(self.bundle)
        if self.verb in ("exec", "delete"):
            self.runtime.start(self.bundle)
        self.ready = True

    def call(self, fault: Fault | None) -> tuple[int, dict[str, list[int]], str]:
        """Its exit status, the calls of each process, and what it wrote to stderr."""
        command = [*self.runtime.command, "--root", str(self.runtime.root), *self.arguments()]
        report, err = self.bundle.path / "report", self.bundle.path / "err"
        null = os.open(os.devnull, os.O_RDWR)
        stderr = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            status, calls = injection.run(command, fault, report, (null, null, stderr), seconds(20))
        finally:
            os.close(null)
            os.close(stderr)
        return status, calls, err.read_text(errors="replace")

    def attempt(self, fault: Fault, name: str) -> None:
        """One fault and all that must hold after it."""
        try:
            self.prepare()
            status, _, text = self.call(fault)
            self.judge(fault, status, text)
            self.tidy()
        except (AssertionError, TimeoutError, subprocess.TimeoutExpired, OSError) as error:
            self.problems.append(f"{name}: {error}")
            print(self.problems[-1], flush=True)  # a long run is watched with -s
            self.runtime.call("delete", "--force", self.bundle.id, check=False)
            self.watch.clear()
            self.ready = False

    def judge(self, fault: Fault, status: int, text: str) -> None:
        """Whether the command has failed with a word, or has done what it should."""
        assert "Traceback" not in text and "Exception ignored" not in text, f"status {status}: {text}"
        if status == 0 and self.verb != "exec":
            wanted = {"create": "created", "delete": "none"}.get(self.verb, "running")
            found = self.runtime.status(self.bundle)
            ended = fault.signal and fault.process != "0" and found == "stopped"  # init has got it, and only then
            assert found == wanted or ended, f"succeeded, and the container is {found}: {text}"
        elif status not in (0, *_CRASHES) and (self.verb, status) != ("exec", 128 + fault.signal):  # passed on
            assert text.strip(), f"status {status} without a word"

    def tidy(self) -> None:
        """Nothing may be left, after ``delete --force`` for which the container need not exist."""
        if self.verb == "exec" and self.runtime.status(self.bundle) == "running":
            init = self.runtime.pid(self.bundle)
            self.goes(lambda: [pid for pid in self.processes() if pid != init])
            return
        self.ready = False
        result = self.runtime.delete(self.bundle, "--force", check=False)
        assert (result.returncode, result.stderr) == (0, ""), f"delete --force: {result.returncode} {result.stderr}"
        self.goes(self.left)

    def goes(self, look: Callable[[], list[object]]) -> None:
        """Wait until there is nothing to be seen any more."""
        with suppress(AssertionError):
            eventually(lambda: not look(), 5)
        left = look()
        assert not left, f"left behind: {left}"

    def left(self) -> list[object]:
        """What is left of the container; a quick look, the thorough one comes when the test is over."""
        mounts = Path("/proc/self/mountinfo").read_text()
        found: list[object] = [path for path in self.cgroups if path.exists()]
        found += self.runtime.root.iterdir()
        return [*found, *self.processes(), *([] if mounts == self.mounts else [mounts])]

    def processes(self) -> list[int]:
        """Those of the container, and of commands that should have ended."""
        new = processes.descendants() - self.watch.before.processes
        alive = {item for item in new if processes.alive(item.pid)}
        processes.reap(new - alive)
        return [item.pid for item in alive]


def places(calls: dict[str, list[int]]) -> Iterator[tuple[str, int, int]]:
    """Process, index and number of every call, but those amid many equal ones."""
    for process, numbers in sorted(calls.items()):
        index = 0
        for number, equal in itertools.groupby(numbers):
            length = len(list(equal))
            chosen = range(length) if length <= SAME else (0, length - 1)
            yield from ((process, index + each, number) for each in chosen)
            index += length


def sampled(process: str, index: int, number: int, fault: dict[str, int]) -> bool:
    """Whether a place is in the sample, the same on every machine with the same calls."""
    return zlib.crc32(f"{process}:{index}:{number}:{fault}".encode()) % STRIDE == 0


@pytest.fixture
def make_bench(runtime: Runtime, bundle: Bundle, leftovers: Watch) -> Callable[[str], Bench]:
    if not Path(runtime.command[-1]).read_bytes().startswith(b"\x7fELF"):
        pytest.skip("needs the installed launcher: without it, Python's own start can be interrupted")
    bundle.set("process.args", ["/bin/sleep", "1000"])
    bundle.set("hooks.poststop", [{"path": "/bin/true"}])
    bundle.set("linux.resources.pids", {"limit": 100})
    bundle.add_namespace("cgroup")
    return lambda verb: Bench(runtime, bundle, leftovers, verb)


@pytest.mark.timeout(20000)
@pytest.mark.parametrize("kind", ["signals", "errors"])
@pytest.mark.parametrize("verb", ["create", "run", "start", "exec", "delete"])
def test_a_fault_at_any_system_call(make_bench: Callable[[str], Bench], verb: str, kind: str) -> None:
    bench = make_bench(verb)
    bench.runtime.create(bench.bundle)  # what is cached is there from now on
    bench.runtime.delete(bench.bundle)
    bench.prepare()
    status, calls, text = bench.call(None)
    assert status == 0, text
    assert len(calls["0"]) > 50, "the beginning of our code was not seen"
    bench.tidy()
    done = 0
    for process, index, number in places(calls):
        for fault in SIGNALS if kind == "signals" else ERRORS:
            if sampled(process, index, number, fault) and not ("errno" in fault and number in _NO_ERROR):
                done += 1
                bench.attempt(Fault(process, index, **fault), f"{process}[{index}] call {number} {fault}")
    bench.verb = "delete"  # what exec has left
    bench.tidy()
    assert not bench.problems, f"{len(bench.problems)} of {done}:\n" + "\n".join(bench.problems)
