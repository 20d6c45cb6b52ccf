"""The container's view of its cgroups: mounts of type ``cgroup``, on a host with v1, v2 or both."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOSYS, EPERM

from gosudacon.api import Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, MountStep
from gosudacon.stages.rootfs_mount.options import Options, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gosudacon.schema.types import Mount
    from gosudacon.stages.rootfs_mount.filesystem import Fields

    class _CgroupFields(Fields):
        private: bool
        classic: bool
        covers: bool


_SAFE = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC


class _CgroupStep(MountStep):
    flags: int  # MS_*
    data: list[str]
    private: bool  # a cgroup namespace of the container's own
    classic: bool
    covers: bool  # a tree bound before, such as /sys, may have brought the host's cgroup mounts here

    def describe(self) -> str:
        return super().describe() + (" [mount(2)]" if self.classic else "")

    def mount(self, context: Context) -> None:
        below, _ = places.open_directory(context, self.destination)
        try:
            if self.covers and self.flags & mount.MS_RDONLY:
                self._seal(below)
            self.mount_on(context, below)
        finally:
            posix.close(below)

    def mount_on(self, context: Context, below: int) -> None:
        """Mount on what is behind ``below``."""
        raise NotImplementedError

    def _seal(self, below: int) -> None:
        """A mount that is read-only must not be writable underneath either (CVE-2023-25809)."""
        try:
            mount.mount_setattr(below, mount.MOUNT_ATTR_RDONLY, recursive=True)
        except OSError as error:
            if error.errno not in (EINVAL, ENOSYS):  # no mount there; a kernel before 5.12
                raise

    def attach(self, below: int, fstype: str, data: list[str], flags: int) -> None:
        """Mount a filesystem on what is behind ``below``."""
        if self.classic:
            source = self.source if fstype != "cgroup" else fstype
            target = f"/proc/self/fd/{below}"
            mount.mount(source, target, fstype, flags, ",".join(data), about=self.destination)
            return
        pairs = [item.partition("=") for item in data]
        options = {name: value if equals else None for name, equals, value in pairs}
        fd = mount.new_filesystem(fstype, options, attributes(flags), self.source)
        try:
            mount.move_mount(fd, below)
        finally:
            posix.close(fd)

    def attach_copy(self, below: int, source: str, again: Callable[[], int]) -> None:
        """Bind a directory of the host on what is behind ``below``, with the step's flags on all of it.

        ``again`` opens the place once more: with mount(2) that is the only way to get at the new mount.
        """
        if not self.classic:
            fd = mount.clone_tree(mount.AT_FDCWD, source, recursive=True)
            try:
                mount.mount_setattr(fd, attributes(self.flags), 0, mount.MS_SLAVE, recursive=True)
                mount.move_mount(fd, below)
            finally:
                posix.close(fd)
            return
        mount.mount(source, f"/proc/self/fd/{below}", None, mount.MS_BIND | mount.MS_REC, about=source)
        top = again()
        try:
            flags = mount.MS_BIND | mount.MS_REMOUNT | self.flags
            mount.mount(None, f"/proc/self/fd/{top}", None, flags, about=self.destination)
        finally:
            posix.close(top)


class MountCgroup2(_CgroupStep):
    """The unified hierarchy: mounted, or the cgroup's directory bound where a user namespace may not mount.

    ``fallback`` is the directory on the host that shows what the mount would.

    Why: programs look up their limits, and service managers make groups, in /sys/fs/cgroup.
    Without it: they would find nothing there.
    See: cgroups(7); runtime-spec config.md, Mounts.
    """

    fallback: str

    def subject(self) -> str:
        return "cgroup (v2)"

    def mount_on(self, context: Context, below: int) -> None:
        try:
            self.attach(below, "cgroup2", self.data, self.flags)
        except OSError as error:
            if error.errno not in (EPERM, EBUSY):
                raise
            self._bind(context, below)

    def _bind(self, context: Context, below: int) -> None:
        own = context.cgroups.get("", "") if self.private else ""
        try:
            self.attach_copy(below, own or self.fallback, lambda: places.reopen(context, self.destination, below))
        except OSError as error:
            if error.errno not in (ENOENT, EACCES):
                raise
            # Nothing to show, but what /sys may have there must not show either (CVE-2023-25809).
            self.attach(below, "tmpfs", [], _SAFE | mount.MS_RDONLY)


class MountCgroup1(_CgroupStep):
    """A tmpfs with a directory for every v1 hierarchy: mounted anew in a cgroup namespace of the container's own,
    else the container's cgroup bound.

    ``hierarchies`` are [name of the directory, controllers, mount point on the host, own cgroup there].

    Why: programs look up their limits, and service managers make groups, in /sys/fs/cgroup.
    Without it: they would find nothing there.
    See: cgroups(7); runtime-spec config.md, Mounts.
    """

    hierarchies: list[list[Any]]

    def subject(self) -> str:
        return f"cgroup (v1: {' '.join(str(each[0]) for each in self.hierarchies)})"

    def mount_on(self, context: Context, below: int) -> None:
        self.attach(below, "tmpfs", ["mode=0755"], _SAFE)
        top = places.reopen(context, self.destination, below)
        umask = posix.umask(0)
        try:
            self._fill(context, top)
        finally:
            posix.umask(umask)
            posix.close(top)

    def _fill(self, context: Context, top: int) -> None:
        for name, controllers, point, own in self.hierarchies:
            self._add(context, top, name, controllers, self._directory(context, controllers, point, own))
            for controller in controllers:
                if controller != name and not controller.startswith("name="):
                    posix.symlink(name, controller, dir_fd=top)
        if self.flags & mount.MS_RDONLY and not self.classic:
            mount.mount_setattr(top, mount.MOUNT_ATTR_RDONLY)
        elif self.flags & mount.MS_RDONLY:
            flags = mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY | _SAFE
            mount.mount(None, f"/proc/self/fd/{top}", None, flags, about=self.destination)

    def _add(self, context: Context, top: int, name: str, controllers: list[str], own: str) -> None:
        posix.mkdir(name, 0o755, dir_fd=top)
        below = posix.open(name, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=top)
        try:
            if self.private:
                self.attach(below, "cgroup", list(controllers), self.flags)
            else:
                self.attach_copy(below, own, lambda: path.open_in_root(top, name))
        finally:
            posix.close(below)

    def _directory(self, context: Context, controllers: list[str], point: str, own: str) -> str:
        kept = context.cgroups
        found = next((str(kept[each]) for each in controllers if kept.get(each)), "")
        return found or f"{point}/{own.strip('/')}"


def plan_cgroup(spec: Spec, host: Host, entry: Mount, options: Options, trees: list[str], where: str) -> Step:
    """The step for an entry of type ``cgroup``; ``trees`` are the destinations of recursive bind mounts so far."""
    destination = mount.normal(entry["destination"])
    common: _CgroupFields = {
        "destination": destination,
        "covers": any(f"{destination}/".startswith(f"{tree}/") for tree in trees),
        "source": entry.get("source") or "cgroup",
        "fstype": "cgroup",
        "words": options.words,
        "where": where,
        "private": "cgroup" in spec.namespaces(),
        "classic": host.kernel < BY_DESCRIPTOR,
    }
    if host.cgroup_mode == "v2":
        fallback = host.cgroup_mounts.get("", "/sys/fs/cgroup")
        return MountCgroup2(flags=options.flags, data=options.data, fallback=fallback, **common)
    return MountCgroup1(flags=options.flags | _SAFE, data=[], hierarchies=hierarchies(host), **common)


def hierarchies(host: Host) -> list[list[object]]:
    """The host's v1 hierarchies by the name of their directory: [name, controllers, mount point, own cgroup]."""
    points: dict[str, list[str]] = {}
    for controller, point in host.cgroup_mounts.items():
        if controller:
            points.setdefault(point, []).append(controller)
    return sorted(
        [posix.path.basename(point), controllers, point, host.own_cgroups.get(controllers[0], "/")]
        for point, controllers in points.items()
    )
