"""The administrator's settings, ``[stage.learn]`` of config.toml, and which containers they choose."""

from __future__ import annotations

from gosudacon.api import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.api import Spec

ANNOTATION = "io.gosudacon.learn"
#: Where engines write the name of the image.
IMAGES = (
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "org.opencontainers.image.ref.name",
    "io.container.image.name",
)
_LISTS = ("names", "images", "ids")
_KNOWN = ("directory", *_LISTS)
_LONGEST = 64
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_-")


class Settings:
    """``directory``: where profiles go; ``names``: the values of the annotation that are obeyed; ``images`` and
    ``ids``, unless they are empty: only containers of these. An element that ends in ``*`` is a beginning."""

    def __init__(self, given: Mapping[str, object]) -> None:
        """Raises `SettingsError` that names the setting."""
        for name in given:
            if name not in _KNOWN:
                raise _error(name, f"is not a setting; known: {', '.join(_KNOWN)}")
        directory = given.get("directory", "")
        if not isinstance(directory, str) or "\0" in directory or (directory and not directory.startswith("/")):
            raise _error("directory", "must be an absolute path")
        if ".." in directory.split("/"):
            raise _error("directory", "must be an absolute path without ..")
        self.directory = directory.rstrip("/")
        self.names, self.images, self.ids = (_strings(name, given.get(name, [])) for name in _LISTS)
        if self.names and not directory:
            raise _error("directory", "is missing: where are the profiles to go?")

    def profile(self, spec: Spec) -> tuple[str, str]:
        """The file for a container's profile, or an empty string; and why its annotation is not obeyed, if it is not.

        The container, and who made its bundle, choose nothing but a name: one that the administrator has listed.
        """
        annotations = spec.config.get("annotations") or {}
        name = annotations.get(ANNOTATION)
        if name is None:
            return "", ""
        if not is_name(name):
            return "", f"{name[:_LONGEST]!r} is not a name of letters, digits, _ and -"
        if not _matches(self.names, name):
            return "", f"the administrator does not allow the name {name!r}"
        if self.images and not any(_matches(self.images, annotations.get(key) or "") for key in IMAGES):
            return "", "the administrator does not allow it for this image"
        if self.ids and not _matches(self.ids, spec.id):
            return "", "the administrator does not allow it for this id"
        return f"{self.directory}/{name}.json", ""


def is_name(name: str) -> bool:
    """Whether it can be the name of a profile: no dot and no slash, so no path and no file of another kind."""
    return bool(name) and len(name) <= _LONGEST and name[0] in _FIRST and _REST.issuperset(name)


def _matches(patterns: list[str], text: str) -> bool:
    return any(text.startswith(each[:-1]) if each.endswith("*") else text == each for each in patterns if text)


def _strings(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise _error(name, "must be a list of strings")
    return value


def _error(name: str, text: str) -> SettingsError:
    return SettingsError(f"[stage.learn] {name} {text}", hint="see docs/learn.md")
