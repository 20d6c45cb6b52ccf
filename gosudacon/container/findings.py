"""What ``create`` would fail at, found before: ``explain`` looks at configuration, host and image.

Planning is pure and knows none of this. Only what is certain is a finding; nothing is changed.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.container import diagnosis
from gosudacon.container.hints import cgroups, facts, mounts, process, program, spelling
from gosudacon.container.hints.image import Dangling, Found, Image, Unseen
from gosudacon.container.hints.kinds import Failure
from gosudacon.pipeline.spec import CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.schema.compiler import Schema
    from gosudacon.schema.positions import Path

_HOST_HOOKS = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
_TAKES = {
    "memory": "memory",
    "cpu": "cpu",
    "pids": "pids",
    "blockIO": "io",
    "hugepageLimits": "hugetlb",
    "rdma": "rdma",
}
_LEAST_MEMORY = 1 << 20  # bytes: less than any process needs that sets up a container


class Finding:
    """One thing: its place in config.json (``line`` and ``column`` are 0 if unknown), what it is, what to do."""

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        self.where, self.message, self.hint = where, message, hint
        self.line = self.column = 0

    def place(self, file: str) -> str:
        """``FILE:LINE:COLUMN: WHERE``, as far as there is one; empty for what is not about the file."""
        if not self.where:
            return ""
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        return f"{place}: {self.where}"


def find(spec: Spec, host: Host, plan: Plan, root: str = "") -> list[Finding]:
    """All that is found, in the order of the file. ``root``: the directory of all containers' state.

    ``spec`` may be for ``exec``: then only its process in the image of the bundle is looked at.
    """
    found: list[Finding] = []
    if spec.target is not None:
        bundle = spec.replace(target=None, operation=CREATE)
        return [*_program(bundle)]
    found += unknown_names(spec)
    for check in (_root, _program, _mounts, _namespaces, _cpus, _limits, _sysctls, _privileges, _hooks, _seccomp):
        try:
            found += check(spec)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # what cannot be looked at is not found
    found += [*_controllers(spec, host), *_cgroup(spec, host), *_network(spec, plan), *_state(root)]
    for each in found:
        if each.where and not each.line:
            each.line, each.column = diagnosis.position(each.where, spec)
    return sorted(found, key=lambda each: (each.line, each.column))


def unknown_names(spec: Spec) -> list[Finding]:
    """Names of members that the specification does not know."""
    from gosudacon.schema import compiler, descriptions
    from gosudacon.schema.positions import Positions

    positions = Positions(spec.text.decode()) if spec.text else None
    found = []
    for path, known in _unknown(spec.plain(), compiler.load("config"), ()):
        finding = Finding(
            descriptions.where(path),
            "the specification knows no such name",
            spelling.did_you_mean(str(path[-1]), known),
        )
        if positions is not None:
            finding.line, finding.column = positions.line_column(positions.name(path))
        found.append(finding)
    return found


def _unknown(value: object, schema: Schema, path: Path) -> Iterator[tuple[Path, list[str]]]:
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _unknown(each, schema["items"], (*path, index))
    properties = schema.get("properties")
    if not isinstance(value, dict) or not properties:
        return
    for name, each in value.items():
        if name in properties:
            yield from _unknown(each, properties[name], (*path, name))
        elif not isinstance(schema.get("additionalProperties"), dict):
            yield (*path, name), list(properties)


def _root(spec: Spec) -> Iterator[Finding]:
    if not posix.path.isdir(spec.rootfs):
        what = "is not a directory" if facts.exists(spec.rootfs) else "is not there"
        yield Finding("root.path", f"{spec.rootfs} {what}", "unpack or mount the image there, or write another path")


def _program(spec: Spec) -> Iterator[Finding]:
    action = program.denies_execve(spec)
    if action:
        text = f"the profile answers execve with {action}: no program can be executed"
        yield Finding("linux.seccomp", text, "allow execve")
    verdict = program.examine(spec)
    if verdict.kind:
        yield Finding("process.args[0]", verdict.text)


def _mounts(spec: Spec) -> Iterator[Finding]:
    devpts = False
    for index, entry in enumerate(spec.config.get("mounts") or ()):
        where = f"mounts[{index}]"
        source, written = _source(spec, entry), str(entry.get("source") or "")
        fstype = str(entry.get("type") or "")
        devpts = devpts or fstype == "devpts" or (bool(source) and entry["destination"].startswith("/dev"))
        missing = mounts.missing_source(source, written)
        if missing:
            yield Finding(f"{where}.source", missing)
        elif source:
            yield from _shape(spec, where, source, entry["destination"])
        else:
            lacking = mounts.lacks_filesystem(fstype)
            if lacking and not (fstype == "cgroup" or _loadable(fstype)):
                yield Finding(f"{where}.type", f"this kernel has no filesystem {fstype}", lacking)
            yield from _options(where, entry)
    if spec.process.get("terminal") and not devpts:
        yield Finding("process.terminal", "there is no devpts to make a terminal in", f"add {process.DEVPTS} to mounts")


def _source(spec: Spec, entry: object) -> str:
    from gosudacon.base.errors import Error

    assert isinstance(entry, dict)
    return mounts.source_of(Failure(Error(""), spec), entry)


def _loadable(fstype: str) -> bool:
    """Whether a module of that name lies ready: the kernel loads it when it is wanted."""
    return f"/{fstype}.ko" in facts.text(f"/lib/modules/{posix.uname().release}/modules.dep")


def _options(where: str, entry: object) -> Iterator[Finding]:
    """Words that no filesystem of ours has as options, and that are almost one of those we know."""
    assert isinstance(entry, dict)
    if entry.get("type") not in ("tmpfs", "proc", "sysfs", "mqueue", "devpts"):
        return
    from gosudacon.container import features

    known = features.features().get("mountOptions") or []
    for index, word in enumerate(entry.get("options") or ()):
        guess = "" if "=" in word or word in known else spelling.closest(word, known)
        if guess and len(guess) > 2:
            yield Finding(f"{where}.options[{index}]", f"unknown option {word}", f"did you mean {guess}?")


def _shape(spec: Spec, where: str, source: str, destination: str) -> Iterator[Finding]:
    what, there = mounts.shapes(spec, source, destination)
    if what != there:
        text = f"{source} is a {what}, and {destination} in the image a {there}"
        yield Finding(f"{where}.destination", text, f"mount a {what} onto a {what}")


def _namespaces(spec: Spec) -> Iterator[Finding]:
    for index, entry in enumerate(spec.linux.get("namespaces") or ()):
        path = entry.get("path")
        if path and not posix.path.exists(path):
            yield Finding(f"linux.namespaces[{index}].path", f"nothing is at {path}", "has its process ended?")


def _cpus(spec: Spec) -> Iterator[Finding]:
    cpu = (spec.linux.get("resources") or {}).get("cpu") or {}
    policy = spec.linux.get("memoryPolicy") or {}
    for where, value, what in (
        ("linux.resources.cpu.cpus", cpu.get("cpus"), "cpu"),
        ("linux.resources.cpu.mems", cpu.get("mems"), "node"),
        ("linux.memoryPolicy.nodes", policy.get("nodes"), "node"),
    ):
        lacking = cgroups.lacks_cpus(value, what) if value else ""
        if lacking:
            yield Finding(where, lacking)


def _limits(spec: Spec) -> Iterator[Finding]:
    for index, entry in enumerate(spec.process.get("rlimits") or ()):
        most = facts.text("/proc/sys/fs/nr_open")
        if entry["type"] == "RLIMIT_NOFILE" and most and entry["hard"] > int(most):
            yield Finding(f"process.rlimits[{index}]", f"RLIMIT_NOFILE is at most {most} here", "sysctl fs.nr_open")
    limit = ((spec.linux.get("resources") or {}).get("memory") or {}).get("limit")
    if limit is not None and 0 < limit < _LEAST_MEMORY:
        text = f"nothing can start in {limit} bytes"
        yield Finding("linux.resources.memory.limit", text, "it is in bytes: meant in MiB?")


def _sysctls(spec: Spec) -> Iterator[Finding]:
    for name in spec.linux.get("sysctl") or ():
        lacking = mounts.lacks_sysctl(name)
        if lacking:
            yield Finding(f"linux.sysctl[{name}]", "this host has no such parameter", lacking)


def _privileges(spec: Spec) -> Iterator[Finding]:
    from gosudacon.linux import capability

    last = facts.text("/proc/sys/kernel/cap_last_cap")
    sets: Mapping[str, object] = spec.process.get("capabilities") or {}
    for kind, names in sets.items():
        for index, name in enumerate(names if isinstance(names, list) else ()):
            where = f"process.capabilities.{kind}[{index}]"
            if name not in capability.NUMBERS:
                hint = spelling.did_you_mean(name, capability.NUMBERS)
                yield Finding(where, f"unknown capability {name}", hint)
            elif last and capability.NUMBERS[name] > int(last):
                yield Finding(where, f"this kernel has no {name}", "remove it")
    profile = spec.process.get("apparmorProfile")
    loaded = facts.text("/sys/kernel/security/apparmor/profiles")
    if profile and profile != "unconfined" and loaded and f"{profile} (" not in loaded:
        yield Finding("process.apparmorProfile", f"the profile {profile} is not loaded", "apparmor_parser -r loads it")


def _hooks(spec: Spec) -> Iterator[Finding]:
    for kind in _HOST_HOOKS:
        for index, path in enumerate(_hook_paths(spec, kind)):
            where = f"hooks.{kind}[{index}].path"
            if not posix.path.exists(path):
                yield Finding(where, f"nothing is at {path}", "hooks of this kind run programs of the host")
            elif not posix.access(path, posix.X_OK):
                yield Finding(where, f"{path} is not executable", f"chmod +x {path}")
    for index, path in enumerate(_hook_paths(spec, "startContainer")):
        missing = _absent(spec, path)
        if missing:
            yield Finding(f"hooks.startContainer[{index}].path", missing, "startContainer hooks are in the container")


def _hook_paths(spec: Spec, kind: str) -> list[str]:
    hooks: Mapping[str, object] = spec.config.get("hooks") or {}
    entries = hooks.get(kind)
    return [str(entry.get("path") or "") for entry in (entries if isinstance(entries, list) else ())]


def _absent(spec: Spec, path: str) -> str:
    try:
        image = Image(spec)
    except OSError:
        return ""
    try:
        found: Found | None = image.look(path)
    except Unseen:
        return ""
    except Dangling:
        found = None
    finally:
        image.close()
    return "" if found is not None else f"the image has no {path}"


def _seccomp(spec: Spec) -> Iterator[Finding]:
    path = (spec.linux.get("seccomp") or {}).get("listenerPath")
    if path and not posix.path.exists(path):
        yield Finding("linux.seccomp.listenerPath", f"nothing is at {path}", "start the agent before the container")


def _controllers(spec: Spec, host: Host) -> Iterator[Finding]:
    """Limits of cgroup v2 whose controller the host's root cgroup does not have; v1 is known to planning."""
    if host.cgroup_mode != "v2":
        return
    there = facts.text(f"{host.cgroup_mounts.get('', '/sys/fs/cgroup')}/cgroup.controllers").split()
    resources: Mapping[str, object] = spec.linux.get("resources") or {}
    for key, controller in _TAKES.items():
        if resources.get(key) and there and controller not in there:
            text = f"this host has no controller {controller}; it has {', '.join(there)}"
            yield Finding(f"linux.resources.{key}", text, "remove the limit, or enable the controller")


def _cgroup(spec: Spec, host: Host) -> Iterator[Finding]:
    owners = cgroups.inhabitants(spec, host)
    if owners:
        text = f"the cgroup is not empty: {', '.join(owners)}"
        yield Finding("linux.cgroupsPath", text, "choose another path, or end them")


def _network(spec: Spec, plan: Plan) -> Iterator[Finding]:
    """A new network namespace into which nothing puts more than ``lo``."""
    connecting = any(_hook_paths(spec, kind) for kind in (*_HOST_HOOKS[:3], "startContainer", "poststart"))
    if connecting or spec.linux.get("netDevices") or plan.of_stage("network") or plan.of_stage("cni"):
        return
    for index, entry in enumerate(spec.linux.get("namespaces") or ()):
        if entry["type"] == "network" and not entry.get("path"):
            hint = "give it a path (/run/netns/…), a hook, or the plugin network or cni; or remove it for the host's"
            text = "nothing connects the new network namespace: it has only lo"
            yield Finding(f"linux.namespaces[{index}]", text, hint)


def _state(root: str) -> Iterator[Finding]:
    there = root
    while there and there != "/" and not facts.exists(there):
        there = posix.path.dirname(there)
    if root and not posix.access(there or "/", posix.W_OK):
        yield Finding("", f"user {posix.geteuid()} may not write to {there}", "set XDG_RUNTIME_DIR or --root")
