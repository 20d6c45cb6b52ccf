"""The same configurations under gosudacon, runc and crun, with a program that prints what it sees: all see the same.

Hypothesis makes them (tests/support/sound.py), the same ones each time. Where runc and crun differ from each other, it
is enough to be like one of them. GOSUDACON_TEST_EXAMPLES=N tries N of them, chosen anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.sound import changes, merge

pytestmark = [needs("program:runc", "program:crun", "runtime:gosudacon"), pytest.mark.timeout(600)]

EXAMPLES = int(os.environ.get("GOSUDACON_TEST_EXAMPLES", "0"))

PROBE = r"""
section() { echo "== $1"; }
section status
sed -rn '/^(Uid|Gid|Groups|Umask|Cap...|NoNewPrivs|Seccomp|Cpus_allowed_list|SigIgn|SigBlk):/p' /proc/self/status
section limits; cat /proc/self/limits
section mounts; cat /proc/self/mountinfo
section cgroup; cat /proc/self/cgroup
section controllers
for name in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory.max memory.low \
    cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max cpu.weight \
    pids/pids.max pids.max cpuset/cpuset.cpus cpuset.cpus devices/devices.list; do
    file=/sys/fs/cgroup/$name
    [ -r $file ] && echo "$name:" $(cat $file)
done
section namespaces
for kind in cgroup ipc mnt net pid time user uts; do echo $kind $(readlink /proc/self/ns/$kind); done
section maps; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
section names; hostname; cat /proc/sys/kernel/domainname; uname -m
section environment; env | sort
section directory; pwd
section priorities; cat /proc/self/oom_score_adj /proc/self/personality; cut -d' ' -f18,19,40,41 /proc/self/stat; ionice
section descriptors; ls /proc/self/fd
section devices; ls -lnR /dev
section tree; ls -lnd / /[!p]* /mnt/* /home/* /new* /new/* /new/*/* /srv/* /a/* /tmp/* /etc/*
section writable
for path in / /tmp /etc /mnt /home/user /new/deep /proc/sys/kernel /sys /dev /dev/shm /root; do
    if touch $path/probe; then echo $path; rm $path/probe; fi
done
section readable
for path in /proc/kcore /etc/passwd /home /proc/sys /etc/group /new.file; do head -c 20 $path; ls -d $path/.; done
section sysctls
cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ping_group_range kernel/msgmax kernel/shm_rmid_forced; cd /
section calls
mkdir /tmp/directory; chmod 700 /tmp/directory; rmdir /tmp/directory; unshare -U true; head -c 1 /dev/zero | wc -c
mknod /tmp/node c 1 3 && rm /tmp/node; chown 1 /tmp/x; hostname other; chroot / true
section links; ls /sys/class/net
exit 7
"""

# What differs by design, and what is not a property of the container.
UNLIKE = {
    r"^mounts: (/|\S+ @BUNDLE@/rootfs\S*) ": "the root, and what is bound from it, is in no peer group of the host's",
    r"^mounts: /sys/fs/cgroup": "nosuid, nodev and noexec, which runc and crun leave out",
    r"^devices: .* mqueue$": "of the container's root in a user namespace, with runc of an unmapped user",
    r"^mounts: /dev/(null|zero|full|random|urandom|tty) ": "devices that are bound: read-only, nosuid and noexec",
}


def seen(runtime: Runtime, bundle: Bundle, own: dict[str, str]) -> set[str]:
    """What the probe prints under this runtime, a line each with its section, less names of this run."""
    result = runtime.run(bundle)
    runtime.clean()
    if "== links" not in result.stdout:
        return {f"status {result.returncode}: {result.stderr}"}
    words = {str(bundle.path): "@BUNDLE@", bundle.id: "@ID@", str(bundle.path.parent): "@SCRATCH@", **own}
    lines, section = {f"exit status: {result.returncode}"}, ""
    for line in result.stdout.splitlines():
        for word, better in words.items():
            line = line.replace(word, better)
        if line.startswith("== "):
            section = line[3:]
        else:
            lines.add(f"{section}: {tidied(section, line, bundle)}")
    return {line for line in lines if not any(re.search(pattern, line) for pattern in UNLIKE)}


def tidied(section: str, line: str, bundle: Bundle) -> str:
    """A line without numbers that the kernel picks, times of files, and orders that mean nothing."""
    masked = bundle.config["linux"].get("maskedPaths", ())
    if section == "tree" and line.rpartition(" ")[2] in masked:
        return f"{line.rpartition(' ')[2]} masked"
    if section == "mounts":
        left, _, right = line.partition(" - ")
        _, _, _, root, point, options, *propagation = left.split(" ")
        if point in masked:
            return f"{point} masked"
        words = sorted(word.partition(":")[0] for word in propagation)
        kind = re.sub(r",mode=\d+", "", right)  # of tmpfs: the tree shows it
        return " ".join([point, root, ",".join(sorted(options.split(","))), *words, "-", kind])
    if section == "namespaces":
        return re.sub(r"\w+:\[\d+\]", "its own", line)
    if section in ("devices", "tree"):
        return re.sub(r"[A-Z][a-z]{2} +\d+ +(\d\d:\d\d|\d{4}) ", "", line)
    if line.startswith("devices/devices.list"):
        return " ".join(sorted(re.findall(r"[abc] \S+ [rwm]+", line)))
    return line


def differences(found: dict[str, set[str]]) -> list[str]:
    """What gosudacon's process alone sees, and what it alone does not see; of one that refuses, there is one line."""
    ours, runc, crun = found["gosudacon"], found["runc"], found["crun"]
    others = [lines for lines in (runc, crun) if len(lines) > 1] or [runc, crun]
    if len(ours) == len(runc) == len(crun) == 1:
        return []
    if len(others[0]) == 1:
        return []  # they refuse what is taken here: docs/config.md and docs/mounts.md have it
    if len(ours) == 1:
        return sorted(f"{name}: {line}" for name, lines in found.items() if len(lines) == 1 for line in lines)
    extra, lacking = ours.difference(*others), others[0].intersection(*others) - ours
    return [f"{mark} {line}" for mark, lines in (("+", extra), ("-", lacking)) for line in sorted(lines)]


class Beside:
    """The three runtimes, each with bundles of its own of the same configuration."""

    def __init__(self, runtime: Runtime, make_bundle: Callable[..., Bundle], scratch: Path) -> None:
        self.runtimes = [runtime, *(Runtime([name], scratch / f"root-{name}") for name in ("runc", "crun"))]
        self.make_bundle = make_bundle
        self.own = {}
        for kind in os.listdir("/proc/self/ns"):
            self.own[os.readlink(f"/proc/self/ns/{kind}")] = f"{kind}:host's"

    def compare(self, wanted: list[dict[str, Any]]) -> list[str]:
        found = {}
        for runtime in self.runtimes:
            bundle = self.make_bundle(PROBE)
            cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
            bundle.config["mounts"].append(cgroup)
            for change in json.loads(json.dumps(wanted).replace("@BUNDLE@", str(bundle.path))):
                merge(bundle.config, change)
            bundle.write()
            found[runtime.name] = seen(runtime, bundle, self.own)
            shutil.rmtree(bundle.path)
        return differences(found)


@pytest.fixture
def beside(runtime: Runtime, make_bundle: Callable[..., Bundle], scratch: Path) -> Beside:
    return Beside(runtime, make_bundle, scratch)


@settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(wanted=changes())
def test_sees_the_same(beside: Beside, wanted: list[dict[str, Any]]) -> None:
    assert beside.compare(wanted) == []
