"""run: what is its own, compared with create and start; terminals are in test_terminal.py."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

MUCH = 64 << 20
# A daemon, as programs make them: its parent ends, and it is another process's child from then on.
ORPHAN = "(trap '' HUP TERM; sleep 1000 & echo $! >/pid); while :; do sleep 0.05; done"


@contextmanager
def foreground(runtime: Runtime, bundle: Bundle, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    runtime.created.append(bundle.id)
    words = [*runtime.command, "--root", str(runtime.root), "run", *options, "--bundle", str(bundle.path), bundle.id]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def number_in(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text().strip(), what=f"a number in {file.name}"))


def ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not Path(f"/proc/{pid}").exists()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_container_is_gone_when_its_process_is(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.set("process.args", ["/bin/sh", "-c", "exit 3"])).returncode == 3
    assert runtime.status(bundle) == "none"


def test_keep_keeps_it(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.set("process.args", ["/bin/sh", "-c", "exit 3"]), "--keep").returncode == 3
    assert runtime.status(bundle) == "stopped"
    runtime.delete(bundle)


def test_what_could_not_be_run_is_not_kept(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.set("process.args", ["/no/such"]), "--keep").returncode == 1
    assert runtime.status(bundle) == "none"


def test_detached_it_runs_on_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", "sleep 1000; exit 3"])
    file = bundle.path / "pid"
    assert runtime.run(bundle, "--detach", "--pid-file", file).returncode == 0
    pid = int(file.read_text())
    assert runtime.status(bundle) == "running"
    assert parent(pid) == os.getpid()  # the nearest subreaper; that of an engine is its shim
    runtime.kill(bundle, "KILL")
    assert runtime.wait(pid) == 137
    assert runtime.status(bundle) == "stopped"  # it has not been deleted


@pytest.mark.parametrize("option", ["", "--no-subreaper"])
def test_orphans(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """Of a container in the caller's pid namespace; in a new one they are init's."""
    bundle.drop_namespace("pid").set("process.args", ["/bin/sh", "-c", ORPHAN])
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["destination"] != "/proc"]
    bundle.write()
    with foreground(runtime, bundle, *filter(None, [option])) as child:
        orphan = number_in(bundle.rootfs / "pid")
        assert eventually(lambda: parent(orphan) in (child.pid, os.getpid()))
        assert parent(orphan) == (os.getpid() if option else child.pid)
        runtime.kill(bundle, "KILL")
        assert child.wait(seconds(10)) == 137
    assert eventually(lambda: ended(orphan))  # killed with the rest of the cgroup


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, 40])
def test_signals_are_passed_on(runtime: Runtime, bundle: Bundle, number: int) -> None:
    name = {40: "40"}.get(number) or signal.Signals(number).name.removeprefix("SIG")
    script = f"trap 'echo got >/got; exit 7' {name}; echo $$ >/pid; while :; do sleep 0.05; done"
    bundle.set("process.args", ["/bin/sh", "-c", script])
    with foreground(runtime, bundle) as child:
        number_in(bundle.rootfs / "pid")
        child.send_signal(number)
        assert child.wait(seconds(10)) == 7
    assert (bundle.rootfs / "got").exists()


@pytest.mark.parametrize("command", ["run", "exec"])
def test_64_mib_through_pipes_both_ways(runtime: Runtime, bundle: Bundle, command: str) -> None:
    words = [*runtime.command, "--root", str(runtime.root)]
    if command == "exec":
        runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
        words += ["exec", bundle.id, "cat"]
    else:
        runtime.created.append(bundle.id)
        words += ["run", "--bundle", str(bundle.set("process.args", ["/bin/cat"]).path), bundle.id]
    block = os.urandom(1 << 20)
    sent = hashlib.sha256()
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None

    def feed() -> None:
        assert child.stdin is not None
        for index in range(MUCH >> 20):
            data = index.to_bytes(4, "little") + block[4:]
            sent.update(data)
            child.stdin.write(data)
        child.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    came, length = hashlib.sha256(), 0
    while data := child.stdout.read(1 << 20):
        came.update(data)
        length += len(data)
    feeder.join()
    child.stdout.close()
    assert child.wait(seconds(10)) == 0
    assert (length, came.digest()) == (MUCH, sent.digest())


@pytest.mark.parametrize("command", ["run", "exec"])
def test_streams_that_the_caller_has_closed(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """The process gets /dev/null in their place, not something of the runtime's that has their number."""
    look = " ".join(f"$(readlink /proc/$$/fd/{number})" for number in range(3))
    script = f'cat; echo lost; echo lost >&2; seen="{look}"; echo $seen >/links; exit 4'
    root = ["--root", str(runtime.root)]
    if command == "exec":
        runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
        words = [*runtime.command, *root, "exec", bundle.id, "sh", "-c", script]
    else:
        runtime.created.append(bundle.id)
        bundle.set("process.args", ["/bin/sh", "-c", script])
        words = [*runtime.command, *root, "run", "--bundle", str(bundle.path), bundle.id]
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]
    assert subprocess.run(closing, timeout=seconds(20), check=False).returncode == 4
    assert (bundle.rootfs / "links").read_text().split() == ["/dev/null"] * 3
