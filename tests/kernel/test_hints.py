"""What a failure says on the real kernel: the words of runc first, the place in config.json, what to do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")


def fails(runtime: Runtime, bundle: Bundle, verb: str = "run", *words: str) -> tuple[str, str, dict[str, Any]]:
    """The line for callers without its prefix, the hint, and the record in the log of a call that must fail."""
    log = bundle.path / "log.json"
    log.unlink(missing_ok=True)
    options: list[str | Path] = ["--log", log, "--log-format", "json"]
    result = runtime.call(verb, "--bundle", bundle.path, *words, bundle.id, options=options, check=False)
    assert result.returncode == 1
    record = json.loads(log.read_text())
    line, *more = result.stderr.splitlines()
    assert record["msg"] == line
    assert more == ([f"hint: {record['hint']}"] if "hint" in record else [])
    return line.removeprefix(f"gosudacon {verb} failed: "), record.get("hint", ""), record


@contextmanager
def mounted(kind: str, where: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", kind, "-o", options, kind, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


def program(bundle: Bundle, contents: bytes, mode: int = 0o755) -> None:
    bundle.set("process.args", ["/program"])
    (bundle.rootfs / "program").write_bytes(contents)
    (bundle.rootfs / "program").chmod(mode)


@pytest.mark.parametrize(
    ("contents", "mode", "words", "hint"),
    [
        (b"#!/bin/bash\n", 0o755, "exec /program: no such file or directory (", "the interpreter /bin/bash, which"),
        (b"#!/bin/sh\r\nexit\r\n", 0o755, "exec /program: no such file or directory (", "ends in CR"),
        (b"exit 0\n", 0o755, "exec /program: exec format error (", "does not begin with #!"),
        (b"", 0o755, "exec /program: exec format error (", "is an empty file"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x16\0" + bytes(99), 0o755, "exec /program: exec format error (", "s390x"),
        (b"#!/bin/sh\n", 0o644, 'exec: "/program": permission denied (', "chmod +x"),
    ],
)
def test_a_program(runtime: Runtime, bundle: Bundle, contents: bytes, mode: int, words: str, hint: str) -> None:
    program(bundle, contents, mode)
    line, help, record = fails(runtime, bundle)
    assert line.startswith(words) and hint in help
    assert (record["stage"], record["call"]) == ("handoff", "execve")
    assert re.match(r"config\.json:\d+:\d+: process\.args", record["where"])


def test_at_start(runtime: Runtime, bundle: Bundle) -> None:
    program(bundle, b"#!/bin/bash\n")
    runtime.create(bundle)
    result = runtime.call("start", bundle.id, check=False)
    assert result.returncode == 1
    assert "exec /program: no such file or directory (" in result.stderr
    assert "\nhint: /program needs the interpreter /bin/bash" in result.stderr


def test_in_exec(runtime: Runtime, bundle: Bundle) -> None:
    """The image of a container that runs is looked at through its own root."""
    program(bundle, b"#!/bin/bash\n")
    bundle.set("process.args", ["sleep", "1000"])
    runtime.boot(bundle)
    result = runtime.call("exec", bundle.id, "/program", check=False)
    assert result.returncode == 255
    assert "exec failed: exec /program: no such file or directory (" in result.stderr
    assert "\nhint: /program needs the interpreter /bin/bash" in result.stderr


def test_a_fifo_is_not_opened(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(bundle.rootfs / "program", 0o755)
    bundle.set("process.args", ["/program"])
    line, hint, _ = fails(runtime, bundle)
    assert line.startswith("exec /program: ") and "not a regular file" in hint


PLACED = [
    ("hostname", "x", "uts", "unable to set hostname without a private UTS namespace", '"uts"'),
    ("linux.sysctl", {"net.ipv4.nope": "1"}, "", "write sysctl key net.ipv4.nope: no such file", "no net.ipv4.nope"),
    ("process.cwd", "/bin/busybox", "", "mkdir /bin/busybox: ", "is a file"),
    ("root.path", "nope", "", "invalid rootfs", "unpack or mount"),
    ("process.args", [], "", "args must not be empty", '"args"'),
    (
        "linux.namespaces",
        [{"type": "uts"}, {"type": "mount"}, {"type": "ipc", "path": "/no"}],
        "",
        "open the ipc namespace",
        "nothing is at /no",
    ),
    (
        "linux.seccomp",
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/no/agent",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        },
        "",
        "failed to connect with seccomp agent",
        "start the agent",
    ),
    ("process.scheduler", {"policy": "SCHED_RR"}, "", "invalid scheduler.priority 0: SCHED_RR takes 1 to 99", ""),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "900"}, "", "invalid memory policy: ", "memory nodes"),
]


@pytest.mark.parametrize(("key", "value", "without", "words", "hint"), PLACED, ids=[case[0] for case in PLACED])
def test_place_and_hint(
    runtime: Runtime, bundle: Bundle, key: str, value: object, without: str, words: str, hint: str
) -> None:
    bundle.set(key, value)
    if without:
        bundle.drop_namespace(without)
    line, help, record = fails(runtime, bundle)
    assert line.startswith(words) and hint in help
    row = int(re.match(r"config\.json:(\d+):", record["where"]).group(1))  # type: ignore[union-attr]
    assert record["where"] in line
    assert 1 <= row <= len((bundle.path / "config.json").read_text().splitlines())


@pytest.mark.parametrize(
    ("entry", "words", "hint"),
    [
        (
            {"type": "bind", "source": "/no", "options": ["bind"]},
            'error mounting "/no" to rootfs at "/x"',
            "make it on the",
        ),
        ({"type": "nofs", "source": "nofs"}, 'error mounting "nofs" to rootfs at "/x": ', "no filesystem nofs"),
        ({"type": "tmpfs", "source": "tmpfs", "options": ["nosiud"]}, 'error mounting "tmpfs"', "did you mean nosuid?"),
        ({"type": "tmpfs", "source": "tmpfs", "options": ["size=1q"]}, 'error mounting "tmpfs"', "size takes bytes"),
    ],
)
def test_a_mount(runtime: Runtime, bundle: Bundle, entry: dict[str, Any], words: str, hint: str) -> None:
    bundle.update({"mounts": [*bundle.config["mounts"], {"destination": "/x", **entry}]})
    line, help, record = fails(runtime, bundle)
    assert line.startswith(words) and hint in help
    assert f"mounts[{len(bundle.config['mounts']) - 1}]" in record["where"]


@needs("program:runc")
@pytest.mark.parametrize("args", [["nope"], ["/nope"], ["/etc/passwd"]])
def test_the_words_of_runc(runtime: Runtime, bundle: Bundle, args: list[str]) -> None:
    bundle.set("process.args", args)
    line, _, _ = fails(runtime, bundle)
    words = ["runc", "--root", str(bundle.path / "runc"), "run", "--bundle", str(bundle.path), f"{bundle.id}-runc"]
    other = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert line.partition(" (")[0] in other.stderr.replace('\\"', '"')


@pytest.mark.vm  # of cgroup v2: memory.max and memory.peak
def test_killed_for_memory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.resources.memory", {"limit": 32 << 20, "swap": 32 << 20})
    bundle.set("process.args", ["sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $x"])
    result = runtime.run(bundle, check=False)
    assert result.returncode != 0
    assert re.search(r"was killed for lack of memory \(OOM-killed: limit 32\.0 MiB, peak 3\d\.\d MiB\)", result.stderr)
    assert "\nhint: raise linux.resources.memory.limit" in result.stderr


@pytest.mark.parametrize("args", [["mkdir", "/x"], ["sh", "-c", "mkdir /x; exit $?"]])
def test_killed_by_the_filter(runtime: Runtime, bundle: Bundle, args: list[str]) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    bundle.set("process.args", args)
    result = runtime.run(bundle, check=False)
    assert result.returncode == 128 + 31
    assert "was killed by signal 31 (SIGSYS): the seccomp profile forbids" in result.stderr
    assert "\nhint: dmesg" in result.stderr


def test_an_ordinary_end_says_nothing(runtime: Runtime, bundle: Bundle) -> None:
    for status in (3, 128 + 31):
        bundle.set("process.args", ["sh", "-c", f"exit {status}"])
        result = runtime.run(bundle, check=False)
        assert (result.returncode, result.stderr) == (status, "")


def test_never_a_number_for_a_name(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    runtime.boot(bundle)
    result = runtime.call("update", "--resources", scratch, bundle.id, check=False)
    assert f"{scratch}: is a directory" in result.stderr
    empty = scratch / "empty"
    (empty / "config.json").mkdir(parents=True)
    result = runtime.call("create", "--bundle", empty, "x", check=False)
    assert f"{empty}/config.json: is a directory" in result.stderr


def test_never_success(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """A socket's path that is too long for sockaddr_un: Python says so without an errno."""
    bundle.set("process.terminal", True)
    directory = scratch / ("x" * 120)
    directory.mkdir()
    _, _, record = fails(runtime, bundle, "create", "--console-socket", f"{directory}/{'y' * 120}")
    assert "success" not in record["msg"].lower() and "connect" in record["msg"]


def test_a_full_disk_has_a_name(runtime: Runtime, bundle: Bundle) -> None:
    small = bundle.path / "small"
    small.mkdir()
    with mounted("tmpfs", small, "size=4k"):
        (small / "rest").write_bytes(bytes(4096))
        _, hint, record = fails(runtime, bundle, "create", "--pid-file", str(small / "pid"))
    assert f"{small}/pid: no space left on device" in record["msg"] and "df -i" in hint


def test_an_init_that_was_killed(runtime: Runtime, bundle: Bundle) -> None:
    """``start`` meets a process that goes away with what it was told unread."""
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    os.kill(pid, signal.SIGSTOP)  # it does not read
    words = [*runtime.command, "--root", str(runtime.root), "start", bundle.id]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as starter:
        socket = runtime.root / bundle.id / "start.sock"
        eventually(lambda: not socket.exists(), 10, "start has connected")
        os.kill(pid, signal.SIGKILL)
        _, text = starter.communicate()
    assert starter.returncode == 1 and "reset by peer" not in text and "was killed before" in text


def test_settings_are_not_config_json(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    config = scratch / "config.toml"
    config.write_text('plugins = ["network"]\n[stage.network]\nmtu = "big"\n')
    config.chmod(0o644)
    for verb in ("create", "explain"):
        words = ["--bundle", bundle.path, bundle.id] if verb == "create" else [bundle.path]
        result = runtime.call(verb, *words, options=["--config", config], check=False)
        assert result.returncode == 1
        assert "[stage.network] mtu must be" in result.stderr and str(config) in result.stderr
        assert "config.json" not in result.stderr
