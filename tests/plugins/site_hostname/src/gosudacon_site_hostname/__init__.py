"""A stage instead of ``namespaces``: host names of containers lie below the domain of the site."""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec, Stage, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.api import Features


class SiteHostname(Stage):
    """The stage it replaces, given another host name. Setting: ``domain``."""

    name = "site-hostname"

    def plan(self, spec: Spec, host: Host) -> Iterable[Step]:
        """Raises `ConfigError` without the setting, and where it replaces no stage."""
        if self.replaced is None:
            raise ConfigError(
                "stage site-hostname replaces no stage", hint='config.toml: [replace] namespaces = "site-hostname"'
            )
        domain = self.settings.get("domain")
        if not isinstance(domain, str) or not domain:
            raise ConfigError("config.toml: [stage.site-hostname] needs a domain")
        name = spec.config.get("hostname")
        if name:
            spec = spec.replace(config={**spec.config, "hostname": f"{name}.{domain}"})
        return self.replaced.plan(spec, host)

    def features(self) -> Features:
        """Those of the stage it replaces."""
        return self.replaced.features() if self.replaced else {}


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [SiteHostname()]
