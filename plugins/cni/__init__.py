"""Stage ``cni``: a container gets the networks of the host's CNI configuration, through the standard plug-ins.

May use: `api`, `base`, `netcommon`.
Start with `Cni.plan`, then `steps`, `calls` and `record`.

Reading /etc/cni/net.d is gathering facts; which step calls which plug-in is planned from these alone. In config.toml::

    plugins = ["cni"]

See docs/cni.md. The plug-ins are programs of the host: Debian's package containernetworking-plugins.
"""

from __future__ import annotations

from gosudacon.api import CREATE, RESTORE, Error, Host, Plan, PlanWarning, SettingsError, Spec, Stage, Step, hookimpl
from gosudacon.plugins.cni.document import PORT_MAPPINGS, can
from gosudacon.plugins.cni.steps import AddNetwork, PinNamespace, WriteNames, WriteNote
from gosudacon.plugins.netcommon import members, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gosudacon.api import Features
    from gosudacon.plugins.cni.record import Attachment
    from gosudacon.plugins.cni.request import Wanted

_ANNOTATIONS = {"publish": ports.ANNOTATION, "network": members.ANNOTATION}  # setting -> what it allows


class Cni(Stage):
    """Connects new network namespaces; those that are joined or shared are left alone."""

    name = "cni"
    after = ("namespaces",)
    before = ("hooks",)
    keys = ("linux.namespaces",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `SettingsError` for settings in the wrong place."""
        if self.settings:
            raise SettingsError("[stage.cni] has settings; they belong into [plugin.cni]", hint="see docs/cni.md")
        wanted: Wanted | None = host.facts.get("cni")  # type: ignore[assignment]  # what the hook has given
        if wanted is None:
            return
        for word, annotation in _ANNOTATIONS.items():
            if word not in wanted["annotations"]:
                yield from ports.ignored(spec, annotation, f'annotations = ["{word}"] in [plugin.cni]')
        if wanted["missing"]:
            message = f"{wanted['missing']}; the container has its networks nevertheless, and its note says which"
            yield PlanWarning(message=message, where=members.where(spec))
        if wanted["names"]:
            from gosudacon.plugins.netcommon import files

            yield from files.steps(spec, host)
        place = members.where(spec)
        yield WriteNote(
            container=members.identity(spec),
            bin_dirs=wanted["bin_dirs"],
            timeout=wanted["timeout"],
            args=wanted["args"],
            attachments=wanted["attachments"],
            ports=wanted["ports"],
            publishes=wanted["publishes"],
            where=place,
        )
        yield PinNamespace(where=place)
        for index, attachment in enumerate(wanted["attachments"]):
            yield from _chain(index, attachment, wanted["ports"] if index == wanted["publishes"] else [], place)
        if wanted["names"]:
            yield WriteNames(names=members.names(spec), where=place)

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The files that the images have mounted; networks are not made again, and so name servers are the host's."""
        facts = host.facts.get("cni")
        if isinstance(facts, dict) and facts.get("names"):
            from gosudacon.plugins.netcommon import files

            yield from files.restoring(spec, [], [], [])


def _chain(index: int, attachment: Attachment, published: Sequence[str], place: str) -> Iterator[Step]:
    count = len(attachment["plugins"])
    for number, plugin in enumerate(attachment["plugins"]):
        yield AddNetwork(
            attachment=index,
            plugin=number,
            network=attachment["name"],
            kind=str(plugin["type"]),
            interface=attachment["interface"],
            ports=[*published] if can(plugin, PORT_MAPPINGS) else [],
            last=number == count - 1,
            where=place,
        )


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [Cni()]


@hookimpl
def gosudacon_features(settings: Mapping[str, object]) -> Features:
    """The annotations that choose networks and ports of the host, where the administrator allows it."""
    from gosudacon.plugins.cni.settings import Settings

    allowed = Settings(settings).annotations
    return {"potentiallyUnsafeConfigAnnotations": [text for word, text in _ANNOTATIONS.items() if word in allowed]}


@hookimpl
def gosudacon_gather_facts(spec: Spec, host: Host, settings: Mapping[str, object]) -> Wanted | dict[str, bool] | None:
    """The networks of the container with what their files say; None for one that others connect.

    For one that is restored, ``names`` alone.

    Raises `SettingsError`, and `Error` for a network or a plug-in that cannot be had.
    """
    from gosudacon.plugins.cni.settings import Settings

    checked = Settings(settings)
    if spec.operation == RESTORE:
        return {"names": checked.names and members.connects(spec, host)}
    if spec.operation != CREATE:
        return None  # what the container was given is in its note
    if not members.connects(spec, host):
        members.check_left_alone(spec, "cni")
        return None
    from gosudacon.plugins.cni import request

    return request.wanted(spec, checked)


@hookimpl
def gosudacon_amend_plan(plan: Plan) -> None:
    """Refuse to share a container with the plugin ``network``: both would make eth0."""
    if plan.of_stage("cni") and plan.of_stage("network"):
        raise Error(
            "the plugins cni and network would both connect the container",
            hint="enable one of them: plugins in the administrator's configuration",
        )
