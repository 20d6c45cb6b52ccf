"""The systemd unit of a container: ``cgroupsPath`` as ``slice:prefix:name``, made a scope in a slice. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError, Spec

WHERE = "linux.cgroupsPath"
_PREFIX = "runc"  # what callers expect who give no cgroupsPath
_LONGEST = 255  # UNIT_NAME_MAX - 1
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\")


class Unit:
    """A scope: ``name`` (``runc-web.scope``), ``slice`` it is in (``a-b.slice``), ``path`` of its cgroup below the
    manager's (``a.slice/a-b.slice/runc-web.scope``).

    Raises `ConfigError` for what systemd would not take, or take for something else.
    """

    def __init__(self, spec: Spec, rootless: bool) -> None:
        slice_, prefix, name = _parts(spec)
        self.slice = slice_ or ("user.slice" if rootless else "system.slice")
        if name.endswith(".slice"):
            raise ConfigError(
                f"cgroupsPath names the slice {name!r}: a container is a scope", where=WHERE, hint="slice:prefix:name"
            )
        self.name = f"{prefix}-{name or _escaped(spec.id)}.scope"
        _check(self.name, "unit")
        self.path = "/".join((*expand(self.slice), self.name))


def _parts(spec: Spec) -> tuple[str, str, str]:
    path: str = spec.linux.get("cgroupsPath") or ""
    if not path:
        return "", _PREFIX, ""
    parts = path.split(":")
    if len(parts) != 3:
        raise ConfigError(
            f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {path!r} instead',
            where=WHERE,
        )
    return parts[0], parts[1], parts[2]


def expand(slice_: str) -> list[str]:
    """The slices from the topmost to ``slice_``: a dash means a level (systemd.slice(5)); none for ``-.slice``."""
    stem = slice_.removesuffix(".slice")
    if stem == slice_ or not stem:
        raise ConfigError(f"invalid slice name: {slice_}", where=WHERE)
    if stem == "-":
        return []
    _check(slice_, "slice")
    words = stem.split("-")
    if "" in words:
        raise ConfigError(f"invalid slice name: {slice_}", where=WHERE, hint="each dash needs a name before and after")
    return ["-".join(words[: count + 1]) + ".slice" for count in range(len(words))]


def _check(name: str, what: str) -> None:
    wrong = "".join(sorted(set(name) - _LETTERS))
    if wrong:
        raise ConfigError(f"invalid {what} name {name!r}: systemd does not allow {wrong!r}", where=WHERE)
    if len(name) > _LONGEST:
        raise ConfigError(f"the {what} name is longer than {_LONGEST} bytes: {name[:40]}…", where=WHERE)
    if name.startswith("."):
        raise ConfigError(f"invalid {what} name {name!r}", where=WHERE)


def _escaped(id: str) -> str:
    """A container's id as part of a unit's name (systemd-escape(1)): of its characters only ``+`` cannot be."""
    return id.replace("+", "\\x2b")
