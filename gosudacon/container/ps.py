"""The processes of a container: their pids, and what ps(1) prints about them."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.container import whereabouts
from gosudacon.container.state import Container, Store

_DEFAULT = ["-ef"]
_PATH = "/usr/bin:/bin"  # where ps is, for callers that hand down no PATH


def pids(root: str, id: str) -> list[int]:
    """The pids of all processes of a container, as this pid namespace numbers them, in ascending order.

    They are those of its cgroup and of the cgroups below. If init has been moved out of it, or there is no cgroup
    (rootless, nothing delegated), `whereabouts.processes_of` says which. Raises `StateError` for an unknown id.
    """
    store = Store(root, id)
    store.open()
    try:
        container = Container.load(store)
        if container.alive() and not container.data["cgroups"] and container.data["shares_pid_namespace"]:
            raise Error("the container has neither a cgroup nor a pid namespace of its own to tell its processes by")
        return whereabouts.processes_of(container)
    finally:
        store.close()


def table(members: list[int], arguments: list[str]) -> str:
    """What ``ps ARGUMENTS`` prints (default ``-ef``), less the lines of processes that are not among ``members``.

    Raises `Error` if ps cannot be run or fails, or if its table has no column ``PID``.
    """
    header, *lines = _run(arguments or _DEFAULT) or [""]
    titles = header.split()
    if "PID" not in titles:
        raise Error("couldn't find PID field in ps output")
    column, wanted = titles.index("PID"), frozenset(members)
    kept = [line for line in lines if line and _pid(line, column) in wanted]
    return "".join(f"{line}\n" for line in [header, *kept])


def _pid(line: str, column: int) -> int:
    fields = line.split()
    word = fields[column] if column < len(fields) else ""
    if not (word.isascii() and word.isdigit()):
        raise Error(f"unexpected pid {word!r} in ps output", hint="no column before PID may hold spaces")
    return int(word)


def _run(arguments: list[str]) -> list[str]:
    import subprocess

    try:
        result = subprocess.run(
            [_find("ps"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False, errors="replace"
        )
    except OSError as error:
        raise Error(
            f"cannot run ps: {posix.strerror(error.errno or 0)}", call="execve", errno=error.errno or 0
        ) from error
    if result.returncode != 0:
        raise Error(f"ps: exit status {result.returncode}: {(result.stderr or result.stdout).strip()}")
    return result.stdout.split("\n")


def _find(name: str) -> str:
    for directory in (posix.getenv("PATH") or _PATH).split(":"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and posix.access(path, posix.X_OK):
            return path
    raise Error(f'exec: "{name}": executable file not found in $PATH')
