"""checkpoint and restore: processes go on where they were, with everything around them, or nothing has happened."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime
from tests.support.timing import eventually

works = needs("criu")
COUNT = (
    "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; sleep 0.1; done; "
    "echo end; exit 7"
)


def count(bundle: Bundle) -> int:
    path = bundle.rootfs / "count"
    return int(path.read_text()) if path.exists() else 0


def counts_on(bundle: Bundle, more: int = 2) -> int:
    """Wait until the bundle's process has counted further; how far it was before."""
    before = count(bundle)
    eventually(lambda: count(bundle) >= before + more, 20, f"the counter to pass {before}")
    return before


def checkpoint(runtime: Runtime, bundle: Bundle, images: Path, *options: str, **kw: Any) -> Completed:
    return runtime.call("checkpoint", "--image-path", images, *options, bundle.id, limit=60, **kw)


def restore(runtime: Runtime, bundle: Bundle, images: Path, *options: str | Path, **kw: Any) -> Completed:
    runtime.created.append(bundle.id)
    words = ("restore", "--image-path", images, "--bundle", bundle.path, *options, bundle.id)
    return runtime.call(*words, limit=60, **kw)


def through_a_pipe(runtime: Runtime, *words: str | Path) -> IO[bytes]:
    """Run the runtime with its outputs on a pipe, and nothing else; what can be read from that."""
    read, write = os.pipe()
    command = [*runtime.command, "--root", str(runtime.root), *map(str, words)]
    with os.fdopen(write, "wb") as output:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
    return os.fdopen(read, "rb")


@pytest.mark.parametrize("action", ["created", "stopped"])
def test_only_what_runs_can_be_saved(runtime: Runtime, bundle: Bundle, tmp_path: Path, action: str) -> None:
    runtime.create(bundle)
    if action == "stopped":
        pid = runtime.pid(bundle)
        runtime.kill(bundle, "KILL")
        runtime.wait(pid)
    result = checkpoint(runtime, bundle, tmp_path / "images", check=False)
    assert result.returncode == 1 and f"Container cannot be checkpointed in {action} state" in result.stderr
    assert not (tmp_path / "images").exists() and runtime.status(bundle) == action
    assert "does not exist" in runtime.call("checkpoint", "nosuch", check=False).stderr


def test_help_tells_the_truth(runtime: Runtime) -> None:
    """As Podman and CRI-O ask: by the words of an error, whether pods can be restored. Help does not ask."""
    found = runtime.call("checkpoint", "--help", check=False)
    assert (found.returncode, found.stderr) == (0, "") and found.stdout.startswith("Usage")
    assert "flag needs an argument" in runtime.call("restore", "--lsm-mount-context", check=False).stderr


def test_a_restore_without_images_leaves_nothing(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    result = restore(runtime, bundle, tmp_path / "nosuch", "--detach", check=False)
    assert result.returncode == 1 and ("criu" in result.stderr or "no such file or directory" in result.stderr)
    assert runtime.status(bundle) == "none" and not list(runtime.root.glob("*"))


@works
@pytest.mark.vm
def test_another_container_goes_on(runtime: Runtime, make_bundle: Any, scratch: Path) -> None:
    """Into another id, with pipes, bind mounts, hooks and limits of the new one's own."""
    data, file, hooked, images = scratch / "data", scratch / "file", scratch / "hooked", scratch / "images"
    data.mkdir()
    file.write_text("of the host\n")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >>{hooked}; echo >>{hooked}"]}
    first: Bundle = make_bundle("echo begin; cat /mnt/file; " + COUNT.replace("/count", "/data/count"))
    first.add_mount("/data", "bind", str(data), "rbind", "rw")
    first.add_mount("/mnt/file", "bind", str(file), "bind", "ro")
    output = through_a_pipe(runtime, "run", "--detach", "--bundle", first.path, first.id)
    runtime.created.append(first.id)
    assert output.readline() == b"begin\n" and output.readline() == b"of the host\n"
    eventually((data / "count").exists, 20)
    pid = runtime.pid(first)
    checkpoint(runtime, first, images, "--work-path", str(scratch / "logs"))
    assert runtime.status(first) == "none" and (scratch / "logs/dump.log").exists()
    runtime.wait(pid)
    assert output.read() == b""  # no process holds it any more
    before = int((data / "count").read_text())

    second: Bundle = make_bundle("sleep 1")
    second.config["mounts"] = first.config["mounts"]
    second.config["hooks"] = {"prestart": [hook], "createRuntime": [hook], "poststart": [hook], "poststop": [hook]}
    second.set("linux.resources.pids", {"limit": 77})
    runtime.created.append(second.id)
    words = ("restore", "--detach", "--image-path", images, "--bundle", second.path, "--pid-file", scratch / "pid")
    output = through_a_pipe(runtime, *words, "-no-subreaper", second.id)
    state = runtime.state(second)
    pid = state["pid"]
    assert state["status"] == "running" and state["bundle"] == str(second.path)
    assert (scratch / "pid").read_text() == str(pid)
    eventually(lambda: int((data / "count").read_text()) > before + 1, 20)
    assert (second.rootfs / "mnt/file").read_text() == ""  # the place to mount on was made; the mount is not the host's
    assert cgroups.read("pids", second.cgroups_path, "pids.max", "pids.max") == "77"
    inside = runtime.call("exec", second.id, "cat", "/mnt/file", "/data/count", "/proc/self/cgroup").stdout.split("\n")
    assert inside[0] == "of the host" and int(inside[1]) > before
    states = [json.loads(line) for line in hooked.read_text().splitlines()]
    assert [(each["status"], each["pid"], each["id"]) for each in states] == [("creating", pid, second.id)] * 2
    runtime.call("exec", second.id, "touch", "/stop")
    assert runtime.wait(pid) == 7
    assert output.read() == b"end\n"
    runtime.delete(second)
    assert json.loads(hooked.read_text().splitlines()[-1])["status"] == "stopped"


@works
@needs("criu:mem_dirty_track")
@pytest.mark.vm
def test_pre_dump_and_foreground_restore(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Memory in two parts and a restore in the foreground."""
    bundle.set("process.args", ["sh", "-c", COUNT])
    pid = runtime.boot(bundle)
    counts_on(bundle)
    checkpoint(runtime, bundle, scratch / "before", "--pre-dump")
    assert runtime.pid(bundle) == pid
    counts_on(bundle)
    checkpoint(runtime, bundle, scratch / "images", "--parent-path", "../before", "--leave-running")
    assert os.readlink(scratch / "images/parent") == "../before"
    assert runtime.status(bundle) == "running" and runtime.pid(bundle) == pid
    saved = counts_on(bundle)
    runtime.kill(bundle, "KILL")
    runtime.wait(pid)
    runtime.delete(bundle)
    (bundle.rootfs / "count").write_text("0")
    (bundle.rootfs / "stop").touch()  # so that it ends once it goes on
    outputs = (bundle.path / "stdout", bundle.path / "stderr")
    result = restore(runtime, bundle, scratch / "images", outputs=outputs, check=False)
    assert result.returncode == 7, result.stderr
    assert count(bundle) in (0, *range(2, saved + 3))
    assert runtime.status(bundle) == "none"


@works
@pytest.mark.vm
def test_a_terminal(runtime: Runtime, bundle: Bundle, console_socket: ConsoleSocket, scratch: Path) -> None:
    script = "n=0; while read line; do n=$((n+1)); echo $n: $line; done"
    bundle.set("process.terminal", True).set("process.args", ["sh", "-c", script])
    runtime.boot(bundle, "--console-socket", console_socket.path)
    terminal = console_socket.receive()
    terminal.send("one\n")
    terminal.expect("1: one")
    pid = runtime.pid(bundle)
    checkpoint(runtime, bundle, scratch / "images")
    runtime.wait(pid)
    terminal.close()
    refused = restore(runtime, bundle, scratch / "images", "--detach", check=False)
    assert "cannot allocate tty" in refused.stderr and runtime.status(bundle) == "none"
    restore(runtime, bundle, scratch / "images", "--detach", "--console-socket", console_socket.path)
    terminal = console_socket.receive()
    terminal.send("two\n")
    terminal.expect("2: two")
    terminal.close()


@works
@pytest.mark.vm
def test_what_fails_has_not_happened(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    # CRIU does not save a file that has been removed and is larger than 1 MiB.
    script = "dd if=/dev/zero of=/big bs=1M count=2; exec 9<>/big; rm /big; touch /ready; "
    script += "while [ ! -e /close ]; do sleep 0.1; done; exec 9>&-; "
    bundle.set("process.args", ["sh", "-c", script + COUNT])
    runtime.boot(bundle)
    eventually((bundle.rootfs / "ready").exists, 20)
    images = scratch / "images"
    result = checkpoint(runtime, bundle, images, "--work-path", str(scratch / "logs"), check=False)
    assert result.returncode == 1 and "criu failed: type DUMP errno" in result.stderr
    assert f"log file: {scratch}/logs/dump.log" in result.stderr
    assert runtime.status(bundle) == "running"
    (bundle.rootfs / "close").touch()
    counts_on(bundle)
    checkpoint(runtime, bundle, images)

    outputs = (bundle.path / "stdout", bundle.path / "stderr")
    taken = count(bundle)
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    bundle.write()
    result = restore(runtime, bundle, images, "--detach", check=False, outputs=outputs)
    assert result.returncode == 1 and "error running createRuntime hook #0: exit status 1" in result.stderr
    assert runtime.status(bundle) == "none" and count(bundle) == taken
    bundle.remove("hooks")
    core = (images / "pstree.img").read_bytes()
    (images / "pstree.img").write_bytes(core[:-4])
    result = restore(runtime, bundle, images, "--detach", check=False)
    assert result.returncode == 1 and "criu failed: type RESTORE errno" in result.stderr
    assert f"log file: {images}/restore.log" in result.stderr
    assert runtime.status(bundle) == "none" and not list(runtime.root.glob("*"))
