"""What rules can say about the host: its paths, filesystems, namespaces, sysctls and hooks. Pure, as `process`."""

from __future__ import annotations

from gosudacon.plugins.policy import paths, patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.policy.rules import Found, Subject

KINDS = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time")


def deny_paths(denied: object, subject: Subject) -> Iterator[Found]:
    """No mount of these, of what is in them, or of what they are in; and no root filesystem that they are in."""
    listed = _listed(denied)
    for where, path, _ in paths.named(subject.spec):
        each = _resolved(path, subject)
        hit = [other for other in listed if paths.is_below(each, other) or paths.is_below(other, each)]
        if hit:
            yield where, f"is {_told(path, each)}{'' if each == hit[0] else f', and {hit[0]} is denied'}"
    for each in _roots(subject):
        hit = [other for other in listed if paths.is_below(other, each)]
        if hit:
            yield "root.path", f"is {each}{'' if each == hit[0] else f', and {hit[0]} is denied'}"
            break


def allow_paths(allowed: object, subject: Subject) -> Iterator[Found]:
    """No mount of anything else than these and what is in them."""
    yield from _outside(_listed(allowed), subject, writable_only=False)


def allow_writable_paths(allowed: object, subject: Subject) -> Iterator[Found]:
    """Nothing else can be written to."""
    yield from _outside(_listed(allowed), subject, writable_only=True)


def _outside(allowed: list[str], subject: Subject, writable_only: bool) -> Iterator[Found]:
    for where, path, writable in paths.named(subject.spec):
        if writable_only and not writable:
            continue
        each = _resolved(path, subject)
        if not any(paths.is_below(each, other) for other in allowed):
            yield where, f"is {_told(path, each)}{', and can be written to' if writable_only else ''}"


def allow_roots(allowed: object, subject: Subject) -> Iterator[Found]:
    """The root filesystem is in one of these."""
    for each in _roots(subject):
        if not any(paths.is_below(each, other) for other in _listed(allowed)):
            yield "root.path", f"is {each}"
            return


def _roots(subject: Subject) -> list[str]:
    resolved = subject.facts.get("root")
    written = paths.clean(subject.spec.rootfs)
    return [written, resolved] if isinstance(resolved, str) and resolved not in ("", written) else [written]


def _resolved(path: str, subject: Subject) -> str:
    """A path without links, where it is known what it leads to; else as it is written."""
    known = subject.facts.get("paths")
    found = known.get(path) if isinstance(known, dict) else ""
    return found or paths.clean(path)


def _told(path: str, resolved: str) -> str:
    return resolved if paths.clean(path) == resolved else f"{path}, which is {resolved}"


def allow_filesystems(allowed: object, subject: Subject) -> Iterator[Found]:
    """No mount of another type; bind mounts are not meant."""
    for where, kind in _filesystems(subject):
        if kind not in _listed(allowed):
            yield where, f"is {kind!r}"


def deny_filesystems(denied: object, subject: Subject) -> Iterator[Found]:
    """No mount of these types."""
    for where, kind in _filesystems(subject):
        if kind in _listed(denied):
            yield where, f"is {kind!r}"


def _filesystems(subject: Subject) -> Iterator[tuple[str, str]]:
    for index, mount in enumerate(subject.spec.config.get("mounts") or ()):
        if not paths.is_bind(mount):
            yield f"mounts[{index}].type", mount.get("type", "")


def namespace_kinds(value: object) -> object:
    """The setting. Raises `patterns.Wrong`."""
    return patterns.one_of(KINDS, value)


def deny_host_namespaces(denied: object, subject: Subject) -> Iterator[Found]:
    """None of the host's namespaces of these kinds, neither by default nor by path."""
    shared = subject.shared()
    for kind in _listed(denied):
        if kind in shared and not (kind == "user" and not subject.host.initial_userns):
            yield shared[kind], f"the {kind} namespace is the host's"


def allow_sysctls(allowed: object, subject: Subject) -> Iterator[Found]:
    """No other kernel parameter is set."""
    for name in subject.spec.linux.get("sysctl") or {}:
        if not patterns.among(_listed(allowed), name.replace("/", ".")):
            yield f"linux.sysctl.{name}", "is set"


def allow_hooks(allowed: object, subject: Subject) -> Iterator[Found]:
    """No other program is run on the host."""
    hooks: object = subject.spec.config.get("hooks")
    for kind, programs in hooks.items() if isinstance(hooks, dict) else ():
        for index, hook in enumerate(programs or ()):
            path = paths.clean(hook.get("path", ""))
            if not patterns.among(_listed(allowed), path):
                yield f"hooks.{kind}[{index}].path", f"is {path}"


def deny_annotations(denied: object, subject: Subject) -> Iterator[Found]:
    """None of these annotations, which steer runtimes or systemd."""
    there: object = subject.spec.config.get("annotations")
    for name in there if isinstance(there, dict) else ():
        if patterns.among(_listed(denied), name):
            yield f"annotations.{name}", "is there"


def labels(wanted: object, subject: Subject) -> Iterator[Found]:
    """Annotations that must be there, with values that match."""
    there: object = subject.spec.config.get("annotations")
    for name, pattern in wanted.items() if isinstance(wanted, dict) else ():
        value = there.get(name) if isinstance(there, dict) else None
        if value is None:
            yield "annotations", f"has no {name}"
        elif not patterns.matches(pattern, value):
            yield f"annotations.{name}", f"is {value!r}, not {pattern}"


def _listed(value: object) -> list[str]:
    return value if isinstance(value, list) else []
