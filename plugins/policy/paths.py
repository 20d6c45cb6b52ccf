"""Paths of the host that a configuration names, and how they are to each other. Pure."""

from __future__ import annotations

from gosudacon.api import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Filesystems whose source means nothing.
_WITHOUT_SOURCE = frozenset(
    ("tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs", "debugfs", "bpf", "overlay")
)
_OF_OVERLAY = ("lowerdir", "upperdir", "workdir", "datadir")


def is_bind(mount: object) -> bool:
    """Whether an element of ``mounts`` is a bind mount."""
    if not isinstance(mount, dict):
        return False
    return mount.get("type") in ("bind", "rbind") or not {"bind", "rbind"}.isdisjoint(mount.get("options") or ())


def named(spec: Spec) -> Iterator[tuple[str, str, bool]]:
    """(place, absolute path, whether it can be written to) of all that mounts name: sources, and parts of overlays."""
    for index, mount in enumerate(spec.config.get("mounts") or ()):
        options = mount.get("options") or []
        kind, source = mount.get("type", ""), mount.get("source", "")
        if is_bind(mount) or (kind not in _WITHOUT_SOURCE and source.startswith("/")):
            yield f"mounts[{index}].source", _absolute(source, spec), not _is_read_only(options)
        if kind == "overlay":
            for place, option in enumerate(options):
                name, _, value = option.partition("=")
                for path in value.replace("\\:", "\0").split(":") if name.rstrip("+") in _OF_OVERLAY else ():
                    if path:
                        text = path.replace("\0", ":").replace("\\\\", "\\")
                        yield f"mounts[{index}].options[{place}]", _absolute(text, spec), name == "upperdir"


def clean(path: str) -> str:
    """An absolute path without ``.``, ``..`` and double slashes, as it is written: links may lead elsewhere."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it; both are clean."""
    return path == directory or directory == "/" or path.startswith(f"{directory}/")


def _absolute(path: str, spec: Spec) -> str:
    return path if path.startswith("/") else f"{spec.bundle}/{path}"


def _is_read_only(options: list[str]) -> bool:
    """The last word counts."""
    words = [word for word in options if word in ("ro", "rro", "rw", "rrw")]
    return bool(words) and words[-1] in ("ro", "rro")
