"""Specs and hosts to plan with: plain values, the same on every machine."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from gosudacon.api import Host, Spec
from gosudacon.container.template import default_spec


def merged(into: object, changes: object) -> object:
    """``into`` with ``changes``: of two objects member by member; None takes a member away."""
    if not isinstance(into, dict) or not isinstance(changes, Mapping):
        return copy.deepcopy(changes)
    result = dict(into)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def spec(
    changes: Mapping[str, object] | None = None, *, id: str = "web", bundle: str = "/srv/web", operation: str = ""
) -> Spec:
    """The bundle that ``gosudacon spec`` writes, without a terminal and with ``changes`` merged into it."""
    config = merged(default_spec(cgroup_v2=True), {"process": {"terminal": False}})
    return Spec(merged(config, changes or {}), id, bundle, operation=operation)  # type: ignore[arg-type]


def host(**facts: object) -> Host:
    """A host: Linux 6.1, root, cgroup v2; ``facts`` are attributes of `Host`."""
    return Host(**facts)  # type: ignore[arg-type]
