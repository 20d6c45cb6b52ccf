"""kill -9 of the runtime at every step and of plug-ins in the middle of ADD and DEL: then `delete` leaves nothing."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import cni
from tests.support.bundle import Bundle
from tests.support.cni import PROGRAMS, Site
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.timing import seconds

pytestmark = [needs("program:ip", "program:nsenter", "program:iptables"), needs(f"program:{PROGRAMS}/bridge")]
Make = Callable[..., Bundle]
PORT = ("--publish", "8080:80")
STEPS = 8  # of the stage, with those for the files about names


class Faults:
    """A container of the full chain, and the plugin of tests/plugins/faults, which stops or fails where told to."""

    def __init__(self, site: Site, bundle: Bundle) -> None:
        self.site = site
        self.bundle = bundle
        site.config()

    def steps(self) -> list[int]:
        """The index in the plan of each of the stage's own steps."""
        text = self.site.runtime.call("explain", "--format", "json", *PORT, self.bundle.path).stdout
        return [index for index, step in enumerate(json.loads(text)["steps"]) if step["stage"] == "cni"]

    def order(self, index: int, when: str, what: str, path: Path | str = "") -> None:
        self.bundle.set("annotations", {"gosudacon.test.fault": f"{index}:{when}:{what}:{path}"})

    def create_and_kill(self, index: int, when: str) -> None:
        """Kill ``create`` as it stands at a step."""
        path = self.site.scratch / "fault.sock"
        path.unlink(missing_ok=True)
        self.order(index, when, "stop", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(seconds(20))
            process = self.begin("create", "--bundle", str(self.bundle.path), *PORT)
            try:
                channel, _ = listener.accept()
                with channel:
                    channel.settimeout(seconds(20))
                    assert channel.recv(1) == b"!"
                    process.kill()
            finally:
                process.kill()
                process.wait()

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """A command of the runtime about the container."""
        runtime, null = self.site.runtime, subprocess.DEVNULL
        if self.bundle.id not in runtime.created:
            runtime.created.append(self.bundle.id)
        command = [*runtime.command, "--root", str(runtime.root), *words, self.bundle.id]
        return subprocess.Popen(command, stdin=null, stdout=null, stderr=null)

    def end(self) -> None:
        """The wrappers gone, ``delete --force`` leaves nothing."""
        self.site.unwrap()
        self.site.runtime.delete(self.bundle, "--force")
        self.site.expect_nothing()


@pytest.fixture
def faults(leftovers: Watch, scratch: Path, make_bundle: Make) -> Iterator[Faults]:
    with cni.sites(scratch, "faults") as site:
        yield Faults(site, cni.furnished(make_bundle()))


def test_an_error_is_unwound(faults: Faults) -> None:
    assert len(faults.steps()) == STEPS
    for index in faults.steps():
        faults.order(index, "after", "error")
        result = faults.site.runtime.create(faults.bundle, *PORT, check=False)
        assert result.returncode == 1
        assert "fault injected" in faults.bundle.stderr
        faults.site.expect_nothing()


def test_a_killed_create_leaves_what_delete_can_undo(faults: Faults) -> None:
    first, *others = faults.steps()
    faults.create_and_kill(first, "before")
    faults.end()
    for index in (first, *others):
        faults.create_and_kill(index, "after")
        faults.end()


#: A plug-in, and seconds into it.
MOMENTS = [("bridge", 0.01), ("bridge", 0.03), ("portmap", 0.01), ("portmap", 0.05), ("firewall", 0.02)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["$$", "$PPID", "-$$"])
def test_a_kill_in_the_middle_of_add(faults: Faults, victim: str) -> None:
    """Of the plug-in, of the runtime, of all that the plug-in has started."""
    for kind, pause in MOMENTS:
        faults.site.wrap(kind, f"[ $CNI_COMMAND = DEL ] || {{ (sleep {pause}; kill -9 {victim}) & }}")
        process = faults.begin("create", "--bundle", str(faults.bundle.path), *PORT)
        process.wait(seconds(30))
        faults.end()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["$$", "$PPID"])
def test_a_kill_in_the_middle_of_del(faults: Faults, victim: str) -> None:
    for kind, pause in MOMENTS:
        faults.site.runtime.create(faults.bundle, *PORT)
        faults.site.wrap(kind, f"[ $CNI_COMMAND = ADD ] || {{ (sleep {pause}; kill -9 {victim}) & }}")
        faults.begin("delete", "--force").wait(seconds(30))
        if (faults.site.runtime.root / faults.bundle.id).exists():
            faults.end()
        faults.site.unwrap()
        faults.site.expect_nothing()


def test_a_failing_add_is_undone_at_once(faults: Faults) -> None:
    """Each plug-in of the chain fails after it has done its work."""
    for kind in ("bridge", "portmap", "firewall"):
        answer = 'echo \'{"code": 999, "msg": "so sorry"}\'; exit 1'
        text = f"[ $CNI_COMMAND = DEL ] || {{ {PROGRAMS}/{kind} >/dev/null; {answer}; }}"
        faults.site.wrap(kind, text)
        result = faults.site.runtime.create(faults.bundle, *PORT, check=False)
        assert result.returncode == 1
        assert f"CNI ADD tnet/{kind}: so sorry (code 999)" in faults.bundle.stderr
        faults.site.expect_nothing()
        faults.site.unwrap()


def test_a_plugin_that_hangs(faults: Faults) -> None:
    faults.site.configure(timeout=5)
    faults.site.wrap("portmap", "[ $CNI_COMMAND = DEL ] || sleep 1000")
    result = faults.site.runtime.create(faults.bundle, *PORT, check=False)
    assert result.returncode == 1
    assert "CNI ADD tnet/portmap: did not end within 5 seconds and was killed" in faults.bundle.stderr
    faults.site.expect_nothing()
