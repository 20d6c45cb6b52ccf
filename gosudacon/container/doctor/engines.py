"""Container engines: which are installed, whose configuration names this runtime, and whether that is there."""

from __future__ import annotations

import re

from gosudacon.base import posix
from gosudacon.container.doctor.report import FAILS, LESS, OK, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AREA = "engines"
_PROGRAMS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
#: Engine -> its program, and the files and folders of files in which it may name a runtime; ~ is the caller's home.
_ENGINES = {
    "containerd": ("containerd", ("/etc/containerd/config.toml", "/etc/containerd/conf.d")),
    "Docker": ("dockerd", ("/etc/docker/daemon.json", "~/.config/docker/daemon.json")),
    "Podman": (
        "podman",
        (
            *("/usr/share/containers/containers.conf", "/etc/containers/containers.conf"),
            *("/etc/containers/containers.conf.d", "~/.config/containers/containers.conf"),
        ),
    ),
    "CRI-O": ("crio", ("/etc/crio/crio.conf", "/etc/crio/crio.conf.d")),
}
_PATH = re.compile(r"""["'](/[^"'\n]*gosudacon[^"'\n]*)["']""")
_LIMIT = 1 << 20


def rows(environment: Mapping[bytes, bytes]) -> Iterator[Row]:
    """A row for each engine that is installed."""
    home = posix.fsdecode(environment.get(b"HOME", b""))
    for engine, (program, places) in _ENGINES.items():
        if any(posix.access(f"{directory}/{program}", posix.X_OK) for directory in _PROGRAMS):
            yield _engine(engine, [place.replace("~", home) for place in places if home or "~" not in place])


def _engine(engine: str, places: list[str]) -> Row:
    closed: list[str] = []
    for file in _files(places):
        try:
            text = posix.read_file(file, _LIMIT).decode(errors="replace")
        except PermissionError:
            closed.append(file)
            continue
        except OSError:
            continue
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        named = _PATH.findall("\n".join(lines))
        absent = [path for path in named if not posix.access(path, posix.X_OK)]
        if absent:
            return Row(_AREA, engine, FAILS, f"{file} names {absent[0]}, which is not a program", "`gosudacon install`")
        if named:
            return Row(_AREA, engine, OK, f"{file} names {named[0]}")
    if closed:
        return Row(_AREA, engine, LESS, f"this user cannot read {closed[0]}", "ask again as root")
    return Row(_AREA, engine, LESS, "does not know it", "`gosudacon install` prints what to add (docs/integration.md)")


def _files(places: list[str]) -> Iterator[str]:
    for place in places:
        try:
            names = sorted(posix.listdir(place)) if posix.path.isdir(place) else None
        except OSError:
            continue
        yield from [place] if names is None else [f"{place}/{name}" for name in names]
