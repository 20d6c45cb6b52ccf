"""What callers hand over, as steps: pidfd sockets, NOTIFY_SOCKET, LISTEN_FDS."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Options, Spec, Step, Target
from gosudacon.stages.handoff import Handoff
from gosudacon.stages.rootfs_mount import RootfsMount

NOTIFY = "/run/gosudacon/c/notify"


def spec(target: Target | None = None, mount: bool = True, **options: Any) -> Spec:
    config: Any = {
        "process": {"args": ["sh"], "cwd": "/", "env": ["LISTEN_PID=9", "NOTIFY_SOCKET=/other"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}] if mount else []},
    }
    return Spec(config, "c", "/b", Options(**options), target=target)


def handoff(given: Spec) -> list[Step]:
    stage = Handoff()
    return list(stage.plan(given, Host()) if given.target is None else stage.plan_exec(given, Host()))


def environment(given: Spec) -> list[str]:
    step = next(step for step in handoff(given) if type(step).__name__ == "PrepareExecve")
    return list(vars(step)["environment"])


def notify_steps(given: Spec, host: Host) -> list[str]:
    steps = RootfsMount().plan(given, host)
    return [
        f"{step.phase} {step.runs_on()}: {step.describe()}{'' if not step.lasts else ' (lasts)'}"
        for step in steps
        if "notify" in step.describe()
    ]


@pytest.mark.parametrize(("target", "word"), [(None, "standard"), (Target(7), "setns")])
def test_pidfd_is_sent_before_waiting(target: Target | None, word: str) -> None:
    """A pidfd is sent by the runtime before the process waits."""
    steps = handoff(spec(target, pidfd_socket="/s"))
    names = [type(step).__name__ for step in steps]
    step = steps[names.index("SendPidfd")]
    assert step.record()[2] == {"path": "/s", "word": word}
    assert (step.phase, step.runs_on(), step.lasts) == ("confine", "runtime", False)


def test_no_annotation_makes_a_step() -> None:
    given = spec()
    given.config["annotations"] = {"run.oci.pidfd_receiver": "/s"}
    assert "SendPidfd" not in [type(step).__name__ for step in handoff(given)]


def test_notify_directory() -> None:
    """The notify directory is made and mounted read only."""
    assert notify_steps(spec(notify_directory=NOTIFY), Host()) == [
        "prepare runtime: make the directory notify in the state directory, for NOTIFY_SOCKET (lasts)",
        f"prepare runtime: clone the mount of {NOTIFY} for /run/notify, with its options",
        f"mount container: mount {NOTIFY} on /run/notify (bind,ro,nosuid,nodev,noexec)",
    ]


@pytest.mark.parametrize("host", [Host(kernel=(5, 10)), Host(euid=1000)])
def test_the_notify_directory_elsewhere(host: Host) -> None:
    made, mounted = notify_steps(spec(notify_directory=NOTIFY), host)
    assert made.endswith("(lasts)")
    assert mounted.startswith(f"mount container: mount {NOTIFY} on /run/notify (bind,ro,nosuid,nodev,noexec)")


def test_the_process_is_told_where_the_socket_is() -> None:
    assert "NOTIFY_SOCKET=/run/notify/notify.sock" in environment(spec(notify_directory=NOTIFY))
    assert "NOTIFY_SOCKET=/other" in environment(spec())


def test_notify_without_mount_namespace() -> None:
    """Without a mount namespace there is no place for it."""
    given = spec(mount=False, notify_directory=NOTIFY)
    assert notify_steps(given, Host()) == []
    assert "NOTIFY_SOCKET=/other" in environment(given)


def test_listen_fds_come_with_the_pid_of_the_process() -> None:
    found = environment(spec(listen_fds=2, preserve_fds=2))
    assert "LISTEN_FDS=2" in found
    assert not any(entry.startswith("LISTEN_PID") for entry in found)  # known only to the process itself
    assert "LISTEN_PID=9" in environment(spec())


def test_a_process_without_arguments_is_still_refused() -> None:
    given = spec(pidfd_socket="/s")
    given.process["args"] = []
    with pytest.raises(ConfigError):
        handoff(given)
