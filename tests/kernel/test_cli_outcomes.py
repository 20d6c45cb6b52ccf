"""Every command when all goes well: nothing on stderr, nothing in the log. And when not: one line in each.

The test of the table at the end sees to it that a new command gets both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.base.errors import FACTS
from gosudacon.cli import options as table
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

pytestmark = needs("root", "busybox", "runtime:gosudacon")

# Verb, words, exit status, message. ID is a running container, STOPPED and CREATED are what they say, BUNDLE a
# bundle, EMPTY an empty directory, FILE a file.
FAILURES = [
    ("create", "--bundle EMPTY x", 1, "gosudacon create failed: JSON specification file config.json not found"),
    ("create", "--bundle BUNDLE ID", 1, "gosudacon create failed: container with given ID already exists"),
    ("create", "--bundle BUNDLE --console-socket EMPTY/none x", 1, "gosudacon create failed: .*"),
    ("create", "--bundle BUNDLE --pid-file EMPTY/none/pid x", 1, "gosudacon create failed: .*none/.*no such file.*"),
    ("create", "--bundle BUNDLE a/b", 1, "gosudacon create failed: invalid container ID format"),
    ("run", "--bundle EMPTY x", 1, "gosudacon run failed: JSON specification file config.json not found"),
    ("run", "--detach --bundle BUNDLE ID", 1, "gosudacon run failed: container with given ID already exists"),
    ("start", "ID", 1, "cannot start an already running container"),
    ("start", "STOPPED", 1, "cannot start a container that has stopped"),
    ("exec", "ID /nosuch", 255, r'exec failed: .*exec: "/nosuch": stat /nosuch: no such file or directory'),
    ("exec", "ID nosuch", 255, r'exec failed: .*exec: "nosuch": executable file not found in \$PATH'),
    ("exec", "--detach ID /etc", 255, r'exec failed: .*exec: "/etc": is a directory: permission denied'),
    ("exec", "STOPPED true", 255, "exec failed: cannot exec in a stopped container"),
    ("exec", "--process EMPTY/none ID", 255, "exec failed: .*no such file or directory.*"),
    ("exec", "--process FILE ID", 255, "exec failed: .*"),
    ("exec", "--user root ID true", 255, "exec failed: .*"),
    ("exec", "none true", 255, "exec failed: container does not exist"),
    ("state", "none", 1, "container does not exist"),
    ("list", "--format xml", 1, "invalid format option"),
    ("ps", "none", 1, "container does not exist"),
    ("ps", "ID -o comm", 1, "couldn't find PID field in ps output"),
    ("kill", "STOPPED 9", 1, "container not running"),
    ("kill", "ID NOSUCH", 1, r'unknown signal "NOSUCH"'),
    ("delete", "ID", 1, "cannot delete container .* that is not stopped: running"),
    ("delete", "none", 1, "container does not exist"),
    ("pause", "STOPPED", 1, "container not running"),
    ("resume", "ID", 1, "container not paused"),
    ("update", "--memory x ID", 1, "invalid value for memory: .*"),
    ("update", "--resources FILE ID", 1, ".*resources.*"),
    ("update", "STOPPED", 1, "container not running"),
    ("mounts", "add STOPPED FILE", 1, ".*"),
    ("learn", "--bundle EMPTY x", 1, "gosudacon .* failed: JSON specification file config.json not found"),
    ("audit", "none", 2, ".*does not exist.*"),
    ("doctor", "x", 1, r'gosudacon: "doctor" requires exactly 0 argument\(s\)'),
    ("plugin", "nosuch", 1, "unknown action 'nosuch' of plugin: .*"),
    ("trace", "EMPTY/none", 1, "open .*none: no such file or directory"),
    ("shim", "nosuch", 1, ".*"),
    ("events", "--stats none", 1, "container does not exist"),
    ("events", "--interval x ID", 1, ".*interval.*"),
    ("checkpoint", "none", 1, "container does not exist"),
    ("checkpoint", "CREATED", 1, "[Cc]ontainer cannot be checkpointed in created state"),
    ("checkpoint", "STOPPED", 1, "[Cc]ontainer cannot be checkpointed in stopped state"),
    ("restore", "--bundle BUNDLE --image-path EMPTY/none x", 1, ".*/none: no such file or directory"),
    ("restore", "--bundle BUNDLE --image-path EMPTY ID", 1, ".*container with given ID already exists"),
    ("features", "x", 1, r'gosudacon: "features" requires exactly 0 argument\(s\)'),
    ("spec", "--bundle BUNDLE", 1, "File config.json exists. Remove it first"),
    ("demo", "BUNDLE", 1, ".*"),
    ("host", "x", 1, r'gosudacon: "host" requires exactly 0 argument\(s\)'),
    ("explain", "EMPTY", 1, "JSON specification file config.json not found"),
    ("explain", "--stage nosuch BUNDLE", 1, ".*nosuch.*"),
    ("explain", "nosuch", 1, "nosuch is neither a bundle nor a container"),
    ("explain", "--host EMPTY/none BUNDLE", 1, "open .*none: no such file or directory"),
    ("explain", "BUNDLE EMPTY", 2, "JSON specification file config.json not found"),
    ("install", "--prefix EMPTY --name a/b", 1, "invalid name of a command: 'a/b'"),
    ("uninstall", "--prefix EMPTY", 1, ".*/bin/gosudacon is not installed"),
    ("completion", "ksh", 1, "no completion for the shell 'ksh': .*"),
    ("man", "nosuch", 1, "No help topic for 'nosuch'"),
    ("help", "nosuch", 3, "No help topic for 'nosuch'"),
    ("nosuch", "", 3, "No help topic for 'nosuch'"),
]
# In this order: each finds what those before it have left.
SUCCESSES: list[tuple[str, str, str | None]] = [
    ("create", "--bundle NEW new", ""),
    ("delete", "new", ""),
    ("run", "--detach --bundle NEW new", ""),
    ("delete", "--force new", ""),
    ("delete", "--force new", ""),
    ("exec", "ID true", ""),
    ("exec", "--detach --pid-file PIDFILE ID true", ""),
    ("exec", "ID echo hello", "hello\n"),
    ("state", "ID", None),
    ("list", "", None),
    ("list", "--quiet", None),
    ("list", "--format json", None),
    ("ps", "ID", None),
    ("audit", "ID", None),
    ("plugin", "list", None),
    ("doctor", "", None),
    ("explain", "--long ID", None),
    ("ps", "--format json ID", None),
    ("ps", "--format json STOPPED", None),
    ("update", "--pids-limit 100 ID", ""),
    ("update", "--resources LIMITS ID", ""),
    ("events", "--stats ID", None),
    ("pause", "ID", ""),
    ("resume", "ID", ""),
    ("kill", "ID 0", ""),
    ("kill", "--all ID 0", ""),
    ("start", "CREATED", ""),
    ("kill", "--all CREATED KILL", ""),
    ("delete", "STOPPED", ""),
    ("delete", "--force ID", ""),
    ("features", "", None),
    ("spec", "--bundle EMPTY", ""),
    ("demo", "EMPTY/demo", None),
    ("explain", "NEW", None),
    ("shim", "ps", None),
    ("explain", "--format json NEW", None),
    ("explain", "NEW NEW", None),
    ("host", "", None),
    ("completion", "zsh", None),
    ("man", "", None),
    ("man", "create", None),
    ("help", "", None),
    ("help", "run", None),
    ("--version", "", None),
]
ELSEWHERE = {"install", "uninstall", "checkpoint", "restore", "mounts", "trace", "learn"}
"""Successes that other files look at: they need a package of their own, CRIU, or a file that a test has made."""


@pytest.fixture
def containers(runtime: Runtime, bundle: Bundle, make_bundle: Callable[..., Bundle], scratch: Path) -> dict[str, str]:
    """What the words in capitals stand for."""
    created, stopped, new = make_bundle("sleep 1000"), make_bundle("sleep 1000"), make_bundle("sleep 1000")
    runtime.boot(bundle)
    runtime.create(created)
    runtime.create(stopped)
    runtime.kill(stopped, "KILL")
    runtime.until(stopped, "stopped")
    runtime.created.append("new")
    (scratch / "empty").mkdir()
    (scratch / "file").write_text("{")
    (scratch / "limits").write_text('{"pids":{"limit":50}}')
    return {
        "ID": bundle.id,
        "CREATED": created.id,
        "STOPPED": stopped.id,
        "BUNDLE": str(new.path),
        "NEW": str(new.path),
        "EMPTY": str(scratch / "empty"),
        "FILE": str(scratch / "file"),
        "LIMITS": str(scratch / "limits"),
        "PIDFILE": str(scratch / "pid"),
    }


def call(runtime: Runtime, verb: str, line: str, names: dict[str, str], *options: str | Path) -> Completed:
    words = [re.sub(r"[A-Z]{2,}\b", lambda match: names.get(match[0], match[0]), word) for word in line.split()]
    return runtime.call(verb, *words, options=options, check=False)


def lines(text: str) -> list[str]:
    return text.split("\n")[:-1] if text.endswith("\n") else [*text.split("\n"), "unfinished"]


def problem(result: Completed, log: Path, status: int, message: str) -> str:
    """What is wrong with a call that has failed, and was to leave ``message`` in the log and on stderr."""
    records = [json.loads(line) for line in lines(log.read_text())]
    log.unlink()
    if result.returncode != status or len(records) != 1:
        return f"exit status {result.returncode}, log {records}, stderr {result.stderr!r}"
    (record,) = records
    if record["level"] != "error" or not record.keys() <= {"level", "msg", "time", *FACTS}:
        return f"record {record}"
    if not re.fullmatch(rf"({message})( \(.*\))?", record["msg"]):
        return f"message {record['msg']!r}"
    usage = "Incorrect Usage.\n" if "requires" in message else ""
    if (
        lines(result.stderr) != [record["msg"], *([f"hint: {record['hint']}"] if "hint" in record else [])]
        or not result.stdout.startswith(usage)
        or bool(result.stdout) != bool(usage)
    ):
        return f"stderr {result.stderr!r}, stdout {result.stdout!r}"
    return ""


def test_failures(runtime: Runtime, containers: dict[str, str], scratch: Path) -> None:
    log = scratch / "log"
    found = {}
    for verb, line, status, message in FAILURES:
        result = call(runtime, verb, line, containers, "--log", log, "--log-format", "json")
        found[f"{verb} {line}"] = problem(result, log, status, message)
    assert {line: text for line, text in found.items() if text} == {}


@pytest.mark.parametrize("format", ["text", "json"])
def test_failures_without_a_log(format: str, runtime: Runtime) -> None:
    for verb, words, status, message in (
        ("state", ["none"], 1, "container does not exist"),
        ("exec", ["none", "true"], 255, "exec failed: container does not exist"),
    ):
        result = runtime.call(verb, *words, options=["--log-format", format], check=False)
        assert (result.returncode, result.stdout) == (status, "")
        line, *more = lines(result.stderr)
        if format == "json":
            assert (json.loads(line)["msg"], more) == (message, [])
        else:
            assert re.fullmatch(f'time="[^"]+" level=error msg="{message}"', line)
            assert len(more) == 1 and more[0].startswith("hint: ")


def test_successes(runtime: Runtime, containers: dict[str, str], scratch: Path) -> None:
    log = scratch / "log"
    for verb, line, output in SUCCESSES:
        result = call(runtime, verb, line, containers, "--log", log, "--log-format", "json")
        assert (result.returncode, result.stderr, log.read_text()) == (0, "", ""), f"{verb} {line}: {result.stderr}"
        assert result.stdout == output or (output is None and result.stdout), (verb, line)
        if "PIDFILE" in line:  # the namespace's init cannot end before this one is waited for
            runtime.wait(int((scratch / "pid").read_text()))
        if verb in ("state", "features", "events") or "json" in line:
            json.loads(result.stdout)


def test_the_tables_are_complete() -> None:
    finished = set(table.every())
    assert finished - {verb for verb, *_ in FAILURES} == set()
    assert finished - {verb for verb, *_ in SUCCESSES} == ELSEWHERE
