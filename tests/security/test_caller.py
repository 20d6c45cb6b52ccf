"""What a caller is like must not make a difference to its containers: signals, umask, keyring, terminal, locale."""

from __future__ import annotations

import json
import os
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

Bundles = Callable[..., Bundle]
Caller = Callable[[Runtime, str], None]
Introspect = Callable[..., dict[str, str]]

# Signals.

IGNORE = """
for number in range(1, 65):
    if number not in (9, 19, 32, 33):
        signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
"""
# 32 and 33 are the C library's own, so the kernel is asked: struct kernel_sigaction with SIG_IGN, and a full mask.
IGNORE_ALL = (
    IGNORE
    + """
import ctypes, struct
libc = ctypes.CDLL(None)
rt_sigaction, rt_sigprocmask = (13, 14) if os.uname().machine == "x86_64" else (134, 135)
for number in (32, 33):
    assert libc.syscall(rt_sigaction, number, struct.pack("4Q", 1, 0, 0, 0), None, 8) == 0
assert libc.syscall(rt_sigprocmask, 0, struct.pack("Q", 2**64 - 1), None, 8) == 0
"""
)
SOME = "signal.signal(1, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); signal.signal(17, signal.SIG_IGN)"


@pytest.mark.vm
@pytest.mark.parametrize("code", [SOME, IGNORE, IGNORE_ALL], ids=["some", "all", "even the C library's"])
@pytest.mark.parametrize("verb", ["run", "create"])
def test_signals(
    runtime: Runtime, caller: Caller, bundle: Bundle, introspect: Introspect, code: str, verb: str
) -> None:
    caller(runtime, code + "\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10])")
    found = introspect(runtime, bundle, verb=verb)
    assert [name for name in found if name.startswith("signal/")] == []
    assert found["blocked"] == "0"
    assert {int(found[name], 16) for name in ("SigIgn", "SigBlk", "SigCgt", "SigPnd")} == {0}


def test_signals_of_hooks(runtime: Runtime, caller: Caller, bundle: Bundle) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    for kind in kinds:
        place = "/" if kind == "startContainer" else str(bundle.path)
        script = f"grep -E 'Sig(Ign|Blk)' /proc/self/status >{place}/{kind}; echo pid $$ >>{place}/{kind}"
        bundle.set(f"hooks.{kind}", [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    bundle.set("process.args", ["true"])
    caller(runtime, IGNORE)
    runtime.run(bundle, check=True)
    for kind in kinds:
        lines = (bundle.path / kind if kind != "startContainer" else bundle.rootfs / kind).read_text().split()
        ours = ~(1 << 31 | 1 << 32)  # posix_spawn(3) ignores 32 and 33 in what it starts
        assert (int(lines[1], 16) & ours, int(lines[3], 16) & ours) == (0, 0), kind


# The umask.

TREE = "find /dev /etc /run /made /tmp /new ! -path '/dev/pts/[0-9]*' -exec stat -c '%a %u %n' {} + | sort; umask"


@pytest.mark.vm
def test_the_umask(runtime: Runtime, caller: Caller, make_bundle: Bundles) -> None:
    results = {}
    plain = list(runtime.command)
    for umask in (0o022, 0, 0o777, 0o277):
        bundle = make_bundle(TREE)
        (bundle.rootfs / "run/here").mkdir()
        (bundle.path / "file").touch()
        bundle.set("process.cwd", "/made/by/us")
        bundle.add_mount("/run", "tmpfs", "tmpfs", "tmpcopyup")
        bundle.add_mount("/etc/new/file", "bind", str(bundle.path / "file"), "bind")
        bundle.add_mount("/new/directory", "tmpfs", "tmpfs")
        bundle.set("linux.devices", [{"path": "/dev/own/fuse", "type": "c", "major": 10, "minor": 229}])
        runtime.command = plain
        caller(runtime, f"os.umask({umask})")
        runtime.create(bundle, "--pid-file", bundle.path / "pid")
        state = runtime.root / bundle.id
        modes = {path.name: f"{path.lstat().st_mode:o}" for path in [runtime.root, state, *state.iterdir()]}
        modes["start.sock"] = modes["start.sock"].replace("755", "700")  # no other user can connect(2)
        assert not [mode for mode in modes.values() if int(mode, 8) & 0o077], modes
        pid = int((bundle.path / "pid").read_text())
        runtime.start(bundle)
        assert runtime.wait(pid) == 0
        modes["pid"] = f"{(bundle.path / 'pid').stat().st_mode:o}"
        modes["state"] = modes.pop(bundle.id)
        results[umask] = (modes, bundle.stdout)
        runtime.delete(bundle)
    assert "0022" in results[0][1] and "755 0 /made/by/us" in results[0][1]
    assert "666 0 /dev/null" in results[0][1]
    for umask, result in results.items():
        assert result == results[0o022], oct(umask)


# The session keyring (keyrings(7)).


@pytest.mark.vm
def test_the_session_keyring(runtime: Runtime, make_bundle: Bundles, introspect: Introspect) -> None:
    """A new keyring that only its owner may use, unless the caller wants to share."""
    serials = []
    for extra in ((), (), ("--no-new-keyring",)):
        bundle = make_bundle()
        serial, _, description = introspect(runtime, bundle, *extra)["keyring"].partition(" ")
        serials.append(serial)
        assert (description.rpartition(";")[2] == f"_ses.{bundle.id}") == (not extra)
    assert len(set(serials)) == 3


# A terminal that is the caller's (CVE-2016-10124, CVE-2017-5226).


@pytest.mark.parametrize("verb", ["run", "create"])
def test_the_caller_s_terminal(
    runtime: Runtime, caller: Caller, bundle: Bundle, introspect: Introspect, verb: str
) -> None:
    """It may be read from and written to as a standard stream, and not be typed into, or become anyone's /dev/tty."""
    master, slave = os.openpty()
    caller(runtime, f"import fcntl; os.isatty(0) and (os.setsid(), fcntl.ioctl(0, {termios.TIOCSCTTY}, 0))")
    try:
        found = introspect(runtime, bundle, verb=verb, stdin=slave)
        assert os.path.basename(found["fd/0"]).isdigit()  # of the host's devpts, whose path means nothing in there
        assert found["tty"] in ("ENXIO", "ENOENT")
        assert found["tiocsti/0"] in ("EPERM", "EIO")
        os.set_blocking(slave, False)
        with pytest.raises(BlockingIOError):
            os.read(slave, 1)
    finally:
        os.close(master)
        os.close(slave)


# Locale, and names that are not text.


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "C.UTF-8", "nonsense"])
@pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"b\xff\xfe", "日本".encode(), b"line\nfeed"])
def test_paths_of_any_bytes_in_any_locale(runtime: Runtime, make_bundle: Bundles, locale: str, name: bytes) -> None:
    bundle = make_bundle(["/bin/echo", "grüße", "日本"])
    path = os.path.join(os.fsencode(bundle.path), name)
    os.mkdir(path)
    os.rename(bundle.rootfs, os.path.join(path, b"rootfs"))
    os.rename(bundle.config_path, os.path.join(path, b"config.json"))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0"}
    root = os.path.join(path, b"root")
    words = [*map(os.fsencode, runtime.command), b"--root", root, b"--log", os.path.join(path, b"log")]

    def call(*arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
        command = [*words, *(each if isinstance(each, bytes) else each.encode() for each in arguments)]
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)

    assert call("run", "--bundle", path, bundle.id).stdout == "grüße 日本\n".encode()
    with open(os.path.join(path, b"out"), "wb") as output:
        command = [*words, b"create", b"--bundle", path, b"--pid-file", os.path.join(path, b"pid"), bundle.id.encode()]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, check=True, timeout=30)
    state = json.loads(call("state", bundle.id).stdout)
    assert os.fsencode(state["bundle"]) == path
    assert name.decode(errors="surrogateescape") in state["bundle"]
    call("list")
    call("start", bundle.id)
    assert runtime.wait(state["pid"]) == 0
    call("delete", bundle.id)
    assert not os.listdir(root)
    assert Path(os.fsdecode(os.path.join(path, b"out"))).read_bytes() == "grüße 日本\n".encode()


def test_a_script_s_own_locale_is_the_container_s(runtime: Runtime, make_bundle: Bundles) -> None:
    """Nothing of the caller's environment reaches the container."""
    bundle = make_bundle(["/bin/env"])
    bundle.set("process.env", ["PATH=/bin", "A=1", "HOME=/x"])
    result = runtime.run(bundle, env={**os.environ, "EVIL": "1", "LC_ALL": "C"}, check=True)
    assert sorted(result.stdout.split()) == ["A=1", "HOME=/x", "PATH=/bin"]


def test_a_working_directory_that_is_gone(runtime: Runtime, bundle: Bundle, caller: Caller) -> None:
    """The caller's own: the container never gets there, and the runtime need not."""
    bundle.set("process.args", ["pwd"])
    caller(runtime, f"os.mkdir('{bundle.path}/gone'); os.chdir('{bundle.path}/gone'); os.rmdir('{bundle.path}/gone')")
    assert runtime.output(bundle) == "/\n"


def test_limits_on_descriptors(runtime: Runtime, caller: Caller, bundle: Bundle) -> None:
    """With a log, and a limit below where the log's descriptor usually is."""
    bundle.set("process.args", ["true"]).remove("process.rlimits")
    caller(runtime, "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
    runtime.run(bundle, options=["--log", bundle.path / "log"], check=True)
    assert (bundle.path / "log").read_text() == ""
