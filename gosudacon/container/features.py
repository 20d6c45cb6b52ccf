"""The features structure (runtime-spec features.md): what this runtime and its stages understand."""

from __future__ import annotations

import gosudacon
from gosudacon.base import jsonio
from gosudacon.base.errors import Error, reason
from gosudacon.container.criu import service as criu
from gosudacon.container.state import OCI_VERSION
from gosudacon.pipeline.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.schema.types import Features

OLDEST_VERSION = "1.0.0"
#: The annotation by which callers of runc learn whether checkpoint and restore work on this machine.
CHECKPOINT = "org.opencontainers.runc.checkpoint.enabled"


def features(config: str = "", use_snapshot: bool = True) -> Features:
    """The features of the stages and plugins that the configuration file ``config`` has take part.

    What none of them speaks of is not there, and said to be. Raises `Error` for one whose features are none.
    """
    result = _nothing()
    for who, said in registry(config, use_snapshot).features():
        _merge(result, _said(who, said), who)  # type: ignore[arg-type]
    return result


def _nothing() -> Features:
    """The structure of a runtime without stages, in the order in which it is printed."""
    annotations = {"org.gosudacon.version": gosudacon.__version__, CHECKPOINT: _says(not criu.problem())}
    return {
        "ociVersionMin": OLDEST_VERSION,
        "ociVersionMax": OCI_VERSION,
        "hooks": [],
        "mountOptions": [],
        "linux": {
            "namespaces": [],
            "capabilities": [],
            "cgroup": {"v1": False, "v2": False, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {"enabled": False},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
            "memoryPolicy": {"modes": [], "flags": []},
            "mountExtensions": {"idmap": {"enabled": False}},
            "netDevices": {"enabled": False},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": [],
    }


def _says(yes: bool) -> str:
    return "true" if yes else "false"


def _said(who: str, said: Callable[[], object]) -> Mapping[str, object]:
    try:
        added = said()
        jsonio.dumps(added)
    except Error:
        raise
    except Exception as error:
        raise Error(f"{who}: features: {reason(error)}") from error
    if not isinstance(added, dict):
        raise Error(f"{who}: features: {added!r} is not an object")
    return added


def _merge(into: dict[str, object], added: Mapping[str, object], who: str) -> None:
    for key, value in added.items():
        known = into.get(key)
        if known is None:
            into[key] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value, who)
        elif isinstance(known, list) and isinstance(value, list):
            into[key] = [*known, *(item for item in value if item not in known)]
        elif isinstance(known, bool) and isinstance(value, bool):
            into[key] = known or value
        else:
            raise Error(f"{who}: features: {key} cannot be {value!r} here: it is {known!r} already")
