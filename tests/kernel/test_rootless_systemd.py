"""An ordinary user with delegated cgroups: from a systemd of the user's own, and in a unit that systemd delegates."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.ordinary import NAME, UID
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = [
    needs("root", "busybox", "systemd", "cgroup-v2", "vm", "runtime:gosudacon", "public-interpreter"),
    pytest.mark.vm_systemd,
]

# Each line of its output is what a command said, or the name of a file's controller and what it holds.
SCRIPT = """
exec </dev/null
if [ "{driver}" = --systemd-cgroup ]; then
    own={manager}
else  # containers are to be beside the caller, who must not be where they are delegated
    own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $own/caller; echo $$ >$own/caller/cgroup.procs
fi
set -e
{runtime} {driver} run --detach c >{bundle}/out 2>&1
{runtime} exec c id -u
{runtime} ps --format json c | tr -d 0-9
{runtime} update --pids-limit 55 c
{runtime} pause c
{runtime} state c | grep '"status"'
{runtime} resume c
{runtime} events --stats c | grep -c '"pids":{{"current":1,"limit":55}}'
find $own -name pids.max -path '*[-/]c[./]*' -exec cat {{}} +
find $own -name memory.max -path '*[-/]c[./]*' -exec cat {{}} +
{runtime} delete --force c
find $own -path '*[-/]c[./]*'
"""
SAID = ["0", "[]", '  "status": "paused",', "1", "55", str(1 << 26)]


@pytest.fixture(scope="module", autouse=True)
def known() -> None:
    """A user whom process 1 knows, of a machine that is thrown away: not in the copy of /etc that the tests have."""
    for name, line in (("passwd", f"{NAME}:x:{UID}:{UID}::/:/bin/sh"), ("group", f"{NAME}:x:{UID}:")):
        with Path("/proc/1/root/etc", name).open("a") as file:
            file.write(f"{line}\n")


@pytest.fixture
def session(scratch: Path) -> Path:
    path = scratch / "session"
    path.mkdir(0o700)
    os.chown(path, UID, UID)
    return path


@pytest.fixture
def own(make_bundle: Callable[..., Bundle], runtime: Runtime) -> Bundle:
    """A bundle of the user's."""
    bundle = make_bundle("exec sleep 1000")
    (bundle.path / "config.json").unlink(missing_ok=True)
    subprocess.run([*runtime.command, "spec", "--rootless"], cwd=bundle.path, check=True)
    config = json.loads((bundle.path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["sleep", "1000"]}
    for key in ("uidMappings", "gidMappings"):
        config["linux"][key][0]["hostID"] = UID
    config["linux"]["resources"] = {"pids": {"limit": 77}, "memory": {"limit": 1 << 26}}
    (bundle.path / "config.json").write_text(json.dumps(config))
    subprocess.run(["chown", "-hR", f"{UID}:{UID}", bundle.path], check=True)
    return bundle


@pytest.fixture
def manager(session: Path, token: str) -> Iterator[str]:
    """The cgroup of a systemd of the user's."""
    unit = f"{token}-user.service"
    words = [f"--unit={unit}", "--property=Type=notify", "--property=Delegate=yes", "/lib/systemd/systemd", "--user"]
    subprocess.run(["systemd-run", "--quiet", *_as_user(session), *words], check=True)
    yield f"/sys/fs/cgroup/system.slice/{unit}"
    subprocess.run(["systemctl", "stop", unit], check=True)
    eventually(lambda: not Path(f"/sys/fs/cgroup/system.slice/{unit}").exists(), 20, f"the end of {unit}")


def _as_user(session: Path) -> list[str]:
    return [f"--property=User={UID}", f"--setenv=XDG_RUNTIME_DIR={session}", f"--setenv=HOME={session}"]


def script(runtime: Runtime, bundle: Bundle, driver: str, manager: str = "") -> str:
    return SCRIPT.format(
        runtime=shlex.join(runtime.command), driver=driver, manager=manager, bundle=shlex.quote(str(bundle.path))
    )


def lines(*words: str, bundle: Bundle) -> list[str]:
    result = subprocess.run([*words], capture_output=True, text=True, check=False)
    said = (bundle.path / "out").read_text() if (bundle.path / "out").exists() else ""
    assert result.returncode == 0, result.stdout + result.stderr + said
    return result.stdout.splitlines()


def test_a_unit_that_is_delegated(runtime: Runtime, own: Bundle, session: Path) -> None:
    text = script(runtime, own, "")
    options = ["--quiet", "--wait", "--pipe", *_as_user(session), "--property=Delegate=yes"]
    options += [f"--working-directory={own.path}"]
    (own.path / "script").write_text(text)
    assert lines("systemd-run", *options, "sh", f"{own.path}/script", bundle=own) == SAID


def test_the_users_systemd(runtime: Runtime, own: Bundle, session: Path, manager: str) -> None:
    text = script(runtime, own, "--systemd-cgroup", manager)
    (own.path / "script").write_text(text)
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", f"XDG_RUNTIME_DIR={session}"]
    options = ["--user", "--quiet", "--wait", "--pipe", f"--working-directory={own.path}"]
    assert lines(*become, "systemd-run", *options, "sh", f"{own.path}/script", bundle=own) == SAID
