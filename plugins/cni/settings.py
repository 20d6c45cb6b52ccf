"""The administrator's settings: ``[plugin.cni]`` of config.toml."""

from __future__ import annotations

from gosudacon.api import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULTS: dict[str, object] = {
    "network": "",
    "conf_dir": "/etc/cni/net.d",
    "bin_dirs": ["/usr/lib/cni", "/opt/cni/bin"],
    "interface": "eth",
    "args": {},
    "timeout": 60,
    "names": True,
    "annotations": [],
}
#: What annotations may ask for, where the administrator allows it.
ANNOTATIONS = ("publish", "network")
_KINDS = {
    str: "a string",
    list: "a list of strings",
    dict: "a table of strings",
    int: "a number",
    bool: "true or false",
}
_IN_NAMES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
_LONGEST_PREFIX = 13  # of the 15 characters of a link's name


class Settings:
    """Checked settings.

    ``network`` is the name of the one that containers get which do not choose, empty for the first file's;
    ``conf_dir`` the directory of configurations, ``bin_dirs`` those of plug-ins; ``interface`` begins the names of
    links in the container, a number follows; ``args`` is CNI_ARGS; ``timeout`` is for one call, in seconds.
    ``names``: whether containers get files for name servers and names; ``annotations`` what annotations may ask for, of
    `ANNOTATIONS`.
    """

    def __init__(self, given: Mapping[str, object]) -> None:
        """Raises `SettingsError` that names the setting."""
        for name, value in given.items():
            default = _DEFAULTS.get(name)
            if default is None:
                raise error(name, f"is not a setting; known: {', '.join(_DEFAULTS)}")
            if not isinstance(value, type(default)) or isinstance(value, bool) is not isinstance(default, bool):
                raise error(name, f"must be {_KINDS[type(default)]}")
        values = {**_DEFAULTS, **given}
        self.network = str(values["network"])
        self.conf_dir = _path("conf_dir", values["conf_dir"])
        self.bin_dirs = _paths(values["bin_dirs"])
        self.interface = _prefix(str(values["interface"]))
        self.args = _args(values["args"])
        self.timeout = _seconds(values["timeout"])
        self.names = bool(values["names"])
        self.annotations = _annotations(values["annotations"])


def error(name: str, text: str) -> SettingsError:
    """The error about one setting."""
    return SettingsError(f"[plugin.cni] {name} {text}", hint="see docs/cni.md")


def _path(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise error(name, f"must be an absolute path, not {value!r}")
    return value


def _paths(value: object) -> list[str]:
    found = [_path("bin_dirs", each) for each in value] if isinstance(value, (list, tuple)) else []
    if not found:
        raise error("bin_dirs", "is empty: name a directory of plug-ins")
    for path in found:
        if ":" in path:
            raise error("bin_dirs", f"cannot have a colon: {path}, since CNI_PATH separates directories by it")
    return found


def _prefix(value: str) -> str:
    if not value or not _IN_NAMES.issuperset(value) or len(value) > _LONGEST_PREFIX:
        raise error("interface", f"must be 1 to {_LONGEST_PREFIX} letters, digits and _ - . (a number follows)")
    return value


def _args(value: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in value.items() if isinstance(value, dict) else ():
        if not isinstance(text, str) or not name or set("=;\0") & set(name) or set(";\0") & set(text):
            raise error("args", f"{name} must be a string without a semicolon")
        found[name] = text
    return found


def _annotations(value: object) -> list[str]:
    found = [*value] if isinstance(value, (list, tuple)) else []
    for name in found:
        if name not in ANNOTATIONS:
            raise error("annotations", f"has {name!r}, which is none of {', '.join(ANNOTATIONS)}")
    return found


def _seconds(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= 3600:
        raise error("timeout", "must be 1 to 3600 seconds")
    return value
