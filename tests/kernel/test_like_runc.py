"""What hooks, processes and callers see, beside runc: both run, and both are compared."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import busybox
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

pytestmark = needs("program:runc")

Bundles = Callable[..., Bundle]
ON_HOST = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
IN_NAMESPACE = ("createContainer", "startContainer")
CALLER = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OF_THE_CALLER": "1"}
PR_CAPBSET_DROP = 24
DAC_OVERRIDE, DAC_READ_SEARCH, WAKE_ALARM = 1, 2, 35


def hooks(bundle: Bundle, out: Path, kinds: tuple[str, ...], **more: Any) -> Bundle:
    """Hooks that write their environment and their state to files: ``KIND.env`` and ``KIND.state``."""
    script = 'cat /proc/self/environ > "$0.env"; cat > "$0.state"'
    entries = {}
    for kind in kinds:
        inside = kind == "startContainer"
        path = "/bin/busybox" if inside else str(busybox.static_busybox())
        target = f"/out/{kind}" if inside else f"{out}/{kind}"
        entries[kind] = [{"path": path, "args": ["sh", "-c", script, target], **more}]
    out.mkdir(exist_ok=True)
    bundle.add_mount("/out", "bind", str(out), "bind")
    return bundle.update({"hooks": entries})


def seen(out: Path, kind: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Environment, without what the shell itself adds, and state."""
    text = (out / f"{kind}.env").read_text()
    pairs = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    for name in ("SHLVL", "PWD", "_"):
        pairs.pop(name, None)
    return pairs, json.loads((out / f"{kind}.state").read_text())


def both(
    runtime: Runtime, runc: Runtime, make_bundle: Bundles, change: Callable[[Bundle], object], **popen: Any
) -> tuple[tuple[Bundle, Completed], tuple[Bundle, Completed]]:
    """A bundle of its own for each, changed alike, and what came of it."""
    results = []
    for each in (runtime, runc):
        bundle = make_bundle("id -u; pwd; exit 3")
        change(bundle)
        results.append((bundle, each.run(bundle, **popen)))
    return results[0], results[1]


# Hooks.


def test_environment_without_env(runtime: Runtime, runc: Runtime, make_bundle: Bundles) -> None:
    """The caller's, and in startContainer the process's."""
    ours, theirs = both(
        runtime,
        runc,
        make_bundle,
        lambda bundle: hooks(bundle, bundle.path / "out", (*ON_HOST, "startContainer")),
        env=CALLER,
    )
    for kind in (*ON_HOST, "startContainer"):
        mine, reference = (seen(bundle.path / "out", kind)[0] for bundle, _ in (ours, theirs))
        if kind != "createContainer":
            assert mine == reference, kind
        # runc 1.1 gives createContainer hooks, which run on the host's files, the variables of the image.
        assert mine == (CALLER if kind in ON_HOST else {**PROCESS, "HOME": "/root"}), kind


PROCESS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "xterm"}


@pytest.mark.parametrize("env", [[], ["A=1", "PATH=/bin"]])
def test_environment_that_is_listed(runtime: Runtime, runc: Runtime, make_bundle: Bundles, env: list[str]) -> None:
    kinds = (*ON_HOST, "startContainer")
    ours, theirs = both(
        runtime, runc, make_bundle, lambda bundle: hooks(bundle, bundle.path / "out", kinds, env=env), env=CALLER
    )
    for kind in kinds:
        mine, reference = (seen(bundle.path / "out", kind)[0] for bundle, _ in (ours, theirs))
        assert {**mine, "PATH": ""} == {**reference, "PATH": ""}, kind
        assert mine.get("PATH", "/bin") == reference.get("PATH", "/bin"), kind


@pytest.mark.parametrize("shared", [False, True], ids=["own", "host's"])
def test_pid_of_the_hooks_namespace(runtime: Runtime, runc: Runtime, make_bundle: Bundles, shared: bool) -> None:
    def change(bundle: Bundle) -> None:
        hooks(bundle, bundle.path / "out", ("createRuntime", *IN_NAMESPACE, "poststop"))
        if shared:
            bundle.drop_namespace("pid")

    for bundle, _ in both(runtime, runc, make_bundle, change):
        states = {kind: seen(bundle.path / "out", kind)[1] for kind in ("createRuntime", *IN_NAMESPACE, "poststop")}
        host = states["createRuntime"]["pid"]
        assert host > 1
        assert [states[kind]["pid"] for kind in IN_NAMESPACE] == [host if shared else 1] * 2
        assert "pid" not in states["poststop"]


def test_hooks_of_the_container_as_its_user(runtime: Runtime, runc: Runtime, make_bundle: Bundles) -> None:
    def change(bundle: Bundle) -> None:
        out = bundle.path / "out"
        hooks(bundle, out, ("startContainer",))
        out.chmod(0o777)
        bundle.set("process.user", {"uid": 1000, "gid": 1000}).set("process.env", ["A=of the process", "PATH=/bin"])

    ours, theirs = both(runtime, runc, make_bundle, change)
    mine, reference = (seen(bundle.path / "out", "startContainer")[0] for bundle, _ in (ours, theirs))
    assert mine == reference == {"A": "of the process", "PATH": "/bin", "HOME": "/home/user"}
    assert (ours[0].path / "out/startContainer.env").stat().st_uid == 1000


def test_output_of_hooks(runtime: Runtime, make_bundle: Bundles) -> None:
    """Appended to the files of the annotations; not shown in the message of a failure."""
    bundle = make_bundle("exit 3")
    out, err = bundle.path / "hooks.out", bundle.path / "hooks.err"
    entries = {}
    for kind in (*ON_HOST, "startContainer"):
        path = "/bin/busybox" if kind == "startContainer" else str(busybox.static_busybox())
        entries[kind] = [{"path": path, "args": ["sh", "-c", f"echo {kind}; echo {kind} >&2"]}]
    annotations = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    out.write_text("before\n")
    runtime.run(bundle.update({"hooks": entries, "annotations": annotations}))
    order = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    assert out.read_text().split() == ["before", *order]
    assert err.read_text().split() == order
    bundle.update({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo why; exit 4"]}]}})
    result = runtime.run(bundle)
    assert "error running createRuntime hook #0: exit status 4, stdout: , stderr: " in result.stderr
    assert out.read_text().split()[-3:] == ["prestart", "why", "poststop"]


def test_output_of_hooks_into_a_fifo_without_a_reader(runtime: Runtime, bundle: Bundle) -> None:
    fifo = bundle.path / "fifo"
    os.mkfifo(fifo)
    entries = {"prestart": [{"path": "/bin/true"}]}
    result = runtime.run(bundle.update({"hooks": entries, "annotations": {"run.oci.hooks.stdout": str(fifo)}}))
    assert result.returncode == 1 and str(fifo) in result.stderr


# The working directory, and whom it admits.


def without(*capabilities: int) -> Callable[[], None]:
    """For Popen: root without these capabilities, to whom files of others are closed, as on a network filesystem."""
    libc = ctypes.CDLL(None)

    def drop() -> None:
        for number in capabilities:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)

    return drop


CLOSED = {"root's": (0, 0o700), "another's": (4321, 0o700), "the user's": (1000, 0o700), "nobody's": (0, 0o000)}


@pytest.mark.parametrize("squashed", [False, True], ids=["root", "root without rights"])
@pytest.mark.parametrize("whose", CLOSED)
def test_working_directory(runtime: Runtime, runc: Runtime, make_bundle: Bundles, whose: str, squashed: bool) -> None:
    """It is entered with the runtime's rights, and if these do not reach, with the user's."""

    def change(bundle: Bundle) -> None:
        home = bundle.rootfs / "home/closed"
        home.mkdir(parents=True)
        os.chown(home, CLOSED[whose][0], -1)
        home.chmod(CLOSED[whose][1])
        bundle.set("process.user", {"uid": 1000, "gid": 1000}).set("process.cwd", "/home/closed")
        bundle.set("process.args", ["/bin/sh", "-c", "id -u; exit 3"])
        for kind in bundle.config["process"]["capabilities"]:
            bundle.config["process"]["capabilities"][kind] = []
        bundle.write()

    more: Any = {"preexec_fn": without(DAC_OVERRIDE, DAC_READ_SEARCH)} if squashed else {}
    ours, theirs = both(runtime, runc, make_bundle, change, **more)
    assert ours[1].returncode == theirs[1].returncode
    assert ours[1].returncode == (1 if squashed and whose in ("another's", "nobody's") else 3), ours[1].stderr
    if ours[1].returncode == 1:
        assert "chdir" in ours[1].stderr and "permission denied" in ours[1].stderr


@pytest.mark.parametrize("squashed", [False, True], ids=["root", "root without rights"])
@pytest.mark.parametrize("whose", CLOSED)
def test_working_directory_of_exec(
    runtime: Runtime, runc: Runtime, make_bundle: Bundles, whose: str, squashed: bool
) -> None:
    more: Any = {"preexec_fn": without(DAC_OVERRIDE, DAC_READ_SEARCH)} if squashed else {}
    statuses = []
    for each in (runtime, runc):
        bundle = make_bundle()
        home = bundle.rootfs / "home/closed"
        home.mkdir(parents=True)
        os.chown(home, CLOSED[whose][0], -1)
        home.chmod(CLOSED[whose][1])
        each.boot(bundle)
        words = ["--user", "1000:1000", "--cwd", "/home/closed", bundle.id, "/bin/sh", "-c", "exit 3"]
        statuses.append(each.call("exec", *words, check=False, **more).returncode)
    assert statuses == [255 if squashed and whose in ("another's", "nobody's") else 3] * 2


# Warnings.


def test_capabilities_that_cannot_be_granted(runtime: Runtime, bundle: Bundle) -> None:
    """They are named, where the process starts all the same."""
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind].append("CAP_WAKE_ALARM")
    bundle.write()
    result = runtime.run(bundle.set("process.args", ["true"]), preexec_fn=without(WAKE_ALARM))
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert "level=warning" in line and "CAP_WAKE_ALARM" in line and "CAP_KILL" not in line
    runtime.boot(bundle.set("process.args", ["sleep", "1000"]))
    result = runtime.call("exec", bundle.id, "true", preexec_fn=without(WAKE_ALARM))
    assert "level=warning" in result.stderr and "CAP_WAKE_ALARM" in result.stderr


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("verb", ["run", "delete"])
def test_poststop_hooks_that_fail(runtime: Runtime, bundle: Bundle, verb: str, form: str) -> None:
    """One line each, of level warning, in the log or else on standard error."""
    entry = {"path": "/bin/sh", "args": ["sh", "-c", "echo one; echo two >&2; exit 1"]}
    bundle.update({"hooks": {"poststop": [entry, entry]}}).set("process.args", ["true"])
    log = bundle.path / "log"
    for options in ([], ["--log", str(log), "--log-format", form]):
        if verb == "run":
            runtime.created.append(bundle.id)
            result = runtime.call("run", "--bundle", bundle.path, bundle.id, options=options)
        else:
            runtime.create(bundle)
            result = runtime.call("delete", "--force", bundle.id, options=options)
        text = log.read_text() if options else result.stderr
        lines = text.splitlines()
        assert len(lines) == 2 and all("warning" in line and "poststop hook #" in line for line in lines)
        assert (result.stderr == "") == bool(options)
