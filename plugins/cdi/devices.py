"""The devices of all specification files together: which file counts, what conflicts, what the host says of nodes."""

from __future__ import annotations

from _stat import S_IMODE, S_ISBLK, S_ISCHR, S_ISFIFO

from gosudacon.api import Error
from gosudacon.base import posix
from gosudacon.base.errors import reason
from gosudacon.base.trusted import Unusable
from gosudacon.plugins.cdi import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.plugins.cdi.document import Document, Members


class Registry:
    """What there is. ``unusable``: file -> why it does not count; ``conflicts``: device -> the files that both have it.

    Of several directories, the last one that has a device counts; two files there that have it are a conflict.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self.unusable: dict[str, str] = {}
        self.conflicts: dict[str, list[str]] = {}
        self._found: dict[str, tuple[str, Document]] = {}
        for directory in directories:
            self._read(directory)

    def names(self) -> list[str]:
        """The full names of all devices that are available."""
        return sorted(set(self._found) - set(self.conflicts))

    def resolve(self, wanted: list[str]) -> list[Members]:
        """What the devices bring, in order: ``{"for", "edits"}``, a file's own edits before its first device's.

        Raises `Error` that names every device that is not available, or the node that the host lacks.
        """
        missing = [name for name in wanted if name not in self._found or name in self.conflicts]
        if missing:
            raise self._unresolvable(missing)
        result: list[Members] = []
        seen = set()
        for name in wanted:
            path, document = self._found[name]
            if path not in seen:
                seen.add(path)
                result.append(_resolved(f"{document['kind']} in {path}", document["edits"]))
            result.append(_resolved(f"{name} in {path}", document["devices"][name.partition("=")[2]]))
        return [each for each in result if each["edits"]]

    def _read(self, directory: str) -> None:
        here: dict[str, list[str]] = {}
        for path, content in files.read(directory):
            if isinstance(content, Unusable):
                self.unusable[path] = str(content)
                continue
            for device in content["devices"]:
                name = f"{content['kind']}={device}"
                here.setdefault(name, []).append(path)
                self._found[name] = path, content
        for name, paths in here.items():
            self.conflicts.pop(name, None)
            if len(paths) > 1:
                self.conflicts[name] = paths

    def _unresolvable(self, missing: list[str]) -> Error:
        reasons = [
            f"{' and '.join(self.conflicts[name])} both have {name}" for name in missing if name in self.conflicts
        ]
        reasons += [f"{path}: {why}" for path, why in self.unusable.items()]
        text = f"unresolvable CDI devices {', '.join(missing)}"
        return Error(": ".join([text, *filter(None, ["; ".join(reasons)])]), hint=self._hint(missing))

    def _hint(self, missing: list[str]) -> str:
        kinds = {name.partition("=")[0] for name in missing}
        known = [name for name in self.names() if name.partition("=")[0] in kinds] or self.names()
        return f"there are: {', '.join(known)}" if known else "no specification file has a device"


def _resolved(what: str, edits: Members) -> Members:
    nodes = edits.get("deviceNodes")
    if isinstance(nodes, list) and nodes:
        edits = {**edits, "deviceNodes": [_completed(what, node) for node in nodes]}
    return {"for": what, "edits": edits}


def _completed(what: str, node: Members) -> Members:
    """A node with type, numbers and mode, which the host's node says as far as the file does not."""
    path = str(node.get("hostPath") or node["path"])
    kind = node.get("type") or ""
    enough = kind == "p" or bool(kind and node.get("major"))
    try:
        status = posix.lstat(path)
    except OSError as error:
        if enough and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return node
        raise Error(f"CDI device {what}: cannot look at {path}: {reason(error)}") from error
    found = _kind(status.st_mode)
    if not found:
        raise Error(f"CDI device {what}: {path} is not a device node")
    if kind and found != {"u": "c"}.get(str(kind), kind):
        raise Error(f"CDI device {what}: {path} is a device of type {found}, and the file says {kind}")
    known: Members = {"fileMode": S_IMODE(status.st_mode) & 0o777, **node}
    if enough or found == "p":
        return {**known, "type": kind or found}
    return {**known, "type": found, "major": posix.major(status.st_rdev), "minor": posix.minor(status.st_rdev)}


def _kind(mode: int) -> str:
    return "c" if S_ISCHR(mode) else "b" if S_ISBLK(mode) else "p" if S_ISFIFO(mode) else ""
