"""Read the resource limits given to ``update``, and merge them with the container's."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.schema.types import Resources

    Members = dict[str, object]

_R = "linux.resources"
#: Values that the kernel takes together: who changes one states the other again.
_PAIRS = {"memory": ("limit", "swap"), "cpu": ("quota", "period")}
_SECTIONS = ("memory", "cpu", "pids", "blockIO", "network", "rdma", "unified")
_ZERO_COUNTS = ("burst", "idle", "swappiness")
#: Lists of which an entry replaces the one with the same key.
_KEYS = {
    "hugepageLimits": ("pageSize",),
    "priorities": ("name",),
    **{f"throttle{kind}Device": ("major", "minor") for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")},
    "weightDevice": ("major", "minor"),
}


def read(path: str, stdin: int = 0) -> Resources:
    """The JSON object in a file, or in the descriptor ``stdin`` for ``-``. Raises `Error` or OSError."""
    data = b""
    if path != "-":
        data = posix.read_file(path, jsonio.SIZE_LIMIT + 1)
    else:
        while len(data) <= jsonio.SIZE_LIMIT and (chunk := posix.read(stdin, 1 << 20)):
            data += chunk
    what = "standard input" if path == "-" else path
    if len(data) > jsonio.SIZE_LIMIT:
        raise Error(f"{what}: larger than 16 MiB")
    try:
        value = jsonio.loads(data)
    except jsonio.JSONError as error:
        raise Error(f"invalid resources in {what}: {error}") from error
    if not isinstance(value, dict):
        raise Error(f"invalid resources in {what}: not a JSON object")
    value = jsonio.without_nulls(value)
    verdict.normal(value, "config", _R)
    return value  # type: ignore[return-value]  # for the validator to say


def merge(current: Mapping[str, object], given: Mapping[str, object]) -> tuple[Resources, Resources]:
    """(all limits the container then has, those that are to be written), of ``linux.resources`` in config.json.

    What is not given stays: an absent member, null, and 0 where it means "not set" (memory, CPU, block I/O).
    A memory limit taken away takes the swap limit with it. Device rules cannot be changed, and are left out.
    Raises `ConfigError` for an object or a list that is none; other types are the schema's business.
    """
    merged = dict(current)
    changed: Members = {}
    for name, value in given.items():
        if value is None:
            continue
        if name == "hugepageLimits":
            changed[name] = value
            merged[name] = _upsert(current.get(name), value, _KEYS[name], f"{_R}.{name}")
        elif name not in _SECTIONS:  # device rules, and what a newer caller may know
            continue
        elif not isinstance(value, dict):
            raise ConfigError(f"{name} must be an object", where=f"{_R}.{name}")
        else:
            _merge_section(name, _members(current.get(name)), value, merged, changed)
    return merged, changed  # type: ignore[return-value]  # for the validator to say


def _merge_section(name: str, old: Members, value: Members, merged: Members, changed: Members) -> None:
    new = {key: each for key, each in value.items() if not _unset(name, key, each)}
    if not new:
        return
    result = {**old, **new}
    for key in new:
        if key in _KEYS:
            result[key] = _upsert(old.get(key), new[key], _KEYS[key], f"{_R}.{name}.{key}")
    written = dict(new)
    first, second = _PAIRS.get(name, ("", ""))
    for one, other in ((first, second), (second, first)):
        if one in new and other not in new and old.get(other):
            written[other] = old[other]
    if name == "memory" and new.get("limit") == -1 and "swap" not in new:
        written.pop("swap", None)
        result.pop("swap", None)
    merged[name], changed[name] = result, written


def _members(value: object) -> Members:
    return value if isinstance(value, dict) else {}


def _unset(section: str, key: str, value: object) -> bool:
    if value is None:
        return True
    if value != 0 or isinstance(value, bool) or section in ("unified", "rdma"):
        return False
    return not (section == "pids" or key in _ZERO_COUNTS)


def _upsert(old: object, new: object, keys: tuple[str, ...], where: str) -> list[Members]:
    if not isinstance(new, list) or not all(isinstance(entry, dict) for entry in new):
        raise ConfigError("must be a list of objects", where=where)
    taken = [[entry.get(key) for key in keys] for entry in new]
    return [
        entry for entry in (old if isinstance(old, list) else ()) if [entry.get(key) for key in keys] not in taken
    ] + new
