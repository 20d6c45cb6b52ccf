"""Signals that ask a command to end: one line, everything undone, and no second signal stops that."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

pytestmark = needs("runtime:gosudacon")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def started(runtime: Runtime, bundle: Bundle, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    runtime.created.append(bundle.id)
    command = [*runtime.command, "--root", str(runtime.root), *arguments]
    with (
        (bundle.path / "stderr").open("w") as stderr,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def ended(bundle: Bundle, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its status, and what it said: not to the end of a pipe, which the container may have, too."""
    status = process.wait(seconds(20))
    text = (bundle.path / "stderr").read_text()
    assert "Traceback" not in text
    return status, text


def hook(bundle: Bundle, kind: str, script: str) -> Path:
    """Have a hook write its pid to a file, and then do something; the file."""
    note = bundle.path / kind
    bundle.set(f"hooks.{kind}", [{"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ > {note}; {script}"]}])
    return note


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_create_is_undone(runtime: Runtime, bundle: Bundle, leftovers: Watch, number: int, verb: str) -> None:
    note = hook(bundle, "createRuntime", "exec sleep 1000")
    arguments = ["run", "--detach"] if verb == "run" else [verb]
    with started(runtime, bundle, *arguments, "--bundle", str(bundle.path), bundle.id) as process:
        eventually(lambda: note.exists() and note.read_text(), 20, "the hook")
        process.send_signal(number)
        status, text = ended(bundle, process)
    assert status == 1
    assert text.count("\n") == 1
    assert f"interrupted by {signal.Signals(number).name}" in text
    assert not Path(f"/proc/{note.read_text().strip()}").exists()
    assert leftovers.leftovers() == []
    runtime.delete(bundle, "--force")


def test_more_signals_do_not_stop_the_undoing(runtime: Runtime, bundle: Bundle, leftovers: Watch) -> None:
    go = hook(bundle, "createRuntime", "exec sleep 1000")
    undoing = hook(bundle, "poststop", f"while [ -e {go} ]; do sleep 0.05; done")
    with started(runtime, bundle, "create", "--bundle", str(bundle.path), bundle.id) as process:
        eventually(lambda: go.exists() and go.read_text(), 20, "the hook")
        process.send_signal(signal.SIGINT)
        eventually(undoing.exists, 20, "the undoing")
        for number in SIGNALS:
            process.send_signal(number)
        time.sleep(0.1)
        assert process.poll() is None
        go.unlink()
        status, text = ended(bundle, process)
    assert (status, text.count("\n")) == (1, 1)
    assert "interrupted by SIGINT" in text
    assert leftovers.leftovers() == []


def test_a_signal_that_the_caller_ignores_ends_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """As under nohup(1)."""
    note = hook(bundle, "createRuntime", "sleep 0.5")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with started(runtime, bundle, "create", "--bundle", str(bundle.path), bundle.id) as process:
            eventually(note.exists, 20, "the hook")
            process.send_signal(signal.SIGHUP)
            assert process.wait(seconds(20)) == 0  # not to the end of stderr, which the container has, too
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_amid_the_start_is_one_line(runtime: Runtime, bundle: Bundle, leftovers: Watch) -> None:
    """At any moment, also while modules are imported."""
    if not Path(runtime.command[-1]).read_bytes().startswith(b"\x7fELF"):
        pytest.skip("needs the installed launcher: without it, Python's own start can be interrupted")
    for pause in range(0, 40, 2):
        with started(runtime, bundle, "create", "--bundle", str(bundle.path), bundle.id) as process:
            time.sleep(pause / 1000)
            process.send_signal(signal.SIGINT)
            status, text = ended(bundle, process)
        assert status in (0, 1, -signal.SIGINT), text  # the last before the launcher's first instruction
        assert text.count("\n") == (status == 1), text
        runtime.delete(bundle, "--force")
    assert leftovers.leftovers() == []


# Too few descriptors.


def test_too_few_descriptors_leave_nothing(runtime: Runtime, bundle: Bundle, leftovers: Watch) -> None:
    """Whatever the limit, and although undoing needs descriptors, too."""
    runtime.create(bundle)
    runtime.delete(bundle)
    runtime.created.append(bundle.id)
    for count in range(4, 40, 2):
        process = subprocess.run(
            [*runtime.command, "--root", str(runtime.root), "create", "--bundle", str(bundle.path), bundle.id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)),  # noqa: B023
            timeout=seconds(30),
            check=False,
        )
        assert "Traceback" not in process.stderr, f"{count}: {process.stderr}"
        if process.returncode == 0:
            assert runtime.status(bundle) == "created"
        runtime.delete(bundle, "--force")
        assert not [path for path in cgroups.find(bundle.id)], f"{count}: {process.stderr}"
    assert leftovers.leftovers() == []


# What a killed command leaves beside the state directory.


def test_half_written_pid_file(runtime: Runtime, bundle: Bundle) -> None:
    """A pid file that was half written does not hinder the next command."""
    path = bundle.path / "pid"
    (bundle.path / ".pid").write_text("12")
    runtime.create(bundle, "--pid-file", path)
    assert path.read_text() == str(runtime.pid(bundle))
    assert sorted(each for each in os.listdir(bundle.path) if "pid" in each) == ["pid"]
