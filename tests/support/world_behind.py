"""A network namespace that is the world: what is behind the host's default routes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.network import ip, links
from tests.support.timing import eventually

OUTSIDE = ("192.0.2.1", "2001:db8::1")
HOST = ("192.0.2.2/24", "2001:db8::2/64")
EVERYWHERE = Path("/proc/sys/net/ipv4/conf/all/forwarding")


class World:
    """A network namespace behind the host's link ``uplink``, to which the default routes lead."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        own = Path("/proc/self/ns/net").readlink()
        eventually(lambda: self._namespace().readlink() != own, what="the world")
        ip("link", "add", "uplink", "type", "veth", "peer", "name", "world", "netns", self.process.pid)
        for address, there in zip(HOST, OUTSIDE, strict=True):
            length = address.partition("/")[2]
            ip("addr", "add", address, "dev", "uplink", *(["nodad"] if ":" in address else []))
            self.ip("addr", "add", f"{there}/{length}", "dev", "world", *(["nodad"] if ":" in there else []))
        ip("link", "set", "uplink", "up")
        self.ip("link", "set", "world", "up")
        for there in OUTSIDE:
            ip("-6" if ":" in there else "-4", "route", "add", "default", "via", there)

    def _namespace(self) -> Path:
        return Path(f"/proc/{self.process.pid}/ns/net")

    def run(self, *words: str) -> int:
        """The exit status of a command out there."""
        command = ["nsenter", f"--net={self._namespace()}", *words]
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode

    def ip(self, *words: str) -> None:
        assert self.run("ip", *words) == 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        eventually(lambda: "uplink" not in links(), what="the end of the uplink")


@pytest.fixture
def world() -> Iterator[World]:
    value = World()
    machine = EVERYWHERE.read_text()  # a new network namespace takes over what the machine has
    EVERYWHERE.write_text("0")
    yield value
    EVERYWHERE.write_text(machine)
    value.end()
