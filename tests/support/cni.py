"""Containers under the plugin cni: a network namespace that stands for the host's, configurations, and what is left."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

PROGRAMS = "/usr/lib/cni"
BRIDGE = "cnitest0"
SUBNET = "10.88.7.0/24"
FILES = ("resolv.conf", "hosts", "hostname")
PORTMAP: dict[str, Any] = {"type": "portmap", "capabilities": {"portMappings": True}}
FIREWALL: dict[str, Any] = {"type": "firewall", "backend": "iptables"}
#: What the plug-ins leave by design: chains that all containers share.
_SHARED = re.compile(r"CNI-(HOSTPORT-(DNAT|MASQ|SETMARK)|FORWARD|ADMIN)\b")


def furnished(bundle: Bundle) -> Bundle:
    """The bundle, with the files in its image that can be mounted on, and the right to ping."""
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    for name in FILES:
        (bundle.rootfs / "etc" / name).write_text("of the image\n")
    for words in bundle.config["process"]["capabilities"].values():
        words.append("CAP_NET_RAW")
    bundle.write()
    return bundle


class Site:
    """A runtime in a network namespace of its own, with the plugin enabled and configurations of its own."""

    def __init__(self, scratch: Path, holder: int, *more: str) -> None:
        """``holder`` is a process in that namespace; ``more`` are packages of tests/plugins to enable as well."""
        self.scratch = scratch
        self.namespace = f"/proc/{holder}/ns/net"
        self.configs, self.leases, self.wrappers = (scratch / name for name in ("net.d", "leases", "wrappers"))
        for directory in (self.configs, self.leases, self.wrappers):
            directory.mkdir(mode=0o755)
        self.more = more
        self.site = scratch / "site"
        self.site.mkdir()
        if more:
            plugins.install(self.site, *more, scratch=scratch)
        self.runtime = self.configure()

    def configure(self, root: str = "root", **settings: Any) -> Runtime:
        """The runtime, now with these settings."""
        entry = plugins.entry(self.site, self.scratch / "entry.py")
        values = {"conf_dir": str(self.configs), "bin_dirs": [str(self.wrappers), PROGRAMS], **settings}
        lines = [f"plugins = {json.dumps(['cni', *self.more])}", "[plugin.cni]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        options = ["--no-snapshot"] if self.more else []
        runtime = plugins.runtime(entry, self.scratch / "config.toml", "\n".join(lines), self.scratch / root, *options)
        runtime.command = ["nsenter", f"--net={self.namespace}", *runtime.command]
        self.runtime = runtime
        return runtime

    def bridge(self, name: str = "tnet", subnet: str = SUBNET, link: str = BRIDGE, **more: Any) -> dict[str, Any]:
        """The configuration of the plug-in bridge, with addresses by host-local."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.leases),
            "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        return {"type": "bridge", "bridge": link, "isGateway": True, "ipMasq": True, "ipam": ipam, **more}

    def config(self, *chain: Any, name: str = "tnet", file: str = "10-test.conflist", version: str = "1.0.0") -> Path:
        """Write a configuration; without a chain, bridge, portmap and firewall."""
        path = self.configs / file
        plugins = list(chain) or [self.bridge(), PORTMAP, FIREWALL]
        path.write_text(json.dumps({"cniVersion": version, "name": name, "plugins": plugins}))
        path.chmod(0o644)
        return path

    def wrap(self, kind: str, text: str) -> None:
        """Put a script in front of a plug-in, which it ends with."""
        path = self.wrappers / kind
        path.write_text(f'#!/bin/sh\n{text}\nexec {PROGRAMS}/{kind} "$@"\n')
        path.chmod(0o755)

    def unwrap(self) -> None:
        """Take away all such scripts."""
        for path in self.wrappers.iterdir():
            path.unlink()

    def there(self, *words: str, check: bool = True) -> str:
        """The output of a program in the namespace that stands for the host's."""
        command = ["nsenter", f"--net={self.namespace}", *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds(30), check=False)
        assert not check or result.returncode == 0, (words, result.stdout, result.stderr)
        return result.stdout

    def links(self) -> set[str]:
        """The names of the links there."""
        return {link["ifname"] for link in json.loads(self.there("ip", "-json", "link"))}

    def leased(self) -> set[str]:
        """The addresses that host-local has given out, of all networks."""
        return {path.name for path in self.leases.rglob("*") if path.name[0].isdigit() or ":" in path.name}

    def rules(self) -> list[str]:
        """Rules and chains of the packet filter that are one container's."""
        found = self.there("iptables-save") + self.there("ip6tables-save")
        lines = [line for line in found.splitlines() if "CNI-" in line or "gsd" in line or SUBNET[:7] in line]
        return [line for line in lines if "CNI-" in _SHARED.sub("", line) or "gsd" in line or SUBNET[:7] in line]

    def expect_nothing(self, *links: str) -> None:
        """Nothing of a container is left: no link but the bridges, no address, no rule, no directory, no mount."""
        assert self.links() <= {"lo", BRIDGE, *links}
        assert self.leased() == set()
        assert self.rules() == []
        for root in self.scratch.glob("root*"):
            assert os.listdir(root) == []
        assert str(self.scratch) not in Path("/proc/self/mountinfo").read_text()

    def note(self, bundle: Bundle) -> list[dict[str, Any]]:
        """The lines of a container's note."""
        text = (self.runtime.root / bundle.id / "cni.note").read_text()
        return [json.loads(line) for line in text.splitlines() if line]


@contextmanager
def sites(scratch: Path, *more: str) -> Iterator[Site]:
    """A site, whose network namespace ends with it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "10000"]) as holder:
        try:
            own = os.readlink("/proc/self/ns/net")
            eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own, what="the namespace")
            subprocess.run(["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip", "link", "set", "lo", "up"], check=True)
            site = Site(scratch, holder.pid, *more)
            yield site
            site.unwrap()
            site.runtime.clean()
        finally:
            holder.kill()
