"""What the edits of devices make of a configuration (the CDI's SPEC.md, "OCI Edits"). Pure.

What is there already, since an engine has put it there, is not put there twice.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Edit, Host, Spec
from gosudacon.plugins.cdi import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.cdi.document import Members

_NET_DEVICES = "linux.netDevices"
_MAPS = ("idmap", "ridmap")


class Injection:
    """The edit for one container: all variables first, then all nodes, and so on, as if all devices were one.

    ``idmap``: in a user namespace, bind mounts are mapped into it.
    """

    def __init__(self, spec: Spec, host: Host, idmap: bool) -> None:
        self._edit = Edit()
        self._why = ""
        self._user: Members = _object(spec.process.get("user"))
        self._linux: Members = _object(spec.linux)
        self._hooks: Members = _object(spec.config.get("hooks"))
        self._mounts = _objects(spec.config.get("mounts"))
        self._devices = _objects(self._linux.get("devices"))
        self._rules = _objects(_object(self._linux.get("resources")).get("devices"))
        kinds = [entry.get("type") for entry in _objects(self._linux.get("namespaces"))]
        self._idmap = idmap and "user" in kinds and host.euid == 0 and host.initial_userns
        self._sorted = False

    def of(self, names: list[str], resolved: list[Members]) -> Edit:
        """The edit for the devices ``names``, whose edits `Registry.resolve` gave. Raises `ConfigError`."""
        variables = [self._variable(str(line)) for line in self._each(resolved, "env")]
        for node in self._each(resolved, "deviceNodes"):
            self._node(_object(node))
        self._net_devices(resolved)
        for mount in self._each(resolved, "mounts"):
            self._mount(_object(mount))
        for hook in self._each(resolved, "hooks"):
            self._hook(_object(hook))
        self._rdt(resolved)
        groups = self._groups(resolved)
        self._edit.because("")
        return record.written(self._edit, names, variables, groups)

    def _each(self, resolved: list[Members], name: str) -> Iterator[object]:
        """What all devices have of one kind of edit; while one is worked on, the edit's reason is its device."""
        for each in resolved:
            found = _object(each["edits"]).get(name)
            for value in found if isinstance(found, list) else ():
                self._because(str(each["for"]))
                yield value

    def _variable(self, line: str) -> str:
        name, _, value = line.partition("=")
        self._edit.add_env(name, value)
        return line

    def _node(self, node: Members) -> None:
        kind = node["type"]
        device: Members = {"path": node["path"], "type": kind}
        if kind != "p":
            device.update(major=node.get("major", 0), minor=node.get("minor", 0))
        for name in ("uid", "gid"):
            owner = node.get(name, self._user.get(name))
            if name in node or owner:
                device[name] = owner
        if "fileMode" in node:
            device["fileMode"] = node["fileMode"]
        there = [other for other in self._devices if other.get("path") == device["path"]]
        if not any(_same_device(other, device) for other in there):
            self._devices = [*(other for other in self._devices if other not in there), device]
            self._edit.set("linux.devices", self._devices)
        access = str(node.get("permissions") or "rwm")
        if kind in ("b", "c", "u") and access != "none":
            self._allow("c" if kind == "u" else str(kind), device, "".join(dict.fromkeys(access)))

    def _allow(self, kind: str, device: Members, access: str) -> None:
        numbers = {"major": device["major"], "minor": device["minor"]}
        rule: Members = {"allow": True, "type": kind, **numbers, "access": access}
        if rule not in self._rules:
            self._rules.append(rule)
            self._edit.append("linux.resources.devices", rule)

    def _net_devices(self, resolved: list[Members]) -> None:
        """One device of the host has one name inside, and one name is one device's."""
        known = _object(self._linux.get("netDevices"))
        there = {host: _object(each).get("name") or host for host, each in known.items()}
        for each in self._each(resolved, "netDevices"):
            host, name = str(_object(each)["hostInterfaceName"]), str(_object(each)["name"])
            if there.get(host, name) != name:
                raise ConfigError(f"{host} is to be {there[host]} and, by a CDI device, {name}", where=_NET_DEVICES)
            others = [other for other, taken in there.items() if taken == name and other != host]
            if others:
                text = f"{others[0]} and, by a CDI device, {host} are both to be {name}"
                raise ConfigError(text, where=_NET_DEVICES)
            if host not in there:
                there[host] = name
                self._edit.set(("linux", "netDevices", host), {"name": name})

    def _mount(self, given: Members) -> None:
        """In the place of one at that destination, behind all that lie as deep as it does, or less deep."""
        destination, source = str(given["containerPath"]), str(given["hostPath"])
        here = _clean(destination)
        there = [other for other in self._mounts if _clean(str(other.get("destination", ""))) == here]
        if any(_clean(str(other.get("source", ""))) == _clean(source) for other in there):
            return
        self._sort()
        for other in there:
            self._set_mounts([mount for mount in self._mounts if mount is not other])
        at = sum(_depth(mount) <= here.count("/") for mount in self._mounts)
        self._set_mounts([*self._mounts[:at], self._entry(destination, source, given), *self._mounts[at:]])

    def _sort(self) -> None:
        """By depth, once: what a device mounts must not be covered by what comes after it."""
        if self._sorted:
            return
        self._sorted, why = True, self._why
        self._because("the order of mounts by depth")
        for index, mount in enumerate(sorted(self._mounts, key=_depth)):
            if self._mounts[index] is not mount:
                self._set_mounts([other for other in self._mounts if other is not mount])
                self._set_mounts([*self._mounts[:index], mount, *self._mounts[index:]])
        self._because(why)

    def _set_mounts(self, mounts: list[Members]) -> None:
        self._mounts = mounts
        self._edit.set("mounts", mounts)

    def _because(self, why: str) -> None:
        self._why = why
        self._edit.because(why)

    def _entry(self, destination: str, source: str, given: Members) -> Members:
        options = given.get("options")
        words = [str(each) for each in options] if isinstance(options, list) else []
        kind = str(given.get("type") or "")
        if not kind and not {"bind", "rbind"}.intersection(words):
            kind, words = "bind", ["rbind", *words]
        is_bind = kind == "bind" or not {"bind", "rbind"}.isdisjoint(words)
        if self._idmap and is_bind and not any(word.partition("=")[0] in _MAPS for word in words):
            words.append("ridmap" if "rbind" in words else "idmap")
        entry: Members = {"destination": destination, "source": source, "options": words}
        return {**entry, "type": kind} if kind else entry

    def _hook(self, given: Members) -> None:
        kind = str(given["hookName"])
        hook = {name: value for name, value in given.items() if name != "hookName" and value not in ([], 0)}
        there = _objects(self._hooks.get(kind))
        if any({name: value for name, value in other.items() if value not in ([], 0)} == hook for other in there):
            return
        self._edit.append(("hooks", kind), hook)
        self._hooks = {**self._hooks, kind: [*there, hook]}

    def _rdt(self, resolved: list[Members]) -> None:
        """The last one counts, whole."""
        for each in reversed(resolved):
            rdt = _object(each["edits"]).get("intelRdt")
            if isinstance(rdt, dict):
                if rdt != self._linux.get("intelRdt"):
                    self._edit.because(str(each["for"])).set("linux.intelRdt", rdt)
                return

    def _groups(self, resolved: list[Members]) -> list[int]:
        there = self._user.get("additionalGids")
        known = [*there] if isinstance(there, list) else []
        found = []
        for gid in self._each(resolved, "additionalGids"):
            if isinstance(gid, int) and gid and gid not in found:
                found.append(gid)
                if gid not in known:
                    self._edit.append("process.user.additionalGids", gid)
        return found


def _same_device(one: Members, other: Members) -> bool:
    """Whether two nodes are one device, whatever their owners."""
    kinds = [{"u": "c"}.get(str(each.get("type")), each.get("type")) for each in (one, other)]
    return kinds[0] == kinds[1] and all((one.get(key) or 0) == (other.get(key) or 0) for key in ("major", "minor"))


def _depth(mount: Members) -> int:
    return _clean(str(mount.get("destination", ""))).count("/")


def _clean(path: str) -> str:
    """The path without what does not count in it, from the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _object(value: object) -> Members:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Members]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
