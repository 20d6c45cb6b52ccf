"""``copy-symlink``: a bind mount whose source is a symbolic link makes the same link, instead of a mount.

crun's option. Anything but a link is mounted as usual. The link's text is the host's and is not followed here; in the
container it means whatever it means there.
"""

from __future__ import annotations

from errno import EINVAL

from gosudacon.api import Context, Error
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import path
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.bind import Bind, BindClassic, BindHere, OpenSource
from gosudacon.stages.rootfs_mount.filesystem import Held


class OpenSourceOrLink(OpenSource):
    """Read the link on the runtime's side, or copy what is none.

    Why: the link is on the host, and the process that makes its copy may not see the host any more.
    Without it: links could not be copied.
    See: readlink(2); open_tree(2); runtime-spec config.md, Mounts.
    """

    def describe(self) -> str:
        return f"read the link {self.source} for {self.destination}, or clone its mount if it is not a link"

    def mount(self, context: Context) -> None:
        text = read(self.source)
        if text:
            context.own(Held).links[self.index] = text
        else:
            super().mount(context)


class BindOrLink(Bind):
    """Make the link that `OpenSourceOrLink` has read, or attach the copy.

    Why: a source that is a symbolic link is to be one in the container, with the option copy-symlink.
    Without it: what the link names on the host would be mounted.
    See: open_tree(2); symlink(2); runtime-spec config.md, Mounts.
    """

    def mount(self, context: Context) -> None:
        text = context.own(Held).links.pop(self.index, "")
        if text:
            make(context, self.destination, text)
        else:
            super().mount(context)


class BindHereOrLink(BindHere):
    """Both in the container's process: for callers without privilege.

    Why: a source that is a symbolic link is to be one in the container, with the option copy-symlink.
    Without it: what the link names on the host would be mounted.
    See: open_tree(2); symlink(2); runtime-spec config.md, Mounts.
    """

    def mount(self, context: Context) -> None:
        if not copied(context, self.source, self.destination):
            super().mount(context)


class BindClassicOrLink(BindClassic):
    """The same before Linux 5.12.

    Why: a source that is a symbolic link is to be one in the container, with the option copy-symlink.
    Without it: what the link names on the host would be mounted.
    See: mount(2), MS_BIND; symlink(2); runtime-spec config.md, Mounts.
    """

    def mount(self, context: Context) -> None:
        if not copied(context, self.source, self.destination):
            super().mount(context)


def copied(context: Context, source: str, destination: str) -> bool:
    """Make the link that ``source`` is; whether it is one. Raises as `read` and `make`."""
    text = read(source)
    if text:
        make(context, destination, text)
    return bool(text)


def read(source: str) -> str:
    """The text of a symbolic link; empty for what is none. Raises OSError."""
    try:
        return posix.readlink(source)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        return ""


def make(context: Context, destination: str, text: str) -> None:
    """A symbolic link at ``destination`` inside the root; one that is there already must have the same text.

    Raises `Error` where no mount may be either, and where something else is there; OSError.
    """
    above, _, name = destination.rpartition("/")
    if name in ("", ".."):
        raise Error(f"cannot make a symbolic link at {destination}")
    parent = path.mkdir_in_root(context.root, above or "/")
    try:
        places.check_place(context, parent, name)
        posix.symlink(text, name, dir_fd=parent)
    except FileExistsError:
        if not _same(parent, name, text):
            raise Error(f"{destination} exists, and is not a symbolic link to {text}") from None
    except OSError as error:
        raise SyscallError(error.errno or 0, "symlinkat", destination) from None
    finally:
        posix.close(parent)


def _same(parent: int, name: str, text: str) -> bool:
    try:
        return posix.readlink(name, dir_fd=parent) == text
    except OSError:
        return False
