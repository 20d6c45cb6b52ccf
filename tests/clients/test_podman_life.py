"""Podman and conmon: the life of containers, what is asked of them meanwhile, and that nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import new_name
from tests.clients.podman import IMAGE, Podman
from tests.support import cgroups, processes
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually, seconds

_SLEEP = "exec sleep 1000"


# States.


def test_states(podman: Podman) -> None:
    name = new_name()
    podman.call("create", "--name", name, *podman.options(), IMAGE, "sh", "-c", "touch /ready; sleep 1000")
    assert podman.status(name) == "created"
    podman.call("init", name)
    assert podman.status(name) == "initialized"
    assert podman.pid(name) > 0
    podman.call("start", name)
    assert podman.inspect(name, ".State.Running") == "true"
    podman.ready(name)
    podman.call("kill", name)
    assert podman.output("wait", name) == "137"
    assert podman.status(name) == "exited"
    assert podman.pid(name) == 0
    podman.call("rm", name)


def test_created_container_is_removed_before_it_starts(podman: Podman) -> None:
    name = podman.output("create", *podman.options(), IMAGE, "true")
    podman.call("init", name)
    conmon = int(podman.inspect(name, ".State.ConmonPid"))
    podman.call("rm", "--force", name)
    # With any runtime conmon writes its file about the end after podman has looked for it.
    eventually(lambda: not processes.alive(conmon), 20, "the end of conmon")
    (podman.base / "libpod/exits" / name).unlink(missing_ok=True)


def test_ps_shows_state_and_exit_status(podman: Podman) -> None:
    running, over = podman.start(_SLEEP), podman.start("exit 6")
    podman.output("wait", over)
    rows = {row["Id"]: row for row in json.loads(podman.output("ps", "--all", "--format", "json"))}
    assert (rows[running]["State"], rows[running]["Pid"]) == ("running", podman.pid(running))
    # Podman 5 waits for the end alone, and clears up after it: exited is what it is then.
    assert rows[over]["State"] in ("stopped", "exited") and rows[over]["ExitCode"] == 6
    podman.remove(running, over)


def test_started_again(podman: Podman) -> None:
    name = podman.start("echo x >>/file; wc -l </file; exit 5")
    for _ in range(2):
        assert podman.output("wait", name) == "5"
        podman.call("start", name)
    assert podman.output("wait", name) == "5"
    assert podman.output("logs", name).split() == ["1", "2", "3"]
    podman.call("rm", name)


def test_logs_of_both_outputs(podman: Podman) -> None:
    name = podman.start("echo out; echo err >&2")
    podman.output("wait", name)
    result = podman.call("logs", name)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    podman.call("rm", name)


# Ends.


@pytest.mark.parametrize(
    ("trap", "options", "limit", "status"),
    [("trap 'exit 9' HUP", ["--stop-signal", "HUP"], "20", "9"), ("trap '' TERM", [], "1", "137")],
    ids=["with the signal of the container", "of a container that ignores the signal"],
)
def test_stop(podman: Podman, trap: str, options: list[str], limit: str, status: str) -> None:
    name = podman.start(f"{trap}; touch /ready; while :; do sleep 0.1; done", *options)
    podman.ready(name)
    podman.call("stop", "--time", limit, name)
    assert podman.inspect(name, ".State.ExitCode") == status
    podman.call("rm", name)


def test_kill(podman: Podman) -> None:
    name = podman.start("trap 'touch /got' USR1; touch /ready; while :; do sleep 0.1; done")
    podman.ready(name)
    podman.call("kill", "--signal", "USR1", name)
    podman.ready(name, "got")
    podman.call("kill", name)
    assert podman.output("wait", name) == "137"
    result = podman.call("kill", name, check=False)
    assert result.returncode == 125
    assert "can only kill running containers" in result.stderr
    podman.call("rm", name)


def test_remove_needs_force_while_it_runs(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    assert podman.call("rm", name, check=False).returncode == 2
    assert podman.status(name) == "running"
    podman.remove(name)


def test_killed_from_outside(podman: Podman) -> None:
    name = podman.start("sleep 1000 & sleep 1001 & wait")
    os.kill(podman.pid(name), signal.SIGKILL)
    assert podman.output("wait", name) == "137"
    podman.call("rm", name)


def test_pid_namespace_of_the_host(podman: Podman) -> None:
    name = podman.start("sleep 1000 & sleep 1001 & touch /ready; wait", "--pid", "host")
    podman.ready(name)
    podman.call("stop", "--time", "0", name)
    podman.call("rm", name)


# Pause.


def test_pause(podman: Podman) -> None:
    name = podman.start("while :; do sleep 0.1; done")
    podman.call("pause", name)
    assert podman.status(name) == "paused"
    assert podman.call("exec", name, "true", check=False).returncode != 0
    podman.call("unpause", name)
    assert podman.status(name) == "running"
    assert podman.output("exec", name, "echo", "again") == "again"
    podman.remove(name)


def test_a_paused_container_is_removed(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    podman.call("pause", name)
    podman.remove(name)


# Questions.


def test_top_and_stats(podman: Podman) -> None:
    name = podman.start("sleep 1000 & exec sleep 1001", "--memory", "64m")
    assert {line.split()[-1] for line in podman.output("top", name, "pid", "args").splitlines()[1:]} == {"1000", "1001"}
    stats = json.loads(podman.output("stats", "--no-stream", "--format", "json", name))[0]
    assert stats["pids"] == "2"
    assert stats["mem_usage"].endswith("67.11MB")
    podman.remove(name)


def test_diff_commit_and_copy(podman: Podman, scratch: Path) -> None:
    name = podman.start("echo text >/new; touch /ready; exec sleep 1000")
    podman.ready(name)
    assert "A /new" in podman.output("diff", name).splitlines()
    podman.call("cp", f"{name}:/new", scratch / "copy")
    assert (scratch / "copy").read_text() == "text\n"
    (scratch / "in").write_text("sent\n")
    podman.call("cp", scratch / "in", f"{name}:/in")
    assert podman.output("exec", name, "cat", "/in") == "sent"
    podman.remove(name)


def test_mounted_and_exported(podman: Podman) -> None:
    name = podman.start("echo text >/new; touch /ready; exec sleep 1000")
    podman.ready(name)
    root = Path(podman.output("mount", name))
    assert (root / "new").read_text() == "text\n"
    podman.call("umount", name)
    podman.remove(name)


# exec.


def test_exec(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    result = podman.call("exec", name, "sh", "-c", "echo out; echo err >&2; exit 8", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (8, "out\n", "err\n")
    assert podman.call("exec", "-i", name, "sh", "-c", "read a; echo $a", input="typed\n").stdout == "typed\n"
    options = ["--user", "1000:5", "--workdir", "/tmp", "--env", "A=b c"]
    assert podman.output("exec", *options, name, "sh", "-c", "id -u; id -g; pwd; echo $A").split() == [
        "1000",
        "5",
        "/tmp",
        "b",
        "c",
    ]
    script = "cat /proc/self/status | grep -E 'CapEff|Seccomp:'"
    assert podman.output("exec", name, "sh", "-c", script) == podman.run(script).stdout.strip()
    assert "CapEff:\t0000000000000000" in podman.output("exec", "--user", "1000", name, "sh", "-c", script)
    assert "000001ff" in podman.output("exec", "--privileged", name, "sh", "-c", script)
    podman.remove(name)


@pytest.mark.parametrize(
    ("command", "status"), [("missing", 127), ("/missing", 127), ("/etc", 126), ("/etc/group", 126)]
)
def test_exec_of_bad_commands(podman: Podman, command: str, status: int) -> None:
    name = podman.start(_SLEEP)
    result = podman.call("exec", name, command, check=False)
    assert (result.returncode, result.stdout) == (status, "")
    assert command in result.stderr
    podman.remove(name)


def test_detached_exec(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    podman.call("exec", "--detach", name, "sh", "-c", "touch /ready; exec sleep 1002")
    podman.ready(name)
    members = {line.split()[-1] for line in podman.output("top", name, "pid", "args").splitlines()[1:]}
    assert members == {"1000", "1002"}
    assert podman.call("exec", name, "true").returncode == 0
    podman.remove(name)


def test_exec_in_a_container_that_has_ended(podman: Podman) -> None:
    name = podman.start("true")
    podman.output("wait", name)
    result = podman.call("exec", name, "true", check=False)
    assert result.returncode == 255 or result.returncode == 125
    assert "container state improper" in result.stderr
    podman.call("rm", name)


# Terminals.


def test_run_on_a_terminal(podman: Podman) -> None:
    words = ["run", "--rm", "--interactive", "--tty", *podman.options(), IMAGE, "sh"]
    with podman.terminal(*words) as (terminal, wait):
        terminal.expect("# ")
        terminal.send("tty; echo $((40+2)); exit 3\n")
        terminal.expect("/dev/pts/0")
        terminal.expect("42")
        assert wait() == 3


def test_exec_on_a_terminal(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    with podman.terminal("exec", "--interactive", "--tty", name, "sh") as (terminal, wait):
        terminal.expect("# ")
        terminal.send("stty size; tty\n")
        terminal.expect("/dev/pts/")
        terminal.send("sleep 1003\n")
        expected = {"1000", "1003", "sh"}
        eventually(
            lambda: (
                expected == {line.split()[-1] for line in podman.output("top", name, "pid", "args").splitlines()[1:]}
            ),
            10,
            "the foreground process",
        )
        terminal.send("\x03")
        terminal.expect("# ")
        terminal.send("exit 11\n")
        assert wait() == 11
    podman.remove(name)


def test_attach(podman: Podman) -> None:
    name = podman.start("read a; echo got $a; exit 12", "--interactive")
    words, pipe = podman.words("attach", name), subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=podman.environment()) as client:
        assert client.stdin and client.stdout
        print("word", file=client.stdin, flush=True)
        assert client.stdout.readline() == "got word\n"
        client.wait(seconds(30))
    assert podman.output("wait", name) == "12"
    podman.call("rm", name)


# Helpers that podman gives a container.


def test_init(podman: Podman, scratch: Path) -> None:
    program = Path("/usr/libexec/podman/catatonit")
    if not program.exists():  # any program called as PROGRAM -- COMMAND will do
        program = scratch / "init"
        program.write_text('#!/bin/sh\nshift\n"$@" &\nwait $!\n')
        program.chmod(0o755)
    result = podman.run("echo $$; cat /proc/1/cmdline; exit 5", "--init", "--init-path", program, check=False)
    assert result.returncode == 5
    assert int(result.stdout.splitlines()[0]) > 1
    assert "init" in result.stdout


def test_restart_policy(podman: Podman) -> None:
    name = podman.start("echo x; exit 1", "--restart", "on-failure:2")
    eventually(lambda: podman.inspect(name, ".RestartCount") == "2" and podman.status(name) == "exited", 20, "the end")
    assert podman.inspect(name, ".State.ExitCode") == "1"
    assert podman.output("logs", name).split() == ["x", "x", "x"]
    podman.remove(name)


def test_restart(podman: Podman) -> None:
    name = podman.start(_SLEEP)
    former = podman.pid(name)
    podman.call("restart", "--time", "0", name)
    assert podman.status(name) == "running"
    assert podman.pid(name) != former
    podman.remove(name)


def test_health_check(podman: Podman) -> None:
    options = ["--health-cmd", "test -e /healthy", "--health-interval", "disable", "--health-retries", "1"]
    name = podman.start("touch /healthy; exec sleep 1000", *options)
    podman.ready(name, "healthy")
    podman.call("healthcheck", "run", name)
    assert podman.inspect(name, ".State.Health.Status") == "healthy"
    podman.call("exec", name, "rm", "/healthy")
    assert podman.call("healthcheck", "run", name, check=False).returncode == 1
    assert podman.inspect(name, ".State.Health.Status") == "unhealthy"
    podman.remove(name)


def test_preserved_descriptors(podman: Podman, scratch: Path) -> None:
    (scratch / "file").write_text("through\n")
    words = podman.words("run", "--rm", "--preserve-fds", "1", *podman.options(), IMAGE, "cat", "/proc/self/fd/3")
    script = f'exec 3<{scratch}/file; exec "$@"'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *words], env=podman.environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "through\n"), result.stderr


def test_update(podman: Podman) -> None:
    if podman.call("update", "--help", check=False).returncode != 0:
        pytest.skip("needs podman update")
    name = podman.start(_SLEEP, "--memory", "64m")
    podman.call("update", "--memory", "96m", name)
    limit = cgroups.read("memory", podman.cgroup(name), "memory.limit_in_bytes", "memory.max")
    assert limit == str(96 << 20)
    podman.remove(name)


# Many, and the worst.


def test_50_containers_at_once(podman: Podman) -> None:
    names = [f"many{number}" for number in range(50)]
    for batch in range(0, 50, 10):
        words = [
            podman.words("run", "--detach", "--name", name, *podman.options(), IMAGE, "sleep", "1000")
            for name in names[batch : batch + 10]
        ]
        clients = [subprocess.Popen(line, stdout=subprocess.DEVNULL, env=podman.environment()) for line in words]
        assert [client.wait(seconds(60)) for client in clients] == [0] * 10
    assert len(podman.output("ps", "--quiet").split()) == 50
    podman.call("rm", "--all", "--force", "--time", "0", limit=120)


@pytest.mark.parametrize("init_too", [False, True])
def test_conmon_is_killed(podman: Podman, init_too: bool) -> None:
    name = podman.start(_SLEEP)
    init = podman.pid(name)
    conmon = int(podman.inspect(name, ".State.ConmonPid"))
    for pid in (conmon, init) if init_too else (conmon,):
        os.kill(pid, signal.SIGKILL)
    processes.wait(conmon)
    # Orphans are the tests' children, and podman waits for the process to go.
    words = podman.words("rm", "--force", "--time", "0", name)
    remover = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=podman.environment())
    assert processes.wait(init, 30) == 137
    if remover.wait(seconds(60)) != 0:  # Podman 5 wants to know how it ended, and can do without from now on.
        podman.remove(name)
    assert podman.call("container", "exists", name, check=False).returncode == 1
    # Without conmon podman 4 calls no runtime's ``delete``.  What is left is state, of a container that has stopped.
    subprocess.run([podman.runtime, "delete", "--force", name], check=True)


def test_podman_is_killed_in_the_foreground(podman: Podman) -> None:
    name = new_name()
    words = podman.words("run", "--name", name, *podman.options(), IMAGE, "sleep", "1000")
    client = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=podman.environment())
    eventually(lambda: podman.call("inspect", name, check=False).stdout.find('"running"') > 0, 20, "the container")
    client.kill()
    client.wait()
    assert podman.status(name) == "running"
    podman.remove(name)


@needs("runtime:gosudacon")
def test_a_checkpoint_that_fails_leaves_the_container(podman: Podman) -> None:
    """Podman takes the exit status of ``checkpoint --help``, which is 0, for the answer whether the runtime can."""
    assert subprocess.run([*runtime_command(), "checkpoint", "--help"], capture_output=True).returncode == 0
    name = podman.start(_SLEEP)
    result = podman.call("container", "checkpoint", name, check=False)
    assert (podman.status(name) == "running") == (result.returncode != 0)
    podman.remove(name)
