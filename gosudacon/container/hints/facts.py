"""Small facts about this host, as files in /proc and /sys say them; empty where they cannot be read."""

from __future__ import annotations

from gosudacon.base import posix


def text(path: str) -> str:
    """The beginning of a file; an empty string if it cannot be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 65536).decode(errors="replace").strip()
    except OSError:
        return ""
    finally:
        posix.close(fd)


def filesystems() -> list[str]:
    """The types of filesystems that the running kernel has now: what is in a module may come when it is asked for."""
    return [line.split()[-1] for line in text("/proc/filesystems").splitlines() if line.split()]


def online(what: str) -> set[int]:
    """The numbers of the host's ``cpu`` or ``node`` that are in use."""
    from gosudacon.base import ranges

    try:
        return set(ranges.parse(text(f"/sys/devices/system/{what}/online"), ranges.MOST_CPUS))
    except ValueError:
        return set()


def shown(numbers: set[int]) -> str:
    """``0-3,7`` for a set of numbers."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def exists(path: str) -> bool:
    """Whether there is anything at a path of the host, were it a link that dangles."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True
