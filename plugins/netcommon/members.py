"""Which containers the plugins ``network`` and ``cni`` connect, and the name by which networks know one. Pure."""

from __future__ import annotations

from gosudacon.api import Host, Spec

# Docker's engine asks for a new network namespace without a path too, and moves its own links into it from a hook
# that calls itself so. With `--network none` there is nothing to move, and nothing must be there.
_DOCKERS_HOOK = "libnetwork-setkey"


def connects(spec: Spec, host: Host) -> bool:
    """Whether the container has a new network namespace that nobody else connects, and the caller may do so.

    A caller without privileges on the host cannot put a link there, and gets what it gets without the plugin.
    """
    return spec.namespaces().get("network") == "" and host.euid == 0 and host.initial_userns and not _is_dockers(spec)


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
