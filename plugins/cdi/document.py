"""A specification file's contents, checked as strictly as the CDI's own library does (its SPEC.md, version 1.1.0).

Unknown members of any object make a file invalid. Null means an absent member. What YAML takes for a
number or a truth value where a string belongs is that string.
"""

from __future__ import annotations

from gosudacon.plugins.cdi import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypedDict

    Check = Callable[[object, str], object]
    Members = dict[str, object]

    class Document(TypedDict):
        """A valid file: its kind, its edits for all its devices, and its devices' own."""

        kind: str
        edits: Members
        devices: dict[str, Members]


VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
_EARLIEST = "0.3.0"
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_NODES = ("", "b", "c", "u", "p")
_ANNOTATIONS = 256 * 1024  # bytes of all together


def check(value: object) -> Document:
    """The document of a parsed file. Raises ValueError that says what is wrong, and where in it."""
    found = _object(value, "", _DOCUMENT)
    version = str(found.get("cdiVersion", "")).removeprefix("v")
    if version not in VERSIONS:
        raise ValueError(f"cdiVersion {version!r} is not known; known: {', '.join(VERSIONS)}")
    kind = str(found.get("kind", ""))
    names.check_kind(kind)
    common = _members(found, "containerEdits")
    devices: dict[str, Members] = {}
    listed = _elements(found, "devices")
    if not listed:
        raise ValueError("devices: the list is empty")
    for index, device in enumerate(listed):
        name = str(device.get("name", ""))
        names.check_device(name)
        if name in devices:
            raise ValueError(f"devices[{index}]: a second device {name!r}")
        devices[name] = _members(device, "containerEdits")
        if not any(devices[name].values()) and devices[name].get("intelRdt") is None:
            raise ValueError(f"devices[{index}]: device {name!r} has no containerEdits")
    for needed, what in _needs(found, kind, listed, [common, *devices.values()]):
        if VERSIONS.index(needed) > VERSIONS.index(version):
            raise ValueError(f"{what} needs cdiVersion {needed}, and the file is of {version}")
    return {"kind": kind, "edits": common, "devices": devices}


def _needs(found: Members, kind: str, devices: list[Members], edits: list[Members]) -> Iterator[tuple[str, str]]:
    """The versions that what is used came with."""
    yield _EARLIEST, "what it says"
    if found.get("annotations") or any(device.get("annotations") for device in devices):
        yield "0.6.0", "annotations"
    if "." in kind.partition("/")[2]:
        yield "0.6.0", "a dot in the class"
    if any(str(device["name"])[0].isdigit() for device in devices):
        yield "0.5.0", "a device whose name begins with a digit"
    for each in edits:
        rdt = _members(each, "intelRdt")
        if each.get("netDevices"):
            yield "1.1.0", "netDevices"
        if "schemata" in rdt or "enableMonitoring" in rdt:
            yield "1.1.0", "schemata or enableMonitoring of intelRdt"
        if each.get("intelRdt") is not None:
            yield "0.7.0", "intelRdt"
        if each.get("additionalGids"):
            yield "0.7.0", "additionalGids"
        if any(node.get("hostPath") for node in _elements(each, "deviceNodes")):
            yield "0.5.0", "hostPath of a device node"
        if any(mount.get("type") for mount in _elements(each, "mounts")):
            yield "0.4.0", "the type of a mount"


def _members(found: Members, name: str) -> Members:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _elements(found: Members, name: str) -> list[Members]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _object(value: object, place: str, members: dict[str, Check]) -> Members:
    if not isinstance(value, dict):
        raise ValueError(f"{place or 'it'} is not an object")
    for name in value:
        if name not in members:
            raise ValueError(f"{_below(place, str(name))} is not known")
    return {name: members[name](each, _below(place, name)) for name, each in value.items() if each is not None}


def _list(check: Check) -> Check:
    def checked(value: object, place: str) -> object:
        if not isinstance(value, list):
            raise ValueError(f"{place} is not a list")
        return [check(each, f"{place}[{index}]") for index, each in enumerate(value)]

    return checked


def _text(value: object, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{place} is not a string")
    if "\0" in value:
        raise ValueError(f"{place} has a NUL in it")
    return value


def _filled(value: object, place: str) -> str:
    text = _text(value, place)
    if not text:
        raise ValueError(f"{place} is empty")
    return text


def _number(most: int) -> Check:
    def checked(value: object, place: str) -> object:
        if type(value) is not int or not 0 <= value <= most:
            raise ValueError(f"{place} is not a number from 0 to {most}")
        return value

    return checked


def _truth(value: object, place: str) -> object:
    if not isinstance(value, bool):
        raise ValueError(f"{place} is neither true nor false")
    return value


def _one_of(words: tuple[str, ...]) -> Check:
    def checked(value: object, place: str) -> object:
        text = _text(value, place)
        if text not in words:
            raise ValueError(f"{place} is {text!r}, not one of {', '.join(filter(None, words))}")
        return text

    return checked


def _variable(value: object, place: str) -> object:
    text = _text(value, place)
    if text.find("=") <= 0:
        raise ValueError(f"{place} is not NAME=value: {text!r}")
    return text


def _permissions(value: object, place: str) -> object:
    text = _text(value, place)
    if text != "none" and text.strip("rwm"):
        raise ValueError(f"{place} is {text!r}, not some of rwm, or none")
    return text


def _class(value: object, place: str) -> object:
    """A directory's name of resctrl, or its root."""
    text = _text(value, place)
    if text != "/" and (len(text) >= 4096 or text in (".", "..") or "/" in text or "\n" in text):
        raise ValueError(f"{place} is {text!r}, which is not a class of service")
    return text


def _with(members: dict[str, Check], *required: str) -> Check:
    def checked(value: object, place: str) -> object:
        found = _object(value, place, members)
        for name in required:
            if name not in found:
                raise ValueError(f"{place} has no {name}")
        return found

    return checked


def _net_devices(value: object, place: str) -> object:
    found = _list(_with({"hostInterfaceName": _filled, "name": _filled}, "hostInterfaceName", "name"))(value, place)
    for key in ("hostInterfaceName", "name"):
        used = [device[key] for device in found] if isinstance(found, list) else []
        if len(set(used)) < len(used):
            raise ValueError(f"{place} has one {key} twice")
    return found


def _annotations(value: object, place: str) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not an object")
    found = {str(name): _text(text, _below(place, str(name))) for name, text in value.items() if text is not None}
    for name in found:
        prefix, slash, rest = name.rpartition("/")
        parts = [rest, *(prefix.split(".") if slash else ())]
        if len(rest) > 63 or len(prefix) > 253 or not all(_is_name(part) for part in parts):
            raise ValueError(f"{place} has {name!r}, which is not the name of an annotation")
    if sum(len(name.encode()) + len(text.encode()) for name, text in found.items()) > _ANNOTATIONS:
        raise ValueError(f"{place} has more than {_ANNOTATIONS} bytes")
    return found


def _is_name(part: str) -> bool:
    ends = part[:1] + part[-1:]
    letters = part.replace("-", "").replace("_", "").replace(".", "")
    return len(ends) == 2 and ends.isalnum() and letters.isalnum() and letters.isascii()


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


_UINT32, _INT64 = _number((1 << 32) - 1), _number((1 << 63) - 1)
_NODE: dict[str, Check] = {
    "path": _filled,
    "hostPath": _text,
    "type": _one_of(_NODES),
    "permissions": _permissions,
    "major": _INT64,
    "minor": _INT64,
    "fileMode": _UINT32,
    "uid": _UINT32,
    "gid": _UINT32,
}
_MOUNT: dict[str, Check] = {"hostPath": _filled, "containerPath": _filled, "type": _text, "options": _list(_text)}
_HOOK: dict[str, Check] = {
    "hookName": _one_of(_HOOKS),
    "path": _filled,
    "args": _list(_text),
    "env": _list(_variable),
    "timeout": _INT64,
}
_RDT: dict[str, Check] = {
    "closID": _class,
    "l3CacheSchema": _text,
    "memBwSchema": _text,
    "schemata": _list(_text),
    "enableMonitoring": _truth,
}
_EDITS: dict[str, Check] = {
    "env": _list(_variable),
    "deviceNodes": _list(_with(_NODE, "path")),
    "netDevices": _net_devices,
    "mounts": _list(_with(_MOUNT, "hostPath", "containerPath")),
    "hooks": _list(_with(_HOOK, "hookName", "path")),
    "intelRdt": _with(_RDT),
    "additionalGids": _list(_UINT32),
}
_DEVICE: dict[str, Check] = {"name": _text, "annotations": _annotations, "containerEdits": _with(_EDITS)}
_DOCUMENT: dict[str, Check] = {
    "cdiVersion": _text,
    "kind": _text,
    "annotations": _annotations,
    "containerEdits": _with(_EDITS),
    "devices": _list(_with(_DEVICE, "name")),
}
