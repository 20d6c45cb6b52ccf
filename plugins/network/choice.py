"""Which networks a container gets: those that it names, or the default. Pure."""

from __future__ import annotations

from gosudacon.api import Spec
from gosudacon.plugins.netcommon.members import NONE, asked, refusal
from gosudacon.plugins.network.settings import Net, Settings


def chosen(spec: Spec, settings: Settings) -> list[Net]:
    """The networks in their order: of the option, else of the annotation where it may ask, else the default.

    Raises `Error` for a name in the option that is none, `ConfigError` for one in the annotation.
    """
    hint = f"known: {', '.join(settings.networks)}, {NONE}; [stage.network.networks.NAME] makes others known"
    names = asked(spec, "network" in settings.annotations, hint) or [settings.default]
    if names == [NONE]:
        return []
    for name in names:
        if name not in settings.networks:
            raise refusal(spec, f"{name}: no network has this name", hint)
    return [settings.networks[name] for name in names]
