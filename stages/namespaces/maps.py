"""What ``linux.uidMappings`` and ``linux.gidMappings`` must be (user_namespaces(7))."""

from __future__ import annotations

from gosudacon.api import ConfigError, Spec

_MOST = (1 << 32) - 1  # (uid_t)-1 is not an id


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
