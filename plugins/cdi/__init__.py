"""Plugin ``cdi``: devices by name, from files of the Container Device Interface in /etc/cdi and /var/run/cdi.

May use: `api`, `base`, PyYAML where a specification is written in YAML.
Start with `request`, then `devices` and `injection`.

A container asks for a device with ``--device vendor.com/class=name``, an annotation ``cdi.k8s.io/...`` or, where the
administrator allows it, a variable of its image. Reading the files is gathering facts; what they say is an edit of the
configuration, made from these facts alone. In config.toml::

    plugins = ["cdi"]

See docs/cdi.md. YAML needs PyYAML: ``pip install gosudacon[cdi]``.
"""

from __future__ import annotations

from gosudacon.api import CREATE, EXEC, RESTORE, Edit, Host, Spec, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.api import Features

_RECORD = "org.gosudacon.cdi"  # `record.ANNOTATION`
_ASK = "cdi.k8s."  # of all annotations that ask for devices, as runtime-spec features.md writes the beginning of names


@hookimpl
def gosudacon_features(settings: Mapping[str, object]) -> Features:
    """The annotations that ask for devices, where the administrator allows any."""
    from gosudacon.plugins.cdi.settings import Settings

    return {"potentiallyUnsafeConfigAnnotations": [_ASK] if Settings(settings).annotations else []}


@hookimpl
def gosudacon_gather_facts(spec: Spec, settings: Mapping[str, object]) -> object:
    """The edits of the devices that the container asks for, with what the host says of the nodes; None without any.

    Raises `ConfigError` for a malformed name, and `Error` for a device that is not available.
    """
    if spec.operation not in (CREATE, RESTORE):
        return None  # what the container was given is in its configuration
    from gosudacon.plugins.cdi import request
    from gosudacon.plugins.cdi.settings import Settings

    checked = Settings(settings)
    names = request.asked(spec, checked)
    if not names:
        return None
    from gosudacon.plugins.cdi.devices import Registry

    return {"devices": names, "edits": Registry(checked.directories).resolve(names), "idmap": checked.idmap}


@hookimpl
def gosudacon_edit_spec(spec: Spec, host: Host) -> Edit | None:
    """What the devices bring; for ``exec`` their variables and groups, which the container's first process has."""
    facts = host.facts.get("cdi")
    if spec.operation == EXEC:
        if _RECORD not in (spec.config.get("annotations") or ()):
            return None
        from gosudacon.plugins.cdi import record

        return record.for_process(spec)
    if spec.operation not in (CREATE, RESTORE):
        return None
    if not isinstance(facts, dict):
        annotations: object = spec.config.get("annotations")
        if not isinstance(annotations, dict) or _RECORD not in annotations:
            return None
        return Edit().remove(("annotations", _RECORD))  # it is not ours
    from gosudacon.plugins.cdi.injection import Injection

    return Injection(spec, host, facts["idmap"]).of(facts["devices"], facts["edits"])
