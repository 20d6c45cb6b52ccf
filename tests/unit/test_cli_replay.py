"""The recorded calls of engines (calls.json), made again for a container that there is not.

Each has the words, the environment and the descriptors that the engine gave; only the directories are others.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.cli.parse import parse
from tests.support import recorder
from tests.support.runtime import CHECKOUT

CALLS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "calls.json").read_text())
NAMES = [f"{call['caller']}-{' '.join(call['words'][-4:])}-{number}" for number, call in enumerate(CALLS)]
PROGRAM = CHECKOUT / "gosudacon/__main__.py"
VALUES = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C", "GOMAXPROCS": "2", "XDG_RUNTIME_DIR": ""}
ABSENT = "container does not exist"
EXPECTED = {
    "create": (1, "gosudacon create failed: JSON specification file config.json not found"),
    "run": (1, "gosudacon run failed: JSON specification file config.json not found"),
    "exec": (255, f"exec failed: {ABSENT}"),
}


@pytest.fixture
def replay(tmp_path: Path) -> Iterator[Any]:
    """``replay(call)``: make the call with its surroundings; returns the process's result."""
    opened: list[int] = []

    def make(call: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
        words = [word.replace("/T/", f"{tmp_path}/") for word in call["words"]]
        for word in words:
            if word.startswith(f"{tmp_path}/"):
                Path(word).parent.mkdir(parents=True, exist_ok=True)
        for name in ("--bundle", "--root"):
            if name in words:
                Path(words[words.index(name) + 1]).mkdir(parents=True, exist_ok=True)
        for path in tmp_path.glob("podman1"):
            path.rmdir()
        (tmp_path / "podman1").write_text("{}")
        if "--root" not in words:  # not that of this machine
            words = ["--root", str(tmp_path / "default"), *words]
        passed = {fd: _open(what, opened) for fd, what in call["fds"].items() if int(fd) > 2}
        moved = "".join(f" {fd}<&{source} {source}<&-" for fd, source in passed.items())
        standard_input: Any = {"input": b"{}"} if call["fds"]["0"] == "pipe" else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            ["bash", "-c", f'exec "$@"{moved}', "bash", sys.executable, "-B", PROGRAM, *words],
            **standard_input,
            capture_output=True,
            env={name: VALUES.get(name, "x") for name in call["environment"]},
            cwd="/",
            timeout=60,
            pass_fds=list(passed.values()),
        )

    yield make
    for fd in opened:
        os.close(fd)


def _open(what: str, opened: list[int]) -> int:
    if what == "pipe":
        found = list(os.pipe())
    elif what == "socket":
        found = [end.detach() for end in socket.socketpair()]
    else:
        found = [os.open("/dev/null", os.O_RDWR)]
    # Above the numbers that recorded calls have.
    high = fcntl.fcntl(found[0], fcntl.F_DUPFD_CLOEXEC, 50)
    opened += [*found, high]
    return high


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_every_call_is_understood(call: dict[str, Any]) -> None:
    words = call["words"]
    invocation = parse(words)
    assert invocation.command in words or words == ["--version"]
    values = invocation.globals | invocation.options
    for number, word in enumerate(words):
        if word.startswith("--") and word != "--version":
            name, equals, value = word[2:].partition("=")
            assert values[name] in (True, value if equals else words[number + 1], [words[number + 1]], 1)
    assert invocation.args == ([words[-2], words[-1]] if invocation.command == "kill" else words[-1:]) or not words[1:]


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_what_is_answered_when_there_is_no_container(call: dict[str, Any], replay: Any, tmp_path: Path) -> None:
    command = parse(call["words"]).command
    status, message = EXPECTED.get(command, (1, ABSENT))
    result = replay(call)
    if command == "version" or "--force" in call["words"]:
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout.startswith(b"gosudacon version ") == (command == "version")
        return
    assert (result.returncode, result.stdout) == (status, b"")
    if "--log" in call["words"]:
        log = Path(call["words"][call["words"].index("--log") + 1].replace("/T/", f"{tmp_path}/"))
        record = json.loads(log.read_bytes())  # one object, as Podman wants it
        assert (record["level"], record["msg"]) == ("error", message)
        assert result.stderr.decode().splitlines() == [message, f"hint: {record['hint']}"]
    else:
        assert re.fullmatch(rf'time="\S+" level=error msg="{message}"\nhint: .*\n', result.stderr.decode())
    assert not list(tmp_path.rglob("*pid*"))


def test_the_recorder(tmp_path: Path) -> None:
    """It passes on words, descriptors, variables and the status, and writes down the call."""
    records = tmp_path / "records"
    read, write = os.pipe()
    code = (
        f"import os, sys; os.write({write}, repr((sys.argv[1:], os.environ['A'], os.read(0, 9))).encode()); sys.exit(7)"
    )
    program = recorder.program([sys.executable, "-c", code], tmp_path / "bin", records)
    assert program.name == "gosudacon"
    words = ["--log", str(tmp_path / "log"), "state", "a b", "--", "", "x'y"]
    (tmp_path / "log").write_text('{"level":"error","msg":"why","time":""}\n')
    environment = {"A": "1", "PATH": "/bin"}
    result = subprocess.run([program, *words], input=b"hi", pass_fds=[write], env=environment, cwd="/", timeout=60)
    os.close(write)
    assert result.returncode == 7
    assert os.read(read, 999).decode() == repr((words, "1", b"hi"))
    os.close(read)
    (record,) = [json.loads(line) for line in records.read_text().splitlines()]
    assert (record["words"], record["cwd"], record["status"], record["message"]) == (words, "/", 7, "why")
    assert (record["fds"]["0"], record["fds"][str(write)]) == ("pipe", "pipe")
    assert (record["environment"]["A"], record["environment"]["PATH"]) == ("", "/bin")
    assert [call["words"][2:] for call in recorder.sanitised([record, record])] == [words[2:]]
