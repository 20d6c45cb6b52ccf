"""Containers under the plugin network: a runtime that has it enabled, and looking at links, addresses and leases."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.runtime import Runtime

BRIDGE = "gosudacon0"
IPV4, IPV6 = "10.207.0.0/16", "fd67:6f73:7564::/64"
PING = "ping -c 1 -W 5 {} >/dev/null && echo reached {};"
Make = Callable[..., Bundle]


def ip(*words: str | int) -> str:
    """The output of ip(8)."""
    command = ["ip", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def ruleset() -> str:
    """What nft(8) says that this network namespace has."""
    command = ["nft", "list", "ruleset"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def has_rule_for(port: int) -> bool:
    """Whether a rule names the port; the name of a link may have the same digits in it."""
    return re.search(rf"\b{port}\b", ruleset()) is not None


def links() -> dict[str, dict[str, Any]]:
    """This network namespace's links by their names, with their addresses."""
    return {link["ifname"]: link for link in json.loads(ip("-json", "-detail", "addr"))}


def addresses(pid: int | str = "self", interface: str = "eth0") -> list[str]:
    """The global addresses of an interface in the network namespace of a process."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "addr", "show", "dev", interface]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)
    return [f"{a['local']}/{a['prefixlen']}" for a in found[0]["addr_info"] if a["scope"] == "global"]


class Net:
    """A runtime with the plugin enabled, and its book of leases."""

    def __init__(self, scratch: Path, *more: str) -> None:
        """``more`` are packages of tests/plugins to install and enable as well."""
        self.scratch = scratch
        self.leases = scratch / "leases"
        self.site = scratch / "site"
        self.site.mkdir()
        self.more = more
        if more:
            plugins.install(self.site, *more, scratch=scratch)
        self.runtime = self.configure()

    def configure(self, **settings: Any) -> Runtime:
        """The runtime, now with these settings."""
        entry = plugins.entry(self.site, self.scratch / "entry.py")
        lines = [f"plugins = {json.dumps(['network', *self.more])}", "[stage.network]"]
        networks = settings.pop("networks", {})
        lines += [f"{key} = {json.dumps(value)}" for key, value in {"leases": str(self.leases), **settings}.items()]
        for name, table in networks.items():
            lines += [
                f"[stage.network.networks.{name}]",
                *(f"{key} = {json.dumps(value)}" for key, value in table.items()),
            ]
        text, root = "\n".join(lines), self.scratch / "root"
        created = self.runtime.created if hasattr(self, "runtime") else []
        self.runtime = plugins.runtime(entry, self.scratch / "config.toml", text, root, "--no-snapshot")
        self.runtime.created = created
        return self.runtime

    def booked(self) -> dict[str, list[str]]:
        """Container id -> addresses."""
        path = self.leases / f"{BRIDGE}.json"
        leases = json.loads(path.read_text())["leases"].values() if path.exists() else ()
        return {lease["id"]: sorted(lease["addresses"].values()) for lease in leases}

    def expect_nothing(self) -> None:
        """No bridge, no link and no lease may be there now."""
        assert set(links()) == {"lo"}
        assert not self.leases.exists()


@pytest.fixture
def net(leftovers: Watch, scratch: Path) -> Iterator[Net]:
    """The plugin with its default settings, but for the place of the leases."""
    value = Net(scratch)
    yield value
    value.runtime.clean()


@pytest.fixture
def make(make_bundle: Make) -> Make:
    """As ``make_bundle``, for containers that may ping."""

    def made(args: str | list[str] = "exec sleep 1000", **kw: Any) -> Bundle:
        bundle = make_bundle(args, **kw)
        for words in bundle.config["process"]["capabilities"].values():
            words.append("CAP_NET_RAW")
        bundle.write()
        return bundle

    return made
