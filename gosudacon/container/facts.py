"""The facts about a machine as a file: ``gosudacon host`` writes it, ``explain --host`` plans with it.

The file is that of this command, or the JSON of a plan, which holds the facts that it was made with.
"""

from __future__ import annotations

from gosudacon import __version__
from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import host as hosts
from gosudacon.pipeline.spec import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST = 1 << 20  # bytes
_MODES = ("v1", "hybrid", "v2")
_MOST_ID = (1 << 32) - 2


def this() -> str:
    """The facts about this machine, as JSON."""
    return dumps(hosts.gather())


def dumps(host: Host) -> str:
    """The facts as JSON: ``gosudacon`` (the version), ``host``, and ``assumed``, what could not be found out."""
    return jsonio.dumps({"gosudacon": __version__, "host": host.known(), "assumed": list(host.assumed)}, 2) + "\n"


def load(path: str) -> Host:
    """The host of a file. What it does not say is assumed, and listed so. Raises `Error` that names file and fact."""
    try:
        text = posix.read_file(path, _LARGEST + 1)
    except OSError as error:
        raise Error(f"open {path}: {reason(error)}") from error
    if len(text) > _LARGEST:
        raise Error(f"{path}: larger than 1 MiB")
    try:
        data = jsonio.loads(text)
    except jsonio.JSONError as error:
        raise Error(f"{path}: invalid JSON: {error}") from None
    facts = data.get("host") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(facts, dict):
        raise Error(f"{path}: not the facts about a host", hint="`gosudacon host` writes them")
    assumed = data.get("assumed", [])
    if not _is_list_of_str(assumed):
        raise Error(f"{path}: assumed: expected a list of strings")
    return _host(path, facts, [*assumed])


def _host(path: str, facts: Mapping[str, object], assumed: list[str]) -> Host:
    host = Host()
    for name, value in facts.items():
        if name not in _FACTS:
            raise Error(f"{path}: host.{name}: unknown; known: {', '.join(_FACTS)}")
        wanted, fits = _FACTS[name]
        if not fits(value):
            raise Error(f"{path}: host.{name}: expected {wanted}, found {jsonio.dumps(value)[:60]}")
        setattr(host, name, tuple(value) if isinstance(value, list) else value)
    for name in _FACTS:
        if name not in facts:
            assumed.append(f"{name} {jsonio.dumps(vars(host)[name])}: {path} does not say")
    host.assumed = tuple(assumed)
    return host


def _is_list_of_str(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_kernel(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) is int and 0 <= each < 1000 for each in value)


def _is_paths(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) and each.startswith("/") for each in value.values())


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_ID


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_mode(value: object) -> bool:
    return value in _MODES


_BOOL = ("true or false", _is_bool)
_PATHS = ("an object of absolute paths by controller", _is_paths)
_FACTS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "kernel": ("two numbers such as [6, 1]", _is_kernel),
    "euid": ("the id of a user", _is_id),
    "initial_userns": _BOOL,
    "clone3": _BOOL,
    "cgroup_mode": (f"one of {', '.join(_MODES)}", _is_mode),
    "cgroup_mounts": _PATHS,
    "own_cgroups": _PATHS,
    "cgroup_roots": _PATHS,
    "systemd": _BOOL,
    "apparmor": _BOOL,
    "selinux": _BOOL,
}
