"""What plugins this host has: shipped and installed, enabled or not, with whose rights and at what cost."""

from __future__ import annotations

import importlib.util
import os
import stat

from gosudacon.base import ownership
from gosudacon.base.errors import Error, reason
from gosudacon.container.kit import cost
from gosudacon.pipeline import discovery
from gosudacon.pipeline.registry import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypedDict

    class File(TypedDict):
        """A file or directory that a plugin's code comes from, or a directory above it."""

        path: str
        owner: int  # uid
        mode: str  # octal, as chmod(1) takes it
        safe: bool  # only root and the caller can change what is there

    class Cost(TypedDict):
        """What the imports of a plugin take at each ``create``."""

        milliseconds: float  # median, by the clock
        processor_milliseconds: float  # median, of user and system time
        modules: int  # that ``create`` does not import without it
        starts: int  # of an interpreter, that were measured

    class Row(TypedDict):
        """One plugin."""

        name: str
        package: str  # empty: it ships with gosudacon
        version: str
        module: str
        enabled: bool
        position: int  # in ``plugins`` of the configuration, from 1; 0: not enabled. The last is called first
        stages: list[str] | None  # None: it has not been loaded
        hooks: list[str] | None
        files: list[File]
        safe: bool
        cost: Cost | None
        problem: str


def listing(config: str, names: Sequence[str] = ()) -> list[Row]:
    """The plugins of this host, enabled ones first and in their order; of ``names``, if there are any.

    ``config``: path of the configuration, empty for the usual one, which need not exist. Code is imported only of
    plugins that are enabled or named: to list a package is not to trust it. Raises `Error` for a configuration that
    cannot be read, and for a name that is unknown.
    """
    enabled = discovery.enabled(config or CONFIG, bool(config))
    known = {each.name: each for each in discovery.available()}
    for name in enabled:
        known.setdefault(name, discovery.Available(name))
    for name in names:
        if name not in known:
            raise not_installed(name)
    order = [*enabled, *sorted(set(known) - set(enabled))]
    return [_row(known[name], enabled, bool(names)) for name in order if not names or name in names]


def not_installed(name: str) -> Error:
    """What to say of a plugin that does not exist."""
    known = sorted({each.name for each in discovery.available()})
    return Error(f"no plugin {name!r} is installed", hint=f"there are {', '.join(known)}")


def _row(plugin: discovery.Available, enabled: list[str], named: bool) -> Row:
    position = enabled.index(plugin.name) + 1 if plugin.name in enabled else 0
    files = list(_files(plugin.module)) if plugin.module else []
    row: Row = {
        "name": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "module": plugin.module,
        "enabled": position > 0,
        "position": position,
        "stages": None,
        "hooks": None,
        "files": files,
        "safe": all(file["safe"] for file in files),
        "cost": None,
        "problem": "",
    }
    if position or named:
        try:
            parts = discovery.parts(plugin.name)
            row["stages"], row["hooks"] = parts.stages, parts.hooks
            row["cost"] = cost.measure(parts.modules)
        except Error as error:
            row["problem"] = error.message
    return row


def _files(module: str) -> Iterator[File]:
    """The plugin's files, the directories they are in, and those above, up to the root."""
    try:
        found = importlib.util.find_spec(module.partition(".")[0] if not _ships(module) else module)
    except (ImportError, ValueError):
        return
    if found is None:
        return
    tops = list(found.submodule_search_locations or ()) or [found.origin or ""]
    for top in map(os.path.realpath, filter(None, tops)):
        for path in (*_above(top), *_within(top)):
            try:
                yield _file(path)
            except OSError as error:
                raise Error(f"{path}: {reason(error)}") from error


def _ships(module: str) -> bool:
    return module.startswith("gosudacon.plugins.")


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _within(top: str) -> Iterator[str]:
    yield top
    for directory, folders, names in os.walk(top):
        folders[:] = sorted(folders)
        for name in [*folders, *sorted(names)]:
            yield os.path.join(directory, name)


def _file(path: str) -> File:
    status = os.stat(path)
    safe = ownership.is_safe(path, status)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        safe = ownership.is_trusted(path, status.st_uid)  # others can add names there, and not change ours
    return {"path": path, "owner": status.st_uid, "mode": f"{stat.S_IMODE(status.st_mode):04o}", "safe": safe}
