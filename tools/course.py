"""The text of docs/a-container-step-by-step.md: the plan of one container, each step with what its docstring says.

`tools.pages` puts it between the marks of that file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from gosudacon.container.template import default_spec
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.discovery import discover
from gosudacon.pipeline.docstrings import about
from gosudacon.pipeline.registry import Registry
from gosudacon.pipeline.spec import Host, Spec
from gosudacon.pipeline.step import PHASES, Step

_NO_SETTINGS = "/nonexistent/config.toml"
#: What is said about each phase before its steps.
INTRODUCTIONS = {
    "prepare": (
        "Only the runtime is there. It checks, opens and makes what must be ready, or out of reach, before "
        "there is a process that belongs to the container."
    ),
    "isolate": (
        "The container's process is made, in new namespaces. From here on there are two sides: the "
        "runtime, and this process, which will become the container's program."
    ),
    "mount": (
        "Inside its own mount namespace the process builds the file system that the program will see. The "
        "host's is still there."
    ),
    "create-runtime": (
        "The container's namespaces exist, and its root is still reached by the host's paths. The runtime "
        "sets limits, and hooks of the host may do their part."
    ),
    "create-container": "Hooks that run in the container's namespaces, before its root is the root.",
    "pivot": "The image becomes the root, and the host's file system goes away.",
    "confine": (
        "Nothing of the host is in reach any more. Now the process gives up, one after the other, what it "
        "does not need: writable paths, users, capabilities, descriptors."
    ),
    "start": "Everything is ready, and the process waits. When `start` comes, it becomes the program.",
    "started": "The program runs.",
    "delete": "The container has ended, and all that lasts has been undone.",
}


def config() -> Any:
    """The config.json of the course: a web server with limits, data, a filter and hooks."""
    made: Any = default_spec(cgroup_v2=True)
    made["process"] |= {"terminal": False, "args": ["/usr/bin/web", "--port", "8080"]}
    made["process"]["user"] = {"uid": 1000, "gid": 1000}
    made["hostname"] = "web"
    data = {
        "destination": "/var/lib/web",
        "type": "bind",
        "source": "/srv/web/data",
        "options": ["rbind", "rw", "nosuid"],
    }
    made["mounts"].append(data)
    made["hooks"] = {
        "createRuntime": [{"path": "/usr/lib/network-hook", "args": ["network-hook", "add"]}],
        "poststop": [{"path": "/usr/lib/network-hook", "args": ["network-hook", "remove"]}],
    }
    linux = made["linux"]
    linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80"}
    linux["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 512 << 20},
        "cpu": {"quota": 50000, "period": 100000},
        "pids": {"limit": 100},
    }
    calls = ["read", "write", "close", "openat", "mmap", "execve", "exit_group", "socket", "accept4", "epoll_wait"]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
    }
    return made


def plan() -> plans.Plan:
    """Its plan, for a host with cgroup version 2, without an administrator's settings."""
    spec, host = Spec(config(), "web", "/srv/web"), Host(kernel=(6, 12))
    registry = Registry(discover(_NO_SETTINGS, required=False)[0])
    return registry.compiled(spec, host, plans.make)


def text() -> str:
    """The page between the marks."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    steps, number = plan().steps, 0
    said: set[type] = set()
    for phase in PHASES:
        of_phase = [step for step in steps if step.phase == phase]
        if not of_phase:
            continue
        yield f"## {phase}\n\n{INTRODUCTIONS[phase]}\n"
        for kind, alike in groupby(of_phase, type):
            group = list(alike)
            yield from _step(group, number + 1, kind not in said)
            said.add(kind)
            number += len(group)


def _step(group: list[Step], number: int, first: bool) -> Iterator[str]:
    step, kind = group[0], type(group[0])
    numbers = str(number) if len(group) == 1 else f"{number} to {number + len(group) - 1}"
    side = "in the container's process" if step.runs_on() == "container" else "in the runtime"
    yield f"### {numbers}: `{step.stage}`, {side}\n"
    lines = [line for each in group for line in (each.describe(), *(f"  {detail}" for detail in each.details()))]
    yield "```\n" + "\n".join(lines) + "\n```\n"
    said = about(kind)
    places = [each.where for each in group if each.where]
    asked = f" Asked for by `{places[0]}`{' and what follows it' if len(places) > 1 else ''}." if places else ""
    if not first:
        yield f"As above.{asked}\n"
        return
    what = " ".join(said.paragraphs())
    yield f"{what}{asked}\n"
    yield f"- Why: {said.why}\n- Without it: {said.without}\n- See: {said.see}\n"
