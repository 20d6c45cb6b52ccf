"""Which networks a container gets: those that it names, or the default. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError, Error, Spec
from gosudacon.plugins.netcommon import ports
from gosudacon.plugins.network.settings import NONE, Net, Settings

ANNOTATION = "io.gosudacon.network"
"""Names of networks, with commas between them; counts where the administrator allows it."""


def chosen(spec: Spec, settings: Settings) -> list[Net]:
    """The networks in their order: of the option, else of the annotation where it may ask, else the default.

    Raises `Error` for a name in the option that is none, `ConfigError` for one in the annotation.
    """
    if spec.options.network:
        try:
            return _named([*spec.options.network], settings)
        except ValueError as error:
            raise Error(f"--network {error}", hint=_hint(settings)) from None
    text = ports.annotation(spec, ANNOTATION) if "network" in settings.annotations else ""
    if text:
        try:
            return _named([name.strip() for name in text.split(",")], settings)
        except ValueError as error:
            raise ConfigError(str(error), where=f"annotations.{ANNOTATION}", hint=_hint(settings)) from None
    return _named([settings.default], settings)


def check_unused(spec: Spec, message: str, hint: str) -> None:
    """Raise `Error` if an option asks for what a container that is left alone does not get."""
    for name, given in (("publish", spec.options.publish), ("network", spec.options.network)):
        if given and [*given] != [NONE]:
            raise Error(f"--{name} {given[0]}: {message}", hint=hint)


def _named(names: list[str], settings: Settings) -> list[Net]:
    if names == [NONE]:
        return []
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{name}: the network is named twice")
        if name not in settings.networks:
            raise ValueError(f"{name}: there is no such network" if name != NONE else f"{NONE}: it stands alone")
    return [settings.networks[name] for name in names]


def _hint(settings: Settings) -> str:
    return f"known: {', '.join(settings.networks)}, {NONE}; [stage.network.networks.NAME] makes others known"
