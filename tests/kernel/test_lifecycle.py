"""create, start, state, kill, delete and run, as their callers see them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import eventually

WAITS = ["/bin/sleep", "1000"]


def test_a_container_goes_through_its_states(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.create(bundle)
    assert runtime.status(bundle) == "created"
    runtime.start(bundle)
    assert runtime.status(bundle) == "running"
    runtime.kill(bundle, "KILL")
    runtime.until(bundle, "stopped")
    assert runtime.state(bundle)["pid"] == 0
    runtime.delete(bundle)
    assert runtime.status(bundle) == "none"


def test_state_says_what_callers_read(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS).set("annotations", {"org.example.key": "value"})
    runtime.create(bundle)
    state = runtime.state(bundle)
    assert state["id"] == bundle.id
    assert state["bundle"] == str(bundle.path)
    assert state["rootfs"] == str(bundle.rootfs)
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["created"].endswith("Z") and "T" in state["created"]
    assert os.path.exists(f"/proc/{state['pid']}")


def test_the_process_is_not_executed_before_start(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", "echo executed"])
    runtime.create(bundle)
    time.sleep(0.3)
    assert bundle.stdout == ""
    pid = runtime.pid(bundle)
    runtime.start(bundle)
    assert runtime.wait(pid) == 0
    assert bundle.stdout == "executed\n"


def test_the_pid_file_holds_the_pid_and_no_newline(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    pid_file = bundle.path / "pid"
    runtime.create(bundle, "--pid-file", pid_file)
    assert pid_file.read_text() == str(runtime.pid(bundle))


@pytest.mark.parametrize(("verb", "message"), [("state", "does not exist"), ("start", "does not exist"),
                                               ("kill", "does not exist"), ("delete", "does not exist")])  # fmt: skip
def test_a_container_that_is_not_there(runtime: Runtime, verb: str, message: str) -> None:
    result = runtime.call(verb, "absent", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr


def test_delete_force_of_nothing(runtime: Runtime) -> None:
    """Delete force of a container that is not there is silent."""
    result = runtime.call("delete", "--force", "absent")
    assert result.stdout + result.stderr == ""


def test_an_id_is_used_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.create(bundle)
    result = runtime.create(bundle, check=False)
    assert result.returncode == 1
    assert "already exists" in bundle.stderr
    assert runtime.status(bundle) == "created"


@pytest.mark.parametrize("container_id", ["", ".", "..", "a/b", "../x", "x" * 300, "sp ace", "new\nline", "ü"])
def test_what_is_no_id(runtime: Runtime, bundle: Bundle, container_id: str) -> None:
    result = runtime.create(bundle, container_id=container_id, check=False)
    assert result.returncode == 1
    runtime.created.clear()
    assert not runtime.root.exists() or os.listdir(runtime.root) == []


def test_start_twice(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.boot(bundle)
    result = runtime.start(bundle, check=False)
    assert result.returncode == 1
    assert "cannot start an already running container" in result.stderr


def test_a_running_container_is_deleted_by_force_only(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.boot(bundle)
    result = runtime.delete(bundle, check=False)
    assert result.returncode == 1
    assert "that is not stopped: running" in result.stderr
    runtime.delete(bundle, "--force")
    assert runtime.status(bundle) == "none"


def test_a_created_container_needs_no_force(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.create(bundle)
    runtime.delete(bundle)
    assert runtime.status(bundle) == "none"


def test_kill_of_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/true"])
    runtime.wait(runtime.boot(bundle))
    result = runtime.kill(bundle, "TERM", check=False)
    assert result.returncode == 1
    assert "container not running" in result.stderr
    assert runtime.kill(bundle, 9, "--all").returncode == 0


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signals_by_every_name(runtime: Runtime, bundle: Bundle, signal: str) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"])
    pid = runtime.boot(bundle)
    eventually(lambda: "ready" in bundle.stdout, 10, "the trap is set")
    runtime.kill(bundle, signal)
    assert runtime.wait(pid) == 42


def test_an_unknown_signal(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.boot(bundle)
    result = runtime.kill(bundle, "NOSUCH", check=False)
    assert result.returncode == 1
    assert "unknown signal" in result.stderr and "NOSUCH" in result.stderr


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_run_returns_the_exit_status(runtime: Runtime, bundle: Bundle, status: int) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", f"echo out; echo err >&2; exit {status}"])
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout, result.stderr) == (status, "out\n", "err\n")
    assert runtime.status(bundle) == "none"


def test_run_returns_128_and_the_signal(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", "kill -TERM $$"]).drop_namespace("pid")
    assert runtime.run(bundle).returncode == 143


def test_run_passes_stdin_through(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/cat"])
    assert runtime.run(bundle, stdin="some text\n").stdout == "some text\n"


def test_run_detached(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.run(bundle, "--detach")
    assert runtime.status(bundle) == "running"
    runtime.delete(bundle, "--force")


def test_run_keep(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/true"])
    assert runtime.run(bundle, "--keep").returncode == 0
    assert runtime.status(bundle) == "stopped"
    runtime.delete(bundle)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 'exec: "/etc": is a directory: permission denied'),
    ],
)
def test_create_reports_what_cannot_be_executed(
    runtime: Runtime, bundle: Bundle, args: list[str], message: str
) -> None:
    bundle.set("process.args", args)
    log = bundle.path / "log.json"
    result = runtime.create(bundle, check=False, options=["--log", log, "--log-format", "json"])
    assert result.returncode == 1
    record = json.loads(log.read_text())
    assert record["level"] == "error"
    assert record["msg"].startswith(f"gosudacon create failed: {message} (")
    assert bundle.stderr.splitlines()[0] == record["msg"]
    assert runtime.status(bundle) == "none"


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
def test_what_was_created_ends_on_a_signal(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Although it is the first of its pid namespace, to which the kernel delivers only what is handled."""
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    runtime.call("kill", bundle.id, name)
    assert runtime.wait(pid) == 128 + signal.Signals[f"SIG{name}"]
    runtime.delete(bundle)


def test_path_without_x_bit(runtime: Runtime, bundle: Bundle) -> None:
    """A file that is not executable is passed over on the path."""
    (bundle.rootfs / "first").mkdir()
    for name in ("cat", "only-there"):
        (bundle.rootfs / "first" / name).write_text("not a program\n")
    bundle.set("process.env", ["PATH=/first:/bin"]).set("process.args", ["cat", "/first/cat"])
    assert runtime.output(bundle) == "not a program\n"
    result = runtime.create(bundle.set("process.args", ["only-there"]), check=False)
    assert r"exec: \"only-there\": executable file not found in $PATH" in result.stderr


def test_list(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", WAITS)
    runtime.create(bundle)
    table = runtime.call("list").stdout.splitlines()
    assert table[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert table[1].split()[:4] == [bundle.id, str(runtime.pid(bundle)), "created", str(bundle.path)]
    assert runtime.call("list", "--quiet").stdout == f"{bundle.id}\n"
    records = json.loads(runtime.call("list", "--format", "json").stdout)
    assert [(each["id"], each["owner"]) for each in records] == [(bundle.id, "root")]


def test_list_of_nothing(runtime: Runtime, bundle: Bundle) -> None:
    runtime.root.mkdir(exist_ok=True)
    assert runtime.call("list", "--format", "json").stdout == "null\n"
    result = runtime.call("list", options=["--root", bundle.path / "nowhere"], check=False)
    assert result.returncode == 1


def test_an_init_that_has_too_little_memory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.resources.memory", {"limit": 500_000})
    result = runtime.create(bundle, check=False)
    assert result.returncode == 1
    assert "container init was OOM-killed (memory limit too low?)" in bundle.stderr
    assert runtime.status(bundle) == "none"


def test_rlimits_of_a_user_who_is_not_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.user", {"uid": 1000, "gid": 1000, "additionalGids": [10]})
    bundle.set("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])
    bundle.set("process.args", ["/bin/sh", "-c", "id -u; id -G; ulimit -n; ulimit -Hn; pwd; echo $HOME"])
    assert runtime.output(bundle).split() == ["1000", "1000", "10", "100", "200", "/", "/home/user"]


def test_delete_foreground_container(runtime: Runtime, bundle: Bundle) -> None:
    """A container in the foreground can be deleted from elsewhere."""
    bundle.set("process.args", WAITS)
    runtime.created.append(bundle.id)
    command = [*runtime.command, "--root", str(runtime.root), "run", "--bundle", str(bundle.path), bundle.id]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    runtime.until(bundle, "running")
    runtime.delete(bundle, "--force")
    _, errors = child.communicate(timeout=20)
    assert (child.returncode, errors) == (137, b"")
