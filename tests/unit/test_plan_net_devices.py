"""What the stage net-devices plans and refuses."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec
from gosudacon.stages.net_devices import NetDevices

NETWORK = [{"type": "network"}]


def plan(devices: Any, namespaces: Any = NETWORK, host: Host | None = None) -> list[str]:
    spec = Spec({"linux": {"netDevices": devices, "namespaces": namespaces}}, "box", "/b")
    return [step.describe() for step in NetDevices().plan(spec, host or Host())]


def test_in_words() -> None:
    assert plan({"eth1": {"name": "net0"}, "eth2": {}}) == [
        "bind the network namespace on netns in the state directory",
        "move network device eth1 into the container as net0, with its addresses, and bring it up",
        "move network device eth2 into the container, with its addresses, and bring it up",
    ]


@pytest.mark.parametrize("namespaces", [[], [{"type": "pid"}]])
def test_needs_a_namespace(namespaces: Any) -> None:
    with pytest.raises(ConfigError, match="without a NET namespace"):
        plan({"eth1": {}}, namespaces)


@pytest.mark.parametrize("host", [Host(euid=1000), Host(initial_userns=False)])
def test_not_rootless(host: Host) -> None:
    with pytest.raises(ConfigError, match="not supported for rootless containers"):
        plan({"eth1": {}}, host=host)


def test_names_differ() -> None:
    with pytest.raises(ConfigError, match="cannot both be net0") as caught:
        plan({"eth1": {"name": "net0"}, "net0": {}})
    assert caught.value.where == "linux.netDevices.net0"
