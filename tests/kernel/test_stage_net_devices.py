"""Stage net-devices: the host's network devices in the container, and back on the host when it is deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.network import addresses, ip, links
from tests.support.runtime import Runtime

pytestmark = [needs("program:ip", "program:nsenter", "runtime:gosudacon"), pytest.mark.vm]
Make = Callable[..., Bundle]

OWN = ["10.99.0.1/24", "fd99::1/64"]


@pytest.fixture
def device(leftovers: Watch) -> Iterator[str]:
    """A link of the run's own network namespace, which is up and has two addresses."""
    ip("link", "add", "gsd0", "type", "veth", "peer", "name", "gsd1")
    ip("link", "set", "gsd1", "up")
    for address in OWN:
        ip("addr", "add", address, "dev", "gsd0", *(["nodad"] if ":" in address else []))
    ip("link", "set", "gsd0", "mtu", 1400, "up")
    yield "gsd0"
    ip("link", "del", "gsd1")  # and the other end with it, whatever it is called
    for name in links().keys() - {"lo"}:
        ip("link", "del", name)


def on_host(name: str) -> list[str]:
    return [f"{a['local']}/{a['prefixlen']}" for a in links()[name]["addr_info"] if a["scope"] == "global"]


def inside(pid: int, name: str) -> dict[str, Any]:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "link", "show", "dev", name]
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    )
    return found[0]


@pytest.mark.parametrize("into", ["", "net0"])
def test_there_and_back(runtime: Runtime, make_bundle: Make, device: str, into: str) -> None:
    bundle = make_bundle().set("linux.netDevices", {device: {"name": into} if into else {}})
    pid = runtime.boot(bundle)
    assert device not in links()
    assert addresses(pid, into or device) == OWN
    assert "UP" in inside(pid, into or device)["flags"]
    assert inside(pid, into or device)["mtu"] == 1400
    runtime.delete(bundle, "--force")
    assert sorted(on_host(device)) == OWN
    assert "UP" in links()[device]["flags"]


def test_outlives_the_container(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """A device that the kernel would destroy with its namespace comes back after the container's own end."""
    bundle = make_bundle("exit 0").set("linux.netDevices", {device: {"name": "net0"}})
    runtime.create(bundle)
    runtime.start(bundle)
    runtime.until(bundle, "stopped")
    assert device not in links()
    runtime.delete(bundle)
    assert sorted(on_host(device)) == OWN


def test_stays_down(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """One that was down on the host is up in the container, and down again."""
    ip("link", "set", device, "down")
    bundle = make_bundle().set("linux.netDevices", {device: {}})
    pid = runtime.boot(bundle)
    assert "UP" in inside(pid, device)["flags"]
    runtime.delete(bundle, "--force")
    assert "UP" not in links()[device]["flags"]


def test_name_taken_meanwhile(runtime: Runtime, make_bundle: Make, device: str) -> None:
    bundle = make_bundle().set("linux.netDevices", {device: {}})
    runtime.boot(bundle)
    ip("link", "add", device, "type", "bridge")
    runtime.delete(bundle, "--force")
    assert sorted(on_host("dev0")) == OWN


def test_renamed_by_the_container(runtime: Runtime, make_bundle: Make, device: str) -> None:
    bundle = make_bundle().set("linux.netDevices", {device: {"name": "net0"}})
    pid = runtime.boot(bundle)
    net = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link"]
    subprocess.run([*net, "set", "net0", "down"], check=True)
    subprocess.run([*net, "set", "net0", "name", "other"], check=True)
    subprocess.run([*net, "add", "net0", "type", "bridge"], check=True)
    runtime.delete(bundle, "--force")
    assert set(links()) == {"lo", device, "gsd1"}
    assert sorted(on_host(device)) == OWN


def test_joined_namespace(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """A namespace that others made, in which the device's number is taken."""
    number = links()[device]["ifindex"]
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        path = f"/proc/{holder.pid}/ns/net"
        net = ["nsenter", f"--net={path}", "ip", "link"]
        subprocess.run([*net, "add", "taken", "index", str(number), "type", "bridge"], check=True)
        bundle = make_bundle().add_namespace("network", path).set("linux.netDevices", {device: {"name": "net0"}})
        pid = runtime.boot(bundle)
        assert addresses(pid, "net0") == OWN
        runtime.delete(bundle, "--force")
        assert sorted(on_host(device)) == OWN
        assert "taken" in subprocess.run([*net], check=True, capture_output=True, text=True).stdout
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_hooks_find_it(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """A createRuntime hook that fails finds the device gone; the create that it fails gives the device back."""
    words = {"path": "/bin/sh", "args": ["sh", "-c", f"ip link show {device} && exit 0; exit 3"]}
    bundle = make_bundle().set("linux.netDevices", {device: {}}).set("hooks.createRuntime", [words])
    done = runtime.create(bundle, check=False)
    assert "exit status 3" in done.stderr
    assert sorted(on_host(device)) == OWN


def test_no_such_device(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """What was moved before comes back."""
    bundle = make_bundle().set("linux.netDevices", {device: {}, "gone": {}})
    done = runtime.create(bundle, check=False)
    assert "link not found for interface gone" in done.stderr
    assert sorted(on_host(device)) == OWN


def test_unreadable_state(runtime: Runtime, make_bundle: Make, device: str) -> None:
    bundle = make_bundle().set("linux.netDevices", {device: {"name": "net0"}})
    runtime.boot(bundle)
    (runtime.root / bundle.id / "state.json").write_text("")
    runtime.delete(bundle, "--force")
    assert sorted(on_host(device)) == OWN


def test_runtime_killed(runtime: Runtime, make_bundle: Make, device: str) -> None:
    """`delete --force` gives back what a create that was killed has moved."""
    words = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}
    bundle = make_bundle().set("linux.netDevices", {device: {"name": "net0"}}).set("hooks.prestart", [words])
    runtime.create(bundle, check=False)
    assert device not in links()
    runtime.delete(bundle, "--force")
    assert sorted(on_host(device)) == OWN
