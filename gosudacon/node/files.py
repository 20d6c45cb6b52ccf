"""Files of the node: read, replaced in one step, and a note of what was made and what was there before."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gosudacon.base.errors import Error
from gosudacon.node import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Node:
    """The node's files, below ``root``: ``/`` in a pass, another directory in tests."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)

    def path(self, name: str) -> Path:
        """Where the node's ``name``, an absolute path, is for this process."""
        return self.root / name.lstrip("/")

    @property
    def prefix(self) -> Path:
        """Where the versions are."""
        return self.path(places.PREFIX)

    def read(self, name: str) -> str | None:
        """The text of a file; None if it is not there. Raises `Error` if it is not text, OSError."""
        try:
            return self.path(name).read_bytes().decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise Error(f"{name} is not UTF-8 text", hint="it is left as it is; correct it") from None


@dataclass
class Record:
    """What was changed on the node.

    ``files``: made, where none was. ``folders``: made for files. ``former``: text of the administrator's configuration
    that was there before the fleet's; ``fleet``: whether that is in its place. ``unit``: what must be restarted, since
    its files have changed; ``before``: these files as they were. ``refused``: what it did not come up with.
    ``rejected``: the last configuration that was wrong, the version of the program that said so, and what it said.
    """

    node: Node
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    former: str | None = None
    fleet: bool = False
    unit: str = ""
    before: dict[str, str | None] = field(default_factory=dict)
    refused: dict[str, str | None] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, node: Node) -> Record:
        """The node's record; an empty one if it has none. Raises `Error` if it cannot be read, OSError."""
        text = node.read(f"{places.PREFIX}/{places.RECORD}")
        try:
            return cls(node, **json.loads(text or "{}"))
        except (ValueError, TypeError):
            raise Error(f"{places.PREFIX}/{places.RECORD} is damaged", hint="remove it") from None

    def save(self) -> None:
        """Write it to the node's disk. Raises OSError."""
        values = asdict(self) | {"node": None}
        del values["node"]
        replace(self.node.prefix / places.RECORD, json.dumps(values, indent=1))

    def put(self, texts: Mapping[str, str | None]) -> None:
        """Make files what ``texts`` says, None for one that is not to be there. Raises OSError.

        Directories that were made for files go with the last of them.
        """
        for name, text in texts.items():
            path = self.node.path(name)
            if text is None:
                path.unlink(missing_ok=True)
                self.files = [file for file in self.files if file != name]
                continue
            self.note_folders(name)
            if not path.exists():
                self.files.append(name)
            self.save()
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text)
        self.remove_folders()
        self.save()

    def note_folders(self, name: str) -> None:
        """Note the directories above ``name`` that are not there, and so have to be made."""
        above = [f"/{folder}" for folder in Path(name.lstrip("/")).parents[:-1]]
        self.folders += [folder for folder in above if not self.node.path(folder).is_dir()]

    def remove_folders(self) -> None:
        """Remove those that were made and are empty. Raises OSError."""
        for made in sorted(self.folders, key=len, reverse=True):
            directory = self.node.path(made)
            if not directory.is_dir() or not any(directory.iterdir()):
                self.folders.remove(made)
                if directory.is_dir():
                    directory.rmdir()


def replace(path: Path, text: str) -> None:
    """Write a file in one step, with mode and owner of the one that is there (0644 without). A link stays one.

    The draft has one name: passes never overlap, and what one that was killed has left is in the next one's way.
    Raises OSError.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    draft = path.with_name(f".{path.name}.gosudacon")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            try:
                status = path.stat()
                os.fchown(fd, status.st_uid, status.st_gid)
                os.fchmod(fd, status.st_mode & 0o7777)
            except FileNotFoundError:
                os.fchmod(fd, 0o644)
            os.fsync(fd)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
