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


def asked(spec: Spec, annotations: bool, hint: str = "") -> list[str]:
    """The names of the networks, of the option, else of the annotation if it may ask; empty if nobody asks.

    [`NONE`] stands for no network. Raises `Error` for the option, `ConfigError` for the annotation, with ``hint``.
    """
    given = [*spec.options.network]
    text = ports.annotation(spec, ANNOTATION) if annotations and not given else ""
    names = given or [name.strip() for name in text.split(",") if name.strip()]
    for index, name in enumerate(names):
        if name == NONE and names[1:]:
            raise refusal(spec, f"{NONE}: it stands alone", hint)
        if name in names[:index]:
            raise refusal(spec, f"{name}: the network is named twice", hint)
    return names


def refusal(spec: Spec, message: str, hint: str = "") -> Error:
    """The error about a network that is asked for: of the option or, where that asks for none, of the annotation."""
    if spec.options.network:
        return Error(f"--network {message}", hint=hint)
    return ConfigError(message, where=f"annotations.{ANNOTATION}", hint=hint)


def identity(spec: Spec, *more: str) -> str:
    """A name that is the same for every plan of this container, and no other's; it can be that of a link.

    Ids are unique below one ``--root`` only, hence the hash over more than the id. ``more`` tells several apart.
    """
    try:
        from _blake2 import blake2s  # hashlib would load OpenSSL
    except ImportError:
        from hashlib import blake2s
    identity = "\0".join((spec.options.root, spec.id, spec.bundle, *more))
    return "gsd" + blake2s(identity.encode(errors="surrogateescape"), digest_size=6).hexdigest()


def names(spec: Spec) -> list[str]:
    """The container's own names: its hostname and its id, those of them that a hosts file can have."""
    return [*dict.fromkeys(name for name in (spec.config.get("hostname") or "", spec.id) if _fits(name))]


def where(spec: Spec) -> str:
    """The place in config.json that asks for the network."""
    kinds = [entry["type"] for entry in spec.linux["namespaces"]]
    return f"linux.namespaces[{kinds.index('network')}]"


def _is_dockers(spec: Spec) -> bool:
    hooks = spec.config.get("hooks") or {}
    calls = [*(hooks.get("prestart") or ()), *(hooks.get("createRuntime") or ())]
    return any(_DOCKERS_HOOK in (call.get("args") or ()) for call in calls)


def _fits(name: str) -> bool:
    return bool(name) and name.isascii() and name.isprintable() and not {" ", "#"}.intersection(name)
