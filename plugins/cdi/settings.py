"""The administrator's settings: ``[plugin.cdi]`` of config.toml."""

from __future__ import annotations

from gosudacon.api import SettingsError
from gosudacon.plugins.cdi import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN = ("directories", "annotations", "environment", "idmap")


class Settings:
    """Checked settings.

    ``directories`` of specification files, the one that counts most last; ``annotations``: the kinds of devices that
    annotations may ask for, as `allows` reads them; ``environment``: variable of the image -> the kind of device that
    it may ask for; ``idmap``: whether bind mounts in a user namespace are mapped into it.
    """

    def __init__(self, given: Mapping[str, object]) -> None:
        """Raises `SettingsError` that names the setting."""
        for name in given:
            if name not in _KNOWN:
                raise _error(name, f"is not a setting; known: {', '.join(_KNOWN)}")
        self.directories = _texts("directories", given.get("directories", ["/etc/cdi", "/var/run/cdi"]))
        for path in self.directories:
            if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
                raise _error("directories", f"must be absolute paths, not {path!r}")
        self.annotations = _texts("annotations", given.get("annotations", ["*"]))
        for pattern in self.annotations:
            if pattern != "*":
                _check_kind("annotations", pattern.removesuffix("*") + "x" * pattern.endswith("/*"))
        self.environment = _table("environment", given.get("environment", {}))
        for kind in self.environment.values():
            _check_kind("environment", kind)
        idmap = given.get("idmap", True)
        if not isinstance(idmap, bool):
            raise _error("idmap", "must be true or false")
        self.idmap = idmap

    def allows(self, kind: str) -> bool:
        """Whether an annotation may ask for a device of this kind: ``*``, ``vendor.com/*`` or the kind is listed."""
        vendor = kind.partition("/")[0]
        return not {"*", f"{vendor}/*", kind}.isdisjoint(self.annotations)


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _error(name, "must be a list of strings")
    return [*value]


def _table(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _error(name, "must be a table: variable = kind of device")
    return {**value}


def _check_kind(name: str, kind: str) -> None:
    try:
        names.check_kind(kind)
    except ValueError as error:
        raise _error(name, f": {error}") from None


def _error(name: str, text: str) -> SettingsError:
    return SettingsError(f"[plugin.cdi] {name} {text}".replace(" : ", ": "), hint="see docs/cdi.md")
