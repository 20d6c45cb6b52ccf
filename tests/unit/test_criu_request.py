"""What is asked of CRIU, as far as no CRIU is needed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base.errors import Error
from gosudacon.cli import help as helps
from gosudacon.cli.parse import parse
from gosudacon.container import features
from gosudacon.container.criu import checkpoint, external, request, rpc, service
from gosudacon.container.criu.request import CriuOptions, Directories
from gosudacon.container.criu.restore import Restoration
from gosudacon.pipeline.spec import Host, Spec
from gosudacon.pipeline.step import PlanWarning, Stage, Step
from tests.support.timing import eventually


def spec(config: dict[str, Any]) -> Spec:
    whole: Any = {"root": {"path": "rootfs"}, **config}
    return Spec(whole, "c", "/b")


@pytest.fixture
def no_criu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "DIRECTORIES", (str(tmp_path),))


@pytest.mark.usefixtures("no_criu")
def test_without_criu(capfd: pytest.CaptureFixture[str]) -> None:
    assert service.problem() == "criu is not installed"
    assert features.features(use_snapshot=False)["annotations"][features.CHECKPOINT] == "false"
    for words in (["checkpoint", "--help"], ["restore", "-h"], ["help", "restore"]):
        assert helps.run(parse(words)) == 0
        assert capfd.readouterr() == (helps.text("checkpoint" if "checkpoint" in words else "restore"), "")


def test_criu_is_never_looked_for_along_path(no_criu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "criu").write_text("#!/bin/sh\n")
    (elsewhere / "criu").chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere))
    with pytest.raises(Error, match="not installed"):
        service.find()
    (tmp_path / "criu").mkdir()  # a directory is not a program
    with pytest.raises(Error, match="not installed"):
        service.find()


def program(directory: Path, *packets: str, wait: bool = True) -> None:
    """A criu that sends these packets (in hexadecimal), each but the first after it has been spoken to."""
    script = f"#!{sys.executable} -IS\nimport socket, sys\ns = socket.socket(fileno=int(sys.argv[2]))\n"
    for packet in packets:
        script += "s.recv(9999)\n" * wait + f"s.send(bytes.fromhex({packet!r}))\n"
    (directory / "criu").write_text(script)
    (directory / "criu").chmod(0o755)


def test_a_criu_that_is_none(no_criu: None, tmp_path: Path) -> None:
    program(tmp_path)
    with pytest.raises(Error, match="type VERSION: it ended without an answer"):
        service.version()
    program(tmp_path, "ff ff")
    with pytest.raises(Error, match="criu sent an invalid answer"):
        service.version()


@pytest.mark.parametrize("wait", [True, False])
def test_a_criu_that_is_too_old(no_criu: None, tmp_path: Path, wait: bool) -> None:
    program(tmp_path, "08 0a 10 01 52 04 08 03 10 06", wait=wait)  # type VERSION, success, version 3.6
    message = r"checkpoint and restore: criu 3\.11 or newer is needed, and this is criu 3\.6"
    with pytest.raises(Error, match=message):
        service.version()
    assert "criu 3.11 or newer" in service.problem()


def test_a_refusal_names_the_log_and_quotes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DIRECTORIES", (str(tmp_path),))
    log = tmp_path / "dump.log"
    log.write_text("(00.1) fine\n(00.2) Error (criu/x.c:1): no such thing\n")
    program(tmp_path, "08 01 10 00 38 10")  # type DUMP, no success, errno 16
    session = service.start(str(log))
    with pytest.raises(Error) as caught:
        session.request(rpc.DUMP, opts={"images_dir_fd": 0})
    session.finish()
    assert caught.value.message == f"criu failed: type DUMP errno 16, log file: {log}"
    assert "no such thing" in caught.value.hint and caught.value.errno == 16


def test_a_notification_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DIRECTORIES", (str(tmp_path),))
    # NOTIFY "a" of pid 5; then, after an answer, DUMP with success.
    program(tmp_path, "08 06 10 01 2a 05 0a 01 61 10 05", "08 01 10 01")
    session = service.start()
    seen: list[tuple[str, int, list[int]]] = []
    answer = session.request(rpc.DUMP, lambda *news: seen.append(news))
    session.finish()
    assert seen == [("a", 5, [])] and (answer["type"], answer["success"]) == (rpc.DUMP, True)


def test_bind_mounts_and_devices_have_names() -> None:
    config = {
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/data/", "type": "bind", "source": "/srv/data"},
            {"destination": "/own", "options": ["rbind", "ro"], "source": "own"},
            {"destination": "/own", "options": ["bind", "remount"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"},
        ],
        "linux": {"devices": [{"path": "/dev/fuse"}], "maskedPaths": ["/proc/kcore"]},
    }
    cgroups = {"cpu": "/sys/fs/cgroup/cpu,cpuacct/x", "memory": "/sys/fs/cgroup/memory/x"}
    host = Host(cgroup_mounts={"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"})
    found = {entry["key"]: entry["val"] for entry in external.restore_mounts(spec(config), host, cgroups, "/s")}
    assert found["/data"] == "/srv/data" and found["/own"] == "/b/own"
    assert found["/dev/null"] == "/dev/null" and found["/dev/fuse"] == "/dev/fuse"
    assert found["/sys/fs/cgroup/cpu,cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct/x"


class Seen(external.Mounts):
    """The mounts of a process: place -> mount point, and the file that is there."""

    def __init__(self, places: dict[str, tuple[str, Path]]) -> None:
        self.places = places
        self.points, self.cgroups = {}, []

    def found(self, place: str) -> Any:
        point, path = self.places.get(place, ("", None))
        return point, os.stat(path) if path else None

    def close(self) -> None:
        pass


def dumped(monkeypatch: pytest.MonkeyPatch, state: Path, config: Any, **places: tuple[str, Path]) -> dict[str, str]:
    """What CRIU is told of a process that finds these files below /etc: mount point -> name."""
    seen = Seen({f"/etc/{name.replace('_', '.')}": found for name, found in places.items()})
    monkeypatch.setattr(external, "Mounts", lambda pid: seen)
    fd = os.open(state, os.O_RDONLY)
    try:
        return {entry["key"]: entry["val"] for entry in external.dump_mounts(spec(config), 1, fd)}
    finally:
        os.close(fd)


def test_files_of_plugins_have_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of the state directory that are mounted, wherever a link of the image has led to."""
    for name in ("resolv.conf", "hosts", "hostname", "state.json"):
        (tmp_path / name).write_text("")
    (other := tmp_path / "other").write_text("")
    at = {"hosts": ("/etc/hosts", tmp_path / "hosts"), "resolv_conf": ("/run/resolv.conf", tmp_path / "resolv.conf")}
    assert dumped(monkeypatch, tmp_path, {}, **at, hostname=("/", other)) == {
        "/etc/hosts": "/etc/hosts",
        "/run/resolv.conf": "/etc/resolv.conf",
    }
    (tmp_path / "hosts").unlink()  # of a container that no plugin connects
    mounts = {"mounts": [{"destination": "/etc/hosts", "type": "bind", "source": str(other)}]}
    assert dumped(monkeypatch, tmp_path, mounts, hosts=("/etc/hosts", other)) == {"/etc/hosts": "/etc/hosts"}


def test_files_of_plugins_are_found_again(tmp_path: Path) -> None:
    """In the new state directory, if the stages have made them there; a mount of the new configuration counts more."""

    def found(config: Any) -> dict[str, str]:
        entries = external.restore_mounts(spec(config), Host(), {}, str(tmp_path))
        return {entry["key"]: entry["val"] for entry in entries if entry["key"].startswith("/etc/")}

    assert found({}) == {}
    (tmp_path / "hosts").write_text("")
    (tmp_path / "resolv.conf").write_text("")
    mounts = [{"destination": "/etc/hosts", "type": "bind", "source": "/srv/hosts"}]
    assert found({"mounts": mounts}) == {"/etc/hosts": "/srv/hosts", "/etc/resolv.conf": f"{tmp_path}/resolv.conf"}


def test_namespaces_that_were_joined() -> None:
    own = "/proc/self/ns"
    linux = {
        "namespaces": [
            {"type": "pid"},
            {"type": "network", "path": f"{own}/net"},
            {"type": "ipc", "path": f"{own}/ipc"},
        ]
    }
    inherited, joined = external.restore_namespaces(spec({"linux": linux}), 31701)
    assert inherited == [("extRootNetNS", f"{own}/net")]
    assert joined == [{"ns": "ipc", "ns_file": f"{own}/ipc"}]
    inode = os.stat(f"{own}/net").st_ino
    assert external.dump_namespaces(spec({"linux": linux}), os.getpid(), 31701) == [f"net[{inode}]:extRootNetNS"]


@pytest.mark.parametrize(
    ("kind", "path", "version", "message"),
    [
        ("network", "/nosuch", 31701, "Requested network namespace /nosuch does not exist"),
        ("pid", "/proc/self/ns/pid", 31400, "criu 3.15 or newer is needed"),
        ("cgroup", "/proc/self/ns/cgroup", 31701, "cannot restore into a cgroup namespace"),
    ],
)
def test_namespaces_that_cannot_be(kind: str, path: str, version: int, message: str) -> None:
    with pytest.raises(Error, match=message):
        external.restore_namespaces(spec({"linux": {"namespaces": [{"type": kind, "path": path}]}}), version)


def test_standard_streams() -> None:
    names = ["/dev/null", "pipe:[12]", "file[1e:c]"]
    assert external.inherited(names) == [{"key": "pipe:[12]", "fd": 1}, {"key": "file[1e:c]", "fd": 2}]


@pytest.mark.parametrize("text", ["{", '"x"', "[1]", "null"])
def test_descriptors_json_from_elsewhere(text: str, tmp_path: Path) -> None:
    (tmp_path / "descriptors.json").write_text(text)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(Error, match=r"invalid descriptors\.json"):
            external.read_descriptors(fd)
    finally:
        os.close(fd)


def test_directories(tmp_path: Path) -> None:
    with pytest.raises(Error, match=f"open {tmp_path}/a/b: no such file or directory"):
        Directories(CriuOptions(image_path=f"{tmp_path}/a/b"), "restore.log", create=False)
    made = Directories(CriuOptions(image_path=f"{tmp_path}/a/b", work_path=f"{tmp_path}/w"), "dump.log", create=True)
    made.close()
    assert (tmp_path / "a/b").is_dir() and made.log == f"{tmp_path}/w/dump.log"


def test_options(tmp_path: Path) -> None:
    directories = Directories(CriuOptions(image_path=str(tmp_path)), "dump.log", create=True)
    options: dict[str, Any] = {
        "tcp_established": True,
        "manage_cgroups_mode": "strict",
        "empty_ns": ["network"],
        "network_lock": "skip",
    }
    wanted = request.common(CriuOptions(**options), directories, 31701)
    directories.close()
    assert wanted["tcp_established"] and "shell_job" not in wanted
    assert (wanted["manage_cgroups_mode"], wanted["network_lock"], wanted["empty_ns"]) == (5, 3, 0x40000000)
    with pytest.raises(Error, match="namespace pid is not supported"):
        request.common(CriuOptions(empty_ns=["pid"]), directories, 31701)
    with pytest.raises(Error, match=r"--network-lock: criu 3\.17 or newer"):
        request.common(CriuOptions(network_lock="nftables"), directories, 31600)


def test_page_server() -> None:
    assert checkpoint._page_server("10.0.0.1:27") == {"address": "10.0.0.1", "port": 27}
    assert checkpoint._page_server("[::1]:27") == {"address": "::1", "port": 27}
    for text in ("x", ":1", "host:", "host:0", "host:65536", "host:1x"):
        with pytest.raises(Error, match="Use --page-server ADDRESS:PORT"):
            checkpoint._page_server(text)


def test_parent_path(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "file").touch()
    images = f"{tmp_path}/images"
    os.mkdir(images)
    assert checkpoint._parent(images, "../before") == "../before"
    for parent, message in (
        ("/before", "--parent-path must be relative"),
        ("../nosuch", "invalid --parent-path: stat .*: no such file or directory"),
        ("../file", "invalid --parent-path: stat .*: not a directory"),
    ):
        with pytest.raises(Error, match=message):
            checkpoint._parent(images, parent)


def test_restore_passes_on_what_stages_warn_of(tmp_path: Path) -> None:
    class Warns(Stage):
        def plan_restore(self, spec: Spec, host: Host) -> list[Step]:
            return [PlanWarning(message="odd", where="hostname")]

    restoration = object.__new__(Restoration)
    restoration._version, restoration._path, restoration._place = 31700, "/usr/sbin/criu", f"{tmp_path}/web"
    restoration._directories = object.__new__(Directories)
    restoration._directories.images = restoration._directories.work = str(tmp_path)
    plan = restoration._plan([Warns()], Spec({}, "web", str(tmp_path)), Host())
    assert [warning.describe() for warning in plan.warnings] == ["hostname: odd"]


def test_a_stream_that_the_shell_has_redirected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is among the process's other descriptors meanwhile."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    script = f"exec 2>{outside} >{outside}.1 5>&1 >{inside}; echo; read x"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as child:
        eventually(lambda: inside.exists() and inside.stat().st_size, 20)
        real = external.mount_id
        monkeypatch.setattr(external, "mount_id", lambda pid, fd: real(pid, fd) if fd == 1 else -7)
        names, files = external.descriptors(child.pid)
        child.communicate(b"\n")
    assert names[1] == f"file[-7:{(tmp_path / 'outside.1').stat().st_ino:x}]"
    assert names[2] == f"file[-7:{outside.stat().st_ino:x}]"
    assert set(files) == {names[1], names[2]}
