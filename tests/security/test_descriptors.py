"""G2: directories of the host behind descriptors that a caller forgot to close (CVE-2024-21626).

The caller leaks its root directory as every descriptor from 3 to 20, the image and the configuration try each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]
Caller = Callable[[Runtime, str], None]
Introspect = Callable[..., dict[str, str]]

NUMBERS = range(3, 21)
LEAK = f"root = os.dup2(os.open('/', os.O_RDONLY), 100, False); [os.dup2(root, number) for number in {[*NUMBERS]}]"


@pytest.fixture
def leaking(runtime: Runtime, caller: Caller) -> Runtime:
    """A runtime whose caller leaks."""
    caller(runtime, LEAK)
    return runtime


@pytest.fixture
def marked(scratch: Path) -> Path:
    """A directory of the host with a file that must not be read, and a program that must not be executed."""
    directory = scratch / "host"
    directory.mkdir()
    (directory / "mark").write_text("of the host\n")
    program = directory / "program"
    program.write_text("#!/bin/sh\necho of the host\n")
    program.chmod(0o755)
    return directory


def climbing(path: Path) -> str:
    return "../" * 12 + str(path).lstrip("/")


@pytest.mark.parametrize("tail", ["", "/../../..", "/tmp", "/new/directory"])
@pytest.mark.parametrize("table", ["/proc/self/fd", "/proc/thread-self/fd", "/proc/1/fd", "/dev/fd"])
def test_a_descriptor_as_working_directory(
    leaking: Runtime, bundle: Bundle, marked: Path, table: str, tail: str
) -> None:
    """For every number: a failure, and no look at the host."""
    bundle.set("process.args", ["cat", climbing(marked / "mark")])
    for number in (3, 4, 5, 9) if tail or table != "/proc/self/fd" else NUMBERS:
        bundle.set("process.cwd", f"{table}/{number}{tail}")
        result = leaking.run(bundle)
        assert result.returncode != 0, number
        assert "of the host" not in result.stdout
    assert not os.path.exists("/new")


@pytest.mark.vm
@pytest.mark.parametrize("link", ["/proc/self/fd/9", "/proc/self/fd/9/tmp", "../proc/self/fd/9"])
def test_working_directory_is_a_link(leaking: Runtime, bundle: Bundle, marked: Path, link: str) -> None:
    """The image's working directory is a link to one."""
    (bundle.rootfs / "c").symlink_to(link)
    bundle.set("process.args", ["cat", climbing(marked / "mark")])
    for place in ("/c", "/c/..", "/c/new"):
        result = leaking.run(bundle.set("process.cwd", place))
        assert result.returncode != 0 or place == "/c/..", place
        assert "of the host" not in result.stdout
    assert not os.path.exists("/new")


@pytest.mark.parametrize("how", ["path", "link in the image", "PATH", "interpreter", "interpreter by link"])
def test_a_program_behind_a_descriptor(leaking: Runtime, bundle: Bundle, marked: Path, how: str) -> None:
    for number in (3, 5, 9, 20):
        behind = f"/proc/self/fd/{number}{marked}"
        (bundle.rootfs / "l").unlink(missing_ok=True)
        (bundle.rootfs / "l").symlink_to(f"{behind}/program")
        script = bundle.rootfs / "bin/script"
        script.write_text(f"#!{'/l' if 'link' in how else behind + '/program'}\n")
        script.chmod(0o755)
        bundle.set("process.args", ["program" if how == "PATH" else "/l" if "image" in how else f"{behind}/program"])
        if how == "PATH":
            bundle.set("process.env", [f"PATH={behind}"])
        if how.startswith("interpreter"):
            bundle.set("process.args", ["script"])
        result = leaking.run(bundle)
        assert result.returncode != 0, number
        assert "of the host" not in result.stdout


def test_a_created_container_is_not_a_way_to_the_host(
    leaking: Runtime, make_bundle: Bundles, marked: Path, console_socket: ConsoleSocket
) -> None:
    """Its init waits, and a process that can see it, as root of the host can, finds nothing of the host behind it."""
    for number, change in enumerate(SHAPES):
        bundle = make_bundle("true")
        bundle.add_mount("/mnt", "bind", str(marked), "rbind", "ro")
        change(bundle)
        terminal = bundle.config["process"]["terminal"]
        extra: list[str | Path] = ["--console-socket", console_socket.path] if terminal else []
        leaking.create(bundle, *extra, options=["--log", bundle.path / "log"])
        if terminal:
            console_socket.receive()
        assert held(leaking.pid(bundle)) == {}, number
        leaking.delete(bundle, "--force")


def _with_hooks(bundle: Bundle) -> None:
    true = [{"path": "/bin/true"}]
    bundle.set("hooks", {kind: true for kind in ("prestart", "createRuntime", "createContainer", "poststop")})


def _with_seccomp(bundle: Bundle) -> None:
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"})
    bundle.set("process.noNewPrivileges", False)


SHAPES: list[Callable[[Bundle], object]] = [
    lambda bundle: None,
    lambda bundle: bundle.map_users(),
    lambda bundle: bundle.add_namespace("time"),
    lambda bundle: bundle.drop_namespace("pid"),
    lambda bundle: bundle.set("process.terminal", True),
    lambda bundle: bundle.set("root.readonly", True),
    lambda bundle: bundle.set("linux.sysctl", {"net.ipv4.ip_forward": "1"}),
    lambda bundle: bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro"),
    lambda bundle: bundle.add_mount("/run", "tmpfs", "tmpfs", "tmpcopyup"),
    _with_hooks,
    _with_seccomp,
]


def held(pid: int) -> dict[str, str]:
    """What a process has of the host: descriptors but its standard streams, root and working directory."""
    found = {}
    root = os.stat(f"/proc/{pid}/root/")
    links = {f"fd/{name}": os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    for name in ("root", "cwd"):
        links[name] = os.readlink(f"/proc/{pid}/{name}")
    for name, link in links.items():
        if name in ("fd/0", "fd/1", "fd/2") or not link.startswith("/"):
            continue
        here = os.stat(f"/proc/{pid}/{name}")
        if os.path.samestat(here, root):
            continue
        try:
            there = os.stat(f"/proc/{pid}/root{link}")
        except OSError:
            found[name] = link
            continue
        if not os.path.samestat(here, there) and not _is_proc(f"/proc/{pid}/{name}"):
            found[name] = link
    return found


def _is_proc(path: str) -> bool:
    """A private proc mount of the container's own pid namespace."""
    return os.path.lexists(f"{path}/thread-self") and os.path.exists(f"{path}/1/status")


def streams(facts: dict[str, str]) -> dict[str, str]:
    """Descriptors of the container's process and where they lead."""
    return {name[3:]: value for name, value in facts.items() if name.startswith("fd/")}


@pytest.mark.vm
def test_none_of_it_reaches_the_container(leaking: Runtime, bundle: Bundle, introspect: Introspect) -> None:
    assert set(streams(introspect(leaking, bundle))) == {"0", "1", "2"}


def test_only_what_is_passed_on_reaches_the_container(
    runtime: Runtime, caller: Caller, bundle: Bundle, introspect: Introspect
) -> None:
    caller(runtime, "[os.dup2(os.open('/dev/zero', os.O_RDONLY), number) for number in (7, 4, 3)]; os.dup2(7, 3)")
    found = streams(introspect(runtime, bundle, "--preserve-fds", "1"))
    assert set(found) == {"0", "1", "2", "3"}
    assert found["3"] == "/dev/zero"


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_descriptor_to_pass_on_that_is_not_there(runtime: Runtime, make_bundle: Bundles, count: int) -> None:
    """No descriptor of the runtime's own, such as its log, takes its place."""
    bundle = make_bundle("echo started")
    log = bundle.path / "log"
    result = runtime.run(bundle, "--preserve-fds", str(count), options=["--log", log])
    assert (result.returncode, result.stdout) == (1, "")
    assert "preserved-fd 3" in result.stderr


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1, 2", "1, 2", "0, 2"])
@pytest.mark.parametrize("logged", [False, True], ids=["", "logged"])
def test_standard_streams_that_are_closed(
    runtime: Runtime, caller: Caller, bundle: Bundle, introspect: Introspect, closed: str, logged: bool
) -> None:
    """They are /dev/null in the container, and never something that the runtime has opened."""
    log = bundle.path / "log"
    caller(runtime, f"[os.close(number) for number in ({closed},)]")
    found = streams(introspect(runtime, bundle, options=["--log", log] if logged else []))
    outputs = {"0": "/dev/null", "1": str(bundle.path / "stdout"), "2": str(bundle.path / "stderr")}
    assert found == {number: "/dev/null" if number in closed else output for number, output in outputs.items()}
    assert not logged or log.read_text() == ""


def test_the_commands_keep_no_descriptor_of_a_caller(leaking: Runtime, bundle: Bundle) -> None:
    """A container of a caller that leaks goes on without what was leaked, after start as before."""
    leaking.create(bundle, "--pid-file", bundle.path / "pid")
    pid = int((bundle.path / "pid").read_text())
    assert held(pid) == {}
    leaking.start(bundle)
    assert set(os.listdir(f"/proc/{pid}/fd")) <= {"0", "1", "2"}
