"""What rules can say about processes, users and what confines them. Pure.

Each check gives (place in config.json, what is wrong) for everything that is; `rules.CHECKS` lists them.
"""

from __future__ import annotations

from gosudacon.plugins.policy import patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gosudacon.plugins.policy.rules import Found, Subject

_SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")
_DENYING = ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "NOTIFY")
_MASKED, _READ_ONLY = ("/proc/kcore", "/proc/keys"), ("/proc/sys", "/proc/sysrq-trigger")
#: The words of ``require`` that hold for each process, of `exec` as well.
OF_PROCESSES = ("no-new-privileges", "non-root-user", "access-control")


def require(wanted: object, subject: Subject) -> Iterator[Found]:
    """What must be there."""
    for word in wanted if isinstance(wanted, list) else ():
        if subject.is_whole or word in OF_PROCESSES:
            yield from _REQUIRED[word](subject)


def require_words(value: object) -> object:
    """The setting. Raises `patterns.Wrong`."""
    return patterns.one_of(_REQUIRED, value)


def _no_new_privileges(subject: Subject) -> Iterator[Found]:
    if not subject.spec.process.get("noNewPrivileges"):
        yield "process.noNewPrivileges", "is not true"


def _non_root(subject: Subject) -> Iterator[Found]:
    if not (subject.spec.process.get("user") or {}).get("uid"):
        yield "process.user.uid", "is 0, root's"


def _access_control(subject: Subject) -> Iterator[Found]:
    process = subject.spec.process
    profile = process.get("apparmorProfile") or ""
    if not process.get("selinuxLabel") and profile.removeprefix("unconfined") == "":
        yield "process.apparmorProfile", f"is {profile!r}, and there is no selinuxLabel"


def _seccomp(subject: Subject) -> Iterator[Found]:
    profile = subject.spec.linux.get("seccomp") or {}
    actions = [profile.get("defaultAction"), *(rule.get("action") for rule in profile.get("syscalls") or ())]
    if not any(action == f"SCMP_ACT_{name}" for action in actions for name in _DENYING):
        yield "linux.seccomp", "denies no system call" if profile else "is not there"


def _user_namespace(subject: Subject) -> Iterator[Found]:
    if not subject.host.initial_userns:
        return  # the caller is in one
    shared = subject.shared()
    if "user" in shared:
        yield shared["user"], "has no user namespace but the host's"
    linux = subject.spec.linux
    for name, mappings in (("uidMappings", linux.get("uidMappings")), ("gidMappings", linux.get("gidMappings"))):
        for index, mapping in enumerate(mappings or ()):
            if mapping.get("hostID") == 0 and mapping.get("size"):
                yield f"linux.{name}[{index}]", "maps the host's root"


def _read_only_root(subject: Subject) -> Iterator[Found]:
    if not (subject.spec.config.get("root") or {}).get("readonly"):
        yield "root.readonly", "is not true"


def _masked(subject: Subject) -> Iterator[Found]:
    for name, least in (("maskedPaths", _MASKED), ("readonlyPaths", _READ_ONLY)):
        there: object = subject.spec.linux.get(name)
        missing = [path for path in least if not isinstance(there, list) or path not in there]
        if missing:
            yield f"linux.{name}", f"has no {' and no '.join(missing)}"


_REQUIRED: dict[str, Callable[[Subject], Iterator[Found]]] = {
    "no-new-privileges": _no_new_privileges,
    "non-root-user": _non_root,
    "access-control": _access_control,
    "seccomp": _seccomp,
    "user-namespace": _user_namespace,
    "read-only-root": _read_only_root,
    "masked-paths": _masked,
}


def capability_names(value: object) -> object:
    """A setting that lists capabilities, with or without CAP_. Raises `patterns.Wrong`."""
    return [f"CAP_{name.upper().removeprefix('CAP_')}" for name in patterns.words(value)]


def allow_capabilities(allowed: object, subject: Subject) -> Iterator[Found]:
    """No other capability in any set."""
    names = allowed if isinstance(allowed, list) else []
    return _capabilities(subject, lambda name: not patterns.among(names, name))


def deny_capabilities(denied: object, subject: Subject) -> Iterator[Found]:
    """None of these in any set."""
    names = denied if isinstance(denied, list) else []
    return _capabilities(subject, lambda name: patterns.among(names, name))


def _capabilities(subject: Subject, is_wrong: Callable[[str], bool]) -> Iterator[Found]:
    """Each capability once, in the first set that has it."""
    sets = subject.spec.process.get("capabilities")
    if sets is None:
        yield "process.capabilities", "is absent, which leaves root all of them"
        return
    seen: set[str] = set()
    for key in _SETS:
        held: object = sets.get(key)
        names = [str(name).upper() for name in held] if isinstance(held, list) else []
        wrong = [name for name in names if name not in seen and is_wrong(name)]
        seen.update(wrong)
        if wrong:
            yield f"process.capabilities.{key}", f"has {', '.join(wrong)}"
