"""Which containers the plugins ``network`` and ``cni`` connect, to what, and how networks name one. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError, Error, Host, Spec
from gosudacon.plugins.netcommon import ports

NONE = "none"
"""In the place of a network's name: the container gets none."""

ANNOTATION = "io.gosudacon.network"
"""Names of networks, with commas between them; counts where the administrator allows it."""

# Docker's engine asks for a new network namespace without a path too, and moves its own links into it from a hook
# that calls itself so. With `--network none` there is nothing to move, and nothing must be there.
_DOCKERS_HOOK = "libnetwork-setkey"


def connects(spec: Spec, host: Host) -> bool:
    """Whether the container has a new network namespace that nobody else connects, and the caller may do so.

    A caller without privileges on the host cannot put a link there, and gets what it gets without the plugin.
    """
    return spec.namespaces().get("network") == "" and host.euid == 0 and host.initial_userns and not _is_dockers(spec)


def check_left_alone(spec: Spec, plugin: str) -> None:
    """Raise `Error` if an option asks for what a container that is not connected does not get."""
    for name, given in (("publish", spec.options.publish), ("network", spec.options.network)):
        if given and [*given] != [NONE]:
            raise Error(
                f"--{name} {given[0]}: the plugin {plugin} does not connect this container",
                hint="it connects those with a new network namespace, made by the host's root, not by Docker",
            )


def asked(spec: Spec, annotations: bool) -> list[str]:
    """The names of the networks, of the option, else of the annotation if it may ask; empty if nobody asks.

    [`NONE`] stands for no network. Raises `Error` for the option, `ConfigError` for the annotation.
    """
    given = [*spec.options.network]
    text = ports.annotation(spec, ANNOTATION) if annotations and not given else ""
    names = given or [name.strip() for name in text.split(",") if name.strip()]
    for index, name in enumerate(names):
        problem = "stands alone" if name == NONE and names[1:] else "is named twice" if name in names[:index] else ""
        if problem and given:
            raise Error(f"--network {name} {problem}")
        if problem:
            raise ConfigError(f"network {name} {problem}", where=f"annotations.{ANNOTATION}")
    return names


def identity(spec: Spec) -> str:
    """A name that is the same for every plan of this container, and no other's; it can be that of a link.

    Ids are unique below one ``--root`` only, hence the hash over more than the id.
    """
    try:
        from _blake2 import blake2s  # hashlib would load OpenSSL
    except ImportError:
        from hashlib import blake2s
    identity = "\0".join((spec.options.root, spec.id, spec.bundle))
    return "gsd" + blake2s(identity.encode(errors="surrogateescape"), digest_size=6).hexdigest()


def where(spec: Spec) -> str:
    """The place in config.json that asks for the network."""
    kinds = [entry["type"] for entry in spec.linux["namespaces"]]
    return f"linux.namespaces[{kinds.index('network')}]"


def _is_dockers(spec: Spec) -> bool:
    hooks = spec.config.get("hooks") or {}
    calls = [*(hooks.get("prestart") or ()), *(hooks.get("createRuntime") or ())]
    return any(_DOCKERS_HOOK in (call.get("args") or ()) for call in calls)
