"""The id maps of a user namespace: what ``linux.uidMappings`` and ``gidMappings`` must be, and how they are written.

See user_namespaces(7).
"""

from __future__ import annotations

from gosudacon.api import ISOLATE, RUNTIME, ConfigError, Context, Error, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from gosudacon.schema.types import IdMapping

    class _Maps(TypedDict):
        uids: list[IdMapping]
        gids: list[IdMapping]


_MOST = (1 << 32) - 1  # (uid_t)-1 is not an id


class WriteIdMaps(Step):
    """Map the ids of a new user namespace.

    Why: the maps say which of the host's users the container's users are.
    Without it: every id in the container would be the overflow id 65534.
    See: user_namespaces(7); newuidmap(1); runtime-spec config-linux.md, User namespace mappings.
    """

    phase = ISOLATE
    side = RUNTIME
    by = ISOLATE
    uids: list[IdMapping]
    gids: list[IdMapping]
    privileged: bool

    def describe(self) -> str:
        return f"map ids: uid_map {_ranges(self.uids)}, gid_map {_ranges(self.gids)}"

    def run(self, context: Context) -> None:
        if self.privileged:
            identity.write_proc(context.pid, "uid_map", identity.map_text(self.uids))
            identity.write_proc(context.pid, "gid_map", identity.map_text(self.gids))
        elif _is_only(self.uids, posix.geteuid()) and _is_only(self.gids, posix.getegid()):
            identity.write_proc(context.pid, "setgroups", b"deny")
            identity.write_proc(context.pid, "uid_map", identity.map_text(self.uids))
            identity.write_proc(context.pid, "gid_map", identity.map_text(self.gids))
        else:
            self._with_helpers(context.pid)

    def _with_helpers(self, pid: int) -> None:
        from gosudacon.stages.namespaces import helpers

        helpers.write_map("newuidmap", pid, self.uids)
        helpers.write_map("newgidmap", pid, self.gids)


class SetRootIdentity(Step):
    """Be the root of the user namespace that was made or joined.

    Why: in a new user namespace a process has no id until it takes an id that is mapped.
    Without it: it could neither mount nor make nodes in its own namespaces.
    See: user_namespaces(7); setresuid(2).
    """

    phase = ISOLATE
    groups: bool

    def describe(self) -> str:
        return ("setgroups(), " if self.groups else "") + "setresgid(0), setresuid(0) in the user namespace"

    def run(self, context: Context) -> None:
        identity.become(0, 0, [] if self.groups else None)


class CheckIdMaps(Step):
    """A joined user namespace must have the mappings that the configuration states.

    Read by the runtime: init may have joined a mount namespace, whose /proc is anybody's.

    Why: config.json says whom the container's root is on the host, and a joined namespace has its own idea.
    Without it: files would belong to others than the configuration says.
    See: user_namespaces(7); runtime-spec config-linux.md, User namespace mappings.
    """

    phase = ISOLATE
    side = RUNTIME
    by = ISOLATE
    uids: list[IdMapping]
    gids: list[IdMapping]

    def describe(self) -> str:
        return f"check that the joined user namespace maps {_ranges(self.uids)}"

    def run(self, context: Context) -> None:
        for name, wanted in (("uid_map", self.uids), ("gid_map", self.gids)):
            found = identity.read_proc(context.pid, name)
            if wanted and _map_lines(found) != _map_lines(identity.map_text(wanted)):
                raise Error(f"the joined user namespace's {name} is not the one configured", where="linux.uidMappings")


def ids(spec: Spec) -> _Maps:
    return {"uids": spec.linux.get("uidMappings") or [], "gids": spec.linux.get("gidMappings") or []}


def check(spec: Spec, wanted: dict[str, str]) -> None:
    """Raise `ConfigError` unless the mappings and the user namespace of ``wanted`` go together, and each id is mapped
    once: the kernel refuses others, with EINVAL and no word about which."""
    uids, gids = spec.linux.get("uidMappings") or [], spec.linux.get("gidMappings") or []
    if "user" not in wanted and (uids or gids):
        raise ConfigError("id mappings need a user namespace", where="linux.uidMappings")
    if wanted.get("user") == "" and not (uids and gids):
        raise ConfigError("a new user namespace needs uidMappings and gidMappings", where="linux.uidMappings")
    for key, mappings in (("uidMappings", uids), ("gidMappings", gids)):
        _check_ranges([(each["containerID"], each["size"]) for each in mappings], f"linux.{key}", "containerID")
        _check_ranges([(each["hostID"], each["size"]) for each in mappings], f"linux.{key}", "hostID")


def _check_ranges(ranges: list[tuple[int, int]], where: str, side: str) -> None:
    taken: list[tuple[int, int]] = []
    for index, (first, size) in enumerate(ranges):
        place, last = f"{where}[{index}]", first + size - 1
        if size < 1 or last >= _MOST:
            raise ConfigError(f"{size} ids from {side} {first} on go beyond {_MOST - 1}", where=f"{place}.size")
        for other, (low, high) in enumerate(taken):
            if first <= high and low <= last:
                text = f"{side} {max(first, low)} is mapped twice, here and in {where}[{other}]"
                raise ConfigError(text, where=f"{place}.{side}")
        taken.append((first, last))


def _is_only(mappings: list[IdMapping], own: int) -> bool:
    """Whether nothing but the caller's own id is mapped, for which no privilege is needed."""
    return [(each["hostID"], each["size"]) for each in mappings] == [(own, 1)]


def _map_lines(text: bytes) -> list[list[int]]:
    return sorted([int(number) for number in line.split()] for line in text.splitlines())


def _ranges(mappings: list[IdMapping]) -> str:
    return ", ".join(f"{each['containerID']}={each['hostID']}+{each['size']}" for each in mappings) or "unchecked"
