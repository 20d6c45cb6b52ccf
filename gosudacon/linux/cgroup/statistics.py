"""What a cgroup says of itself: its files read as they may come and go, and the formats of their contents.

Parsing is pure: text to data. The formats are those of Documentation/admin-guide/cgroup-v2.rst, "Format", and of
cgroup-v1's files; lists of CPUs and nodes are read by `gosudacon.base.ranges`.
"""

from __future__ import annotations

from errno import ENODEV, ENOENT, ENOTDIR, ENOTSUP

from gosudacon.base import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Files = Callable[[str], str]  # the contents of a cgroup's file, empty if it does not exist


def reader(directory: str) -> Files:
    """Read files of one cgroup."""

    def contents(name: str) -> str:
        return read(f"{directory}/{name}") if directory else ""

    return contents


def page_sizes() -> list[str]:
    """The sizes of huge pages that this machine has, as cgroup files name them: ``2MB``."""
    try:
        names = posix.listdir("/sys/kernel/mm/hugepages")
    except FileNotFoundError:
        return []
    return sorted(size_name(int(name.removeprefix("hugepages-").removesuffix("kB"))) for name in names)


def size_name(kibibytes: int) -> str:
    """``2MB`` for 2048."""
    for unit in ("KB", "MB"):
        if kibibytes < 1024 or kibibytes % 1024:
            return f"{kibibytes}{unit}"
        kibibytes //= 1024
    return f"{kibibytes}GB"


def number(text: str) -> int:
    """A number of a cgroup file, 0 for none; ``max`` is 2^64 - 1."""
    text = text.strip()
    return (1 << 64) - 1 if text == "max" else int(text or 0)


def table(text: str) -> dict[str, int]:
    """Lines ``name number``."""
    return {name: int(value) for name, _, value in (line.partition(" ") for line in text.splitlines()) if value}


def pressure(text: str) -> dict[str, dict[str, float | int]]:
    """A file ``*.pressure`` (Documentation/accounting/psi.rst): ``some`` and ``full``; empty without one."""
    found: dict[str, dict[str, float | int]] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        found[kind] = {key: int(value) if key == "total" else float(value) for key, value in values.items()}
    return found


def read(path: str) -> str:
    """The contents of a file that may be missing, or go while it is read: then empty. Raises OSError."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return ""
        raise
    try:
        with open(fd, "rb", buffering=0) as file:
            return (file.read() or b"").decode(errors="replace")
    except OSError as error:
        if error.errno in (ENODEV, ENOTSUP):  # the cgroup was removed; pressure is not accounted
            return ""
        raise
