"""What plugins change of the configuration before it is validated: gosudacon_edit_spec.

Imported only where a plugin is enabled. An `Edit` is what a plugin asks for; `Changes` lists what
changed in the configuration, and which plugin did it.
"""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.linux.mount import is_bind
from gosudacon.pipeline.frozen import FrozenDict, FrozenList, freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Path = tuple[str | int, ...]
    Operation = tuple[str, Path, Callable[[object], object], str]

#: Kinds of hooks (runtime-spec config.md, POSIX-platform Hooks).
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class Edit:
    """Changes that a plugin wants of a configuration, carried out in the order in which they were asked for.

    Every method returns the edit, so that calls can be chained. A **path** names a place in config.json as messages
    do: ``linux.resources.devices[0].access``; a name that has a dot or bracket in it needs a tuple instead:
    ``("linux", "sysctl", "net.ipv4.ip_forward")``. Objects and lists on the way are made where they are missing.
    Values are JSON data. The methods ``add_`` leave what is there already: doing them twice is doing them once.
    A path that cannot be one is a ValueError at once. What does not fit the configuration, such as an element added to
    what is not a list, is an `Error` when the edit is carried out.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []  # what is asked for, in order; `applied` carries it out
        self._why = ""

    def because(self, why: str) -> Edit:
        """What asks for the changes that follow, until the next call; `explain` and errors name it."""
        self._why = why
        return self

    def set(self, path: str | Sequence[str | int], value: object) -> Edit:
        """Put ``value`` at a place, over what is there. None removes it. An index must be one that the list has."""
        return self._at("set", path, lambda old: value)

    def remove(self, path: str | Sequence[str | int]) -> Edit:
        """Take away what is at a place; of a list, the elements behind it move up. Nothing there is not an error."""
        return self._at("remove", path, lambda old: None)

    def append(self, path: str | Sequence[str | int], value: object) -> Edit:
        """Add an element at the end of the list at a place."""
        return self._at("append", path, lambda old: [*_list(old), value])

    def add_device(
        self,
        path: str,
        type: str,
        major: int,
        minor: int,
        access: str = "rwm",
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> Edit:
        """A device node, replacing one of that path, and the permission to use it.

        ``path`` is a path in the container; ``type`` is ``c``, ``b`` or ``u``, ``access`` some of ``rwm``; ``mode`` are
        permissions (mknod(2)), ``uid`` and ``gid`` ids in the container: ``linux.devices`` and
        ``linux.resources.devices`` (runtime-spec config-linux.md).
        """
        device = {"path": path, "type": type, "major": major, "minor": minor, "fileMode": mode, "uid": uid, "gid": gid}
        rule = {"allow": True, "type": type, "major": major, "minor": minor, "access": access}
        self._at("add_device", "linux.devices", lambda old: _instead(old, device, "path"))
        return self._at("add_device", "linux.resources.devices", lambda old: _once(old, rule))

    def add_env(self, name: str, value: str) -> Edit:
        """A variable in the environment of the process, replacing one of that name.

        Raises ValueError for a name that is empty or has an equals sign in it.
        """
        if not name or "=" in name:
            raise ValueError(f"{name!r} is not the name of a variable")
        return self._at("add_env", "process.env", lambda old: _with_variable(old, name, value))

    def add_mount(self, destination: str, source: str, type: str = "bind", options: Iterable[str] = ()) -> Edit:
        """A mount, made after those that are there. Of type ``bind`` it is a bind mount with what is mounted below.

        ``destination`` is a path in the container, ``source`` one of the host (or what the type of filesystem takes),
        ``options`` are words as in mount(8) (runtime-spec config.md, Mounts).
        """
        words = [*options]
        if type == "bind" and not is_bind(None, words):
            words.insert(0, "rbind")
        mount = {"destination": destination, "type": type, "source": source, "options": words}
        return self._at("add_mount", "mounts", lambda old: _once(old, mount))

    def add_hook(
        self,
        kind: str,
        path: str,
        args: Iterable[str] | None = None,
        env: Iterable[str] | None = None,
        timeout: int | None = None,
    ) -> Edit:
        """A program that runs at a moment of the container's life, after those that are there.

        ``kind`` is ``prestart``, ``createRuntime``, ``createContainer``, ``startContainer``, ``poststart`` or
        ``poststop``, else ValueError is raised; ``path`` is absolute, ``args`` begin with the program's name, ``env``
        has ``NAME=value``, ``timeout`` is in seconds (runtime-spec config.md, POSIX-platform Hooks).
        """
        if kind not in HOOKS:
            raise ValueError(f"{kind!r} is not a kind of hook: {', '.join(HOOKS)}")
        hook = {
            "path": path,
            "args": None if args is None else [*args],
            "env": None if env is None else [*env],
            "timeout": timeout,
        }
        return self._at("add_hook", ("hooks", kind), lambda old: _once(old, hook))

    def set_annotation(self, name: str, value: str) -> Edit:
        """An annotation, replacing one of that name."""
        return self._at("set_annotation", ("annotations", name), lambda old: value)

    def applied(self, config: Any, note: Callable[[Path, object, object, str], None] | None = None) -> Any:
        """The frozen configuration with these changes; ``config`` stays as it is. Raises `Error`.

        ``note`` is told of each: the path, the configuration before and after it, and what asked for it.
        """
        for name, path, change, why in self.operations:
            before = config
            try:
                config = _put(config, path, change, ())
            except (TypeError, ValueError) as error:
                raise Error(f"{name} {where(path)}: {error}") from error
            if note is not None:
                note(path, before, config, why)
        return config

    def _at(self, name: str, path: str | Sequence[str | int], change: Callable[[object], object]) -> Edit:
        steps = _parsed(path) if isinstance(path, str) else tuple(path)
        if not steps:
            raise ValueError("an empty path")
        self.operations.append((name, steps, change, self._why))
        return self


class Change:
    """One difference: ``what`` is ``added``, ``changed`` or ``removed``, ``path`` the place when it happened."""

    def __init__(self, plugin: str, what: str, path: Path, before: object, after: object) -> None:
        self.plugin = plugin
        self.what = what
        self.path = path
        self.now: Path | None = path  # where it is after the changes that followed; None: gone
        self.before = before
        self.after = after
        self.why = ""  # what asked for it

    def __str__(self) -> str:
        text = f"plugin {self.plugin!r} {self.what} {where(self.path)}"
        return f"{text} for {self.why}" if self.why else text

    def to_json(self) -> dict[str, Any]:
        """Plugin, what, path and, as far as there are any, what asked for it and the values before and after."""
        data = {"plugin": self.plugin, "what": self.what, "path": where(self.path)}
        values = {"for": self.why or None, "before": self.before, "after": self.after}
        return {**data, **{name: value for name, value in values.items() if value is not None}}


class Changes(list[Change]):
    """What plugins changed of one configuration, in the order in which they did."""

    def note(self, plugin: str, path: Path, before: object, after: object, why: str = "") -> None:
        """Add the differences that one operation of a plugin made at a path or below it; ``why``: what asked for it."""
        for change in [*_differences(plugin, len(path), (), before, after)]:
            name, change.why = change.path[-1], why
            if isinstance(name, int) and change.what != "changed":
                self._move(change.path[:-1], name, 1 if change.what == "added" else -1)
            self.append(change)

    def plugins(self) -> list[str]:
        """Who changed anything."""
        return [*dict.fromkeys(change.plugin for change in self)]

    def author(self, place: str) -> Change | None:
        """The last change that has to do with what is at a place of config.json as it now is."""
        for covers in (_is_about, _has_moved):
            for change in reversed(self):
                if place and change.now is not None and covers(change, change.now, place):
                    return change
        return None

    def blame(self, error: Error, inside: str = "") -> None:
        """Say in a refusal which plugin is behind it. ``inside``: the place that the error's places may start from."""
        if not error.problems and error.where:
            error.problems = [{"where": error.where, "message": error.message}]
        said = []
        for problem in error.problems:
            place = problem.get("where") or ""
            change = self.author(place) or self.author(f"{inside}.{place}")
            if change is None:
                continue
            text = problem.get("message") or f"found {problem['found']}; allowed: {problem['allowed']}"
            # The file has no such line, or another value in it.
            problem.update({"message": f"{text} ({change})", "plugin": change.plugin, "line": 0, "column": 0})
            said.append(str(change))
        if said:
            error.message += f" ({'; '.join(dict.fromkeys(said))})"

    def _move(self, path: Path, index: int, by: int) -> None:
        """An element of a list came or went: what earlier changes made behind it is elsewhere now."""
        for change in self:
            now = change.now
            if now is None or now[: len(path)] != path or len(now) == len(path):
                continue
            at = now[len(path)]
            if isinstance(at, int) and (at > index or (at == index and by > 0)):
                change.now = (*path, at + by, *now[len(path) + 1 :])
            elif at == index:
                change.now = None


def where(path: Iterable[str | int]) -> str:
    """A path as messages write it: ``mounts[3].options``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _is_about(change: Change, path: Path, place: str) -> bool:
    """Whether a change is at a place or above it, or of an element of the list that is there."""
    above, text = where(path[:-1]), where(path)
    if isinstance(path[-1], int) and place == above:
        return True
    moved_up = change.what == "removed" and isinstance(path[-1], int)  # another element is there now
    return not moved_up and (place == text or place.startswith((f"{text}.", f"{text}[")))


def _has_moved(change: Change, path: Path, place: str) -> bool:
    """Whether a place has another index than in the file: before it, something was removed or put."""
    above, index = f"{where(path[:-1])}[", path[-1]
    if change.what == "changed" or not isinstance(index, int) or not place.startswith(above):
        return False
    return int(place[len(above) :].partition("]")[0]) >= index


def _differences(plugin: str, depth: int, path: Path, before: object, after: object) -> Iterable[Change]:
    """What is different. What was made on the way to the path of an operation, so many steps deep, is not told."""
    if before is after or (type(before) is type(after) and before == after):
        return
    if before is None and isinstance(after, dict) and len(path) < depth:
        before = {}
    elif before is None and isinstance(after, list) and len(path) <= depth:
        before = []
    if before is None or after is None:
        yield Change(plugin, "added" if before is None else "removed", path, before, after)
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _differences(plugin, depth, (*path, name), before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_differences(plugin, depth, path, before, after)
    else:
        yield Change(plugin, "changed", path, before, after)


def _list_differences(
    plugin: str, depth: int, path: Path, before: list[object], after: list[object]
) -> Iterable[Change]:
    """Elements at the beginning and at the end that are the same are left out of account."""
    first, most = 0, min(len(before), len(after))
    while first < most and before[first] == after[first]:
        first += 1
    last = 0
    while last < most - first and before[-1 - last] == after[-1 - last]:
        last += 1
    old, new = before[first : len(before) - last], after[first : len(after) - last]
    if len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True), first):
            yield from _differences(plugin, depth, (*path, index), one, other)
        return
    for index in reversed(range(len(old))):
        yield Change(plugin, "removed", (*path, first + index), old[index], None)
    for index, value in enumerate(new, first):
        yield Change(plugin, "added", (*path, index), None, value)


def _put(node: object, path: Path, change: Callable[[object], object], done: Path) -> object:
    """``node`` with what is at the path replaced by what ``change`` makes of it; None if there was nothing."""
    if not path:
        return freeze(change(node))
    step, done = path[0], (*done, path[0])
    if isinstance(step, int):
        if node is not None and not isinstance(node, list):
            raise TypeError(f"{where(done[:-1])} is not a list")
        elements = node or ()
        there = 0 <= step < len(elements)
        value = _put(elements[step] if there else None, path[1:], change, done)
        if not there:
            if value is None:
                return node
            raise ValueError(f"there is no {where(done)} to change; append adds an element")
        return FrozenList([*elements[:step], *(() if value is None else (value,)), *elements[step + 1 :]])
    if node is not None and not isinstance(node, dict):
        raise TypeError(f"{where(done[:-1]) or 'config.json'} is not an object")
    members = dict(node or ())
    value = _put(members.get(step), path[1:], change, done)
    if value is not None:
        members[step] = value
    elif members.pop(step, None) is None:
        return node
    return FrozenDict(members)


def _parsed(path: str) -> Path:
    steps: list[str | int] = []
    for name in path.replace("[", ".[").split("."):
        index = name[1:-1] if name.startswith("[") and name.endswith("]") else ""
        if not name or (name.startswith("[") and not index.isdecimal()):
            raise ValueError(f"{path!r} is not a path like linux.resources.devices[0].access")
        steps.append(int(index) if index else name)
    return tuple(steps)


def _list(value: object) -> list[object]:
    if value is not None and not isinstance(value, list):
        raise TypeError("it is not a list")
    return value or []


def _once(value: object, element: Mapping[str, object]) -> list[object]:
    """The list with the element at its end, unless it is there."""
    new = freeze(element)
    return [*_list(value), *(() if new in _list(value) else (new,))]


def _instead(value: object, element: Mapping[str, object], key: str) -> list[object]:
    """The list with the element instead of the one that has the same ``key``, or at its end."""
    found = [*_list(value)]
    for index, other in enumerate(found):
        if isinstance(other, dict) and other.get(key) == element[key]:
            found[index] = element
            return found
    return [*found, element]


def _with_variable(value: object, name: str, text: str) -> list[object]:
    """The environment with a variable instead of the first of that name, and no second one."""
    found = []
    for entry in (*_list(value), f"{name}={text}"):
        if not isinstance(entry, str) or not entry.startswith(f"{name}="):
            found.append(entry)
        elif f"{name}={text}" not in found:
            found.append(f"{name}={text}")
    return found
