"""Id-mapped mounts: a user namespace that only holds a mapping (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

from gosudacon.api import PREPARE, ConfigError, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import identity, mount
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held
from gosudacon.stages.rootfs_mount.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import IdMapping, Mount


class MakeIdMap(Step):
    """Keep a user namespace with these maps as `Held.idmaps`; its one process ends at once.

    ``containerID`` is the id inside the filesystem, ``hostID`` what the host sees instead.

    Why: files belong to ids of the host, and the container's ids are others.
    Without it: the container would see its data as owned by another user.
    See: mount_setattr(2), MOUNT_ATTR_IDMAP; runtime-spec config.md, POSIX-platform Mounts.
    """

    phase = PREPARE
    key: str
    uids: list[IdMapping]
    gids: list[IdMapping]

    def describe(self) -> str:
        return f"make a user namespace for id-mapped mounts: {self.key}"

    def run(self, context: Context) -> None:
        idmaps = context.own(Held).idmaps
        if self.key not in idmaps:
            idmaps[self.key] = identity.user_namespace(self.uids, self.gids)


class OpenIdMap(Step):
    """Keep the joined user namespace, whose maps the mount gets.

    Why: the mount takes the ids of the user namespace that the container joins.
    Without it: the container would see its data as owned by another user.
    See: mount_setattr(2), MOUNT_ATTR_IDMAP; runtime-spec config.md, POSIX-platform Mounts.
    """

    phase = PREPARE
    key: str

    def describe(self) -> str:
        return f"open the user namespace {self.key} for id-mapped mounts"

    def run(self, context: Context) -> None:
        idmaps = context.own(Held).idmaps
        if self.key not in idmaps:
            idmaps[self.key] = posix.open(self.key, posix.O_RDONLY | posix.O_CLOEXEC)


def plan_idmap(spec: Spec, host: Host, entry: Mount, options: Options, where: str) -> MakeIdMap | OpenIdMap:
    """The step that provides the mapping of a mount. Raises `ConfigError` where there cannot be one."""
    uids, gids = entry.get("uidMappings") or [], entry.get("gidMappings") or []
    if bool(uids) != bool(gids):
        raise ConfigError("a mount needs both uidMappings and gidMappings or neither", where=where)
    if host.euid:
        raise ConfigError("id-mapped mounts are not supported for rootless containers", where=where)
    if host.kernel < BY_DESCRIPTOR:
        raise ConfigError("id-mapped mounts need Linux 5.12", where=where)
    if options.maps:
        uids, gids = options.maps["uids"], options.maps["gids"]
    if not uids:
        uids, gids = spec.linux.get("uidMappings") or [], spec.linux.get("gidMappings") or []
    path = spec.namespaces().get("user")
    if not uids and path:
        return OpenIdMap(key=path, where=where)
    if not uids:
        raise ConfigError("an id-mapped mount needs mappings: its own or those of a user namespace", where=where)
    return MakeIdMap(key=f"uids {_ranges(uids)}, gids {_ranges(gids)}", uids=uids, gids=gids, where=where)


def seen_by_runtime(spec: Spec, index: int, inside: str, source: str) -> tuple[str, str]:
    """Where the runtime finds what mount ``index`` has for its source, a path ``inside`` the root: empty, and a path.

    The root of a user namespace may not give ids to filesystems of the host, so the runtime must copy them; it does
    not see the container's mounts, but those it has bound itself are elsewhere, too. ``inside`` and ``source`` as they
    are where that is another filesystem of the container's.
    """
    for earlier in reversed((spec.config.get("mounts") or [])[:index]):
        place = mount.normal(earlier["destination"]).rstrip("/")
        if not f"{inside}/".startswith(f"{place}/"):
            continue
        if not mount.is_bind(earlier.get("type"), earlier.get("options")) or not earlier.get("source"):
            return inside, source
        found = str(earlier["source"])
        found = found if found.startswith("/") else f"{spec.bundle}/{found}"
        return "", found + inside[len(place) :]
    return "", source


def _ranges(mappings: list[IdMapping]) -> str:
    return " ".join(f"{each['containerID']}={each['hostID']}+{each['size']}" for each in mappings)
