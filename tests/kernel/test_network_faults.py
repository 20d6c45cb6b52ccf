"""Every step of the plugin network fails in turn, by an error and by kill -9, and nothing is left behind."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import network
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.network import Make, Net
from tests.support.timing import seconds

pytestmark = needs("program:ip", "program:nsenter", "program:nft")
make = network.make  # the fixtures

PUBLISHED = ["--publish", "8080:80", "--network", "default", "--network", "db"]


class Faults:
    """A bundle with NAT, and the plugin of tests/plugins/faults, which stops or fails where it is told to."""

    def __init__(self, net: Net, bundle: Bundle) -> None:
        self.net = net
        self.bundle = bundle
        net.configure(nat=True, subnets=["10.207.0.0/16"], networks={"db": {"subnets": ["10.9.0.0/16"]}})

    def steps(self) -> list[dict[str, Any]]:
        """The plugin's own steps, with their ``index`` in the plan."""
        text = self.net.runtime.call("explain", "--format", "json", *PUBLISHED, self.bundle.path).stdout
        return [dict(step, index=i) for i, step in enumerate(json.loads(text)["steps"]) if step["stage"] == "network"]

    def order(self, step: dict[str, Any], when: str, what: str, path: Path | str = "") -> None:
        self.bundle.set("annotations", {"gosudacon.test.fault": f"{step['index']}:{when}:{what}:{path}"})

    def expect_nothing(self) -> None:
        self.net.expect_nothing()
        assert network.ruleset() == ""
        assert self.net.runtime.status(self.bundle) == "none"


@pytest.fixture
def faults(leftovers: Watch, scratch: Path, make: Make) -> Iterator[Faults]:
    net = Net(scratch, "faults")
    yield Faults(net, make())
    net.runtime.clean()


def test_an_error_is_unwound(faults: Faults) -> None:
    steps = faults.steps()
    assert len(steps) == 14
    for step in steps:
        faults.order(step, "after", "error")
        result = faults.net.runtime.create(faults.bundle, *PUBLISHED, check=False)
        assert result.returncode == 1
        assert "fault injected" in result.stderr
        faults.expect_nothing()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_create_leaves_what_delete_can_undo(faults: Faults, when: str) -> None:
    for step in faults.steps():
        create_and_kill(faults, step, when)
        faults.net.runtime.delete(faults.bundle, "--force")
        faults.expect_nothing()


def test_a_killed_create_does_not_disturb_the_others(faults: Faults, make: Make) -> None:
    other = make()
    faults.net.runtime.create(other)
    for step in faults.steps():
        create_and_kill(faults, step, "after")
        faults.net.runtime.delete(faults.bundle, "--force")
        assert set(faults.net.booked()) == {other.id}
        assert not network.has_rule_for(8080)
    faults.net.runtime.delete(other)
    faults.expect_nothing()


def create_and_kill(faults: Faults, step: dict[str, Any], when: str) -> None:
    """Kill ``create`` as it stands at a step."""
    runtime, bundle = faults.net.runtime, faults.bundle
    path = faults.net.scratch / "fault.sock"
    path.unlink(missing_ok=True)
    faults.order(step, when, "stop", path)
    if bundle.id not in runtime.created:
        runtime.created.append(bundle.id)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(seconds(20))
        command = [*runtime.command, "--root", str(runtime.root), "create", *PUBLISHED]
        command += ["--bundle", str(bundle.path), bundle.id]
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
        try:
            channel, _ = listener.accept()
            with channel:
                channel.settimeout(seconds(20))
                assert channel.recv(1) == b"!"
                process.kill()
        finally:
            process.kill()
            process.wait()
