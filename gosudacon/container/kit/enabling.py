"""Enabling and disabling plugins: editing config.toml, by its own rules and in one step.

The new text is written to another file, loaded as every command loads it, plugins included, and takes the file's
place only if that went well. Two commands at once follow one another: they lock the directory.
"""

from __future__ import annotations

import fcntl
import os
import tomllib

from gosudacon.base import ownership
from gosudacon.base.errors import Error, reason
from gosudacon.container.kit import dependents, toml_list
from gosudacon.pipeline import discovery
from gosudacon.pipeline.registry import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Table = dict[str, object]
    #: Text and enabled plugins -> the new ones, and sentences about what was done.
    Edited = Callable[[str, list[str]], tuple[str, list[str], list[str]]]

_KEY = "plugins"


def enable(config: str, names: Sequence[str]) -> list[str]:
    """Append ``names`` to ``plugins``; returns sentences for the caller.

    ``config``: path of the file, empty for the usual one; it is made if need be. Raises `Error` for a plugin that
    cannot be loaded, OSError.
    """

    def edited(text: str, enabled: list[str]) -> tuple[str, list[str], list[str]]:
        said = []
        for name in names:
            if name in enabled:
                said.append(f"plugin {name} is enabled already")
                continue
            restored = text
            for table in _tables_of(name):
                restored = toml_list.switch_on(restored, table)
            if restored != text:
                said.append(f"the settings of plugin {name} are back")
            text, enabled = toml_list.append(restored, _KEY, name), [*enabled, name]
            said.append(f"plugin {name} is enabled: the next container is made with it")
        return text, enabled, said

    return _edit(config or CONFIG, edited)


def disable(config: str, names: Sequence[str], root: str = "") -> list[str]:
    """Take ``names`` out of ``plugins``; returns sentences for the caller, what depends on them among them.

    Settings of their own become comments. ``root``: the directory of all containers' state, where those that were made
    with a plugin are looked for. Raises `Error` if something else names a stage of theirs, OSError.
    """

    def edited(text: str, enabled: list[str]) -> tuple[str, list[str], list[str]]:
        said = []
        for name in names:
            if name not in enabled:
                said.append(f"plugin {name} is not enabled")
                continue
            _refuse_dependents(config or CONFIG, text, name, names)
            without = toml_list.remove(text, _KEY, name)
            for table in _tables_of(name):
                without = toml_list.switch_off(without, table)
            if without.count(toml_list.OFF) > text.count(toml_list.OFF):
                said.append(f"the settings of plugin {name} are comments now; enabling it brings them back")
            text, enabled = without, [each for each in enabled if each != name]
            said.append(f"plugin {name} is disabled; containers that exist keep what it did")
            made = dependents.containers(root, name, _stages(name)) if root else []
            if made:
                said.append(f"keep its package installed until these containers are deleted: {', '.join(made)}")
        return text, enabled, said

    return _edit(config or CONFIG, edited)


def _stages(name: str) -> list[str]:
    """The stages of a plugin; none if it cannot be loaded any more."""
    try:
        return discovery.parts(name).stages
    except Error:
        return []


def _tables_of(name: str) -> list[str]:
    return [f"plugin.{name}", *(f"stage.{stage}" for stage in _stages(name))]


def _refuse_dependents(path: str, text: str, name: str, going: Sequence[str]) -> None:
    """Raise `Error` if a line of the file or a stage of another plugin needs a stage of this one."""
    stages, settings = _stages(name), tomllib.loads(text)
    found: list[str] = []
    replace = settings.get("replace", {})
    found += [f"[replace] {old} = {new!r}" for old, new in replace.items() if {old, new} & {*stages}]
    found += [f"disable names its stage {stage!r}" for stage in settings.get("disable", ()) if stage in stages]
    for other in settings.get(_KEY, ()):
        if other not in going:
            found += [f"stage {stage!r} of plugin {other!r}" for stage in _referring(other, stages)]
    if found:
        raise Error(
            f"plugin {name!r} is needed by {'; '.join(found)}",
            hint=f"take that out of {path} first, or disable both plugins at once",
        )


def _referring(plugin: str, stages: Sequence[str]) -> list[str]:
    """The stages of a plugin that are ordered by one of ``stages``."""
    try:
        needs = discovery.parts(plugin).needs
    except Error:
        return []
    return [stage for stage, others in needs.items() if not others.isdisjoint(stages)]


def _edit(path: str, edited: Edited) -> list[str]:
    """Let ``edited`` change text and list, check the result, replace the file with it."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    os.makedirs(directory, 0o755, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text, status = _read(path)
        before = _parsed(path, text)
        enabled = before.get(_KEY, [])
        if not isinstance(enabled, list):
            raise Error(f"{path}: plugins must be a list of names")
        try:
            new, wanted, said = edited(text, [str(name) for name in enabled])
        except toml_list.Unreadable as error:
            raise _by_hand(path) from error
        if new != text:
            _check_meaning(path, before, new, wanted)
            _replace(path, new, status)
            os.fsync(lock)
        return said
    finally:
        os.close(lock)


def _read(path: str) -> tuple[str, os.stat_result | None]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            status = os.fstat(file.fileno())
            if not ownership.is_safe(path, status):
                raise Error(f"{path}: must belong to root and be writable only by its owner")
            return file.read(), status
    except FileNotFoundError:
        return "", None
    except UnicodeDecodeError as error:
        raise Error(f"{path}: {error}") from error


def _parsed(path: str, text: str) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Error(f"{path}: {error}") from error


def _check_meaning(path: str, before: Table, text: str, wanted: list[str]) -> None:
    """Whether the new text says what it should: the list, and nothing else but settings that come or go."""
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _by_hand(path) from error
    tables = (_KEY, "plugin", "stage")
    same = {key: value for key, value in before.items() if key not in tables}
    if after.get(_KEY, []) != wanted or {key: value for key, value in after.items() if key not in tables} != same:
        raise _by_hand(path)


def _by_hand(path: str) -> Error:
    return Error(f"{path}: plugins is written in a way that this command cannot edit", hint="edit the file by hand")


def _replace(path: str, text: str, status: os.stat_result | None) -> None:
    """Write the file under another name, load it as a command would, and rename it."""
    new = f"{path}.{os.getpid()}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if status is not None and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, status.st_mode & 0o7777 if status is not None else 0o644)
            os.fsync(fd)
        _load(new, path)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise


def _load(new: str, path: str) -> None:
    try:
        discovery.discover(new, required=True)
    except Error as error:
        error.message = error.message.replace(new, path)
        raise
    except OSError as error:
        raise Error(f"{path}: {reason(error)}") from error
