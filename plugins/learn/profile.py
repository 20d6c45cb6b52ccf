"""The profile that is learnt: the least that a container needs of the one it ran under, and how two are merged."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gosudacon.api import Arg, Seccomp, Syscall

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
#: Actions that let a call through.
LENIENT = (ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_EPERM = 1


def learned(
    source: Seccomp | None, allowed: Iterable[str], refused: Iterable[str], architectures: Iterable[str]
) -> tuple[Seccomp, list[str]]:
    """The least profile under which the same calls have the same outcome, and what it cannot say.

    ``source`` is the profile of the run; ``allowed`` and ``refused`` the names of the calls that were made and let
    through, or not (a call may be both, where its arguments count); ``architectures`` the ones of the programs.
    Every rule is one of the source's, without unused names; what the source allows by default is listed.
    """
    source = source or {"defaultAction": ALLOW}
    passed, held = set(allowed), set(refused)
    default = source.get("defaultAction") or ALLOW
    rules, lost = _kept(source, passed, held, default in LENIENT)
    covered = {name for rule in rules if rule["action"] in LENIENT for name in rule["names"]}
    if default in LENIENT:
        missing = sorted(passed - covered)
        rules = [{"names": missing, "action": ALLOW}, *rules] if missing else rules
        result: Seccomp = {"defaultAction": ERRNO, "defaultErrnoRet": _EPERM}
    else:
        result = {"defaultAction": default}
        if source.get("defaultErrnoRet") is not None:
            result["defaultErrnoRet"] = source["defaultErrnoRet"]
    result["architectures"] = sorted(set(architectures))
    if source.get("flags") is not None:
        result["flags"] = source["flags"]
    result["syscalls"] = _gathered(rules)
    return result, lost


def _kept(source: Seccomp, passed: set[str], held: set[str], lenient: bool) -> tuple[list[Syscall], list[str]]:
    rules: list[Syscall] = []
    lost: list[str] = []
    for rule in source.get("syscalls") or ():
        used = passed if rule["action"] in LENIENT else held
        names = sorted(used.intersection(rule["names"]))
        if names and lenient and rule["action"] not in LENIENT:
            both = sorted(passed.intersection(names)) if rule.get("args") else []
            if both:
                text = "refused for some arguments, which a profile that refuses by default cannot say: allowed whole"
                lost += [f"{name} is {text}" for name in both]
                names = [name for name in names if name not in both]
        if names:
            rules.append({**rule, "names": names})
    return rules, lost


def _gathered(rules: list[Syscall]) -> list[Syscall]:
    """Rules that differ in their names alone made one; what only explains a rule is left out."""
    found: dict[str, Syscall] = {}
    for rule in rules:
        plain: Syscall = {"names": rule["names"], "action": rule["action"]}
        if rule.get("errnoRet") is not None:
            plain["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            plain["args"] = [_short(each) for each in rule["args"]]
        same = found.setdefault(repr([plain["action"], plain.get("errnoRet"), plain.get("args")]), plain)
        same["names"] = sorted({*same["names"], *plain["names"]})
    return list(found.values())


def _short(condition: Arg) -> Arg:
    """Without the second value that planning has filled in, where the operator takes none."""
    if condition.get("valueTwo") or condition["op"] == "SCMP_CMP_MASKED_EQ":
        return condition
    return {"index": condition["index"], "value": condition["value"], "op": condition["op"]}


def merged(old: Seccomp, new: Seccomp) -> Seccomp:
    """``old``, and what ``new`` allows beyond it: nothing that is allowed is taken away, and the default stays."""
    result: Seccomp = {**old}
    result["architectures"] = sorted({*(old.get("architectures") or ()), *(new.get("architectures") or ())})
    rules: list[Syscall] = [{**rule, "names": list(rule["names"])} for rule in old.get("syscalls") or ()]
    for rule in new.get("syscalls") or ():
        lenient = rule["action"] in LENIENT
        for name in rule["names"]:
            if _whole(rules, name) or (not lenient and _names(rules, name)):
                continue
            if lenient and not rule.get("args"):
                _forget(rules, name)
            rules.append({**rule, "names": [name]})
    result["syscalls"] = _gathered(rules)
    return result


def _whole(rules: list[Syscall], name: str) -> bool:
    return any(rule["action"] in LENIENT and not rule.get("args") and name in rule["names"] for rule in rules)


def _names(rules: list[Syscall], name: str) -> bool:
    return any(name in rule["names"] for rule in rules)


def _forget(rules: list[Syscall], name: str) -> None:
    """Take a name out of all rules: one that allows it whatever its arguments is to follow."""
    for rule in rules:
        rule["names"] = [each for each in rule["names"] if each != name]
    rules[:] = [rule for rule in rules if rule["names"]]


def unused(source: Seccomp | None, used: Iterable[str]) -> list[str] | None:
    """The names that the profile lets through and that were not used; None where everything is let through."""
    if source is None or (source.get("defaultAction") or ALLOW) in LENIENT:
        return None
    let = {name for rule in source.get("syscalls") or () if rule["action"] in LENIENT for name in rule["names"]}
    return sorted(let.difference(used))


def check(value: object) -> Seccomp:
    """The profile that was read from a file. Raises ValueError if it is none."""
    if not isinstance(value, dict) or not isinstance(value.get("defaultAction"), str):
        raise ValueError("not a seccomp profile: defaultAction is missing")
    for name, kind in (("syscalls", dict), ("architectures", str), ("flags", str)):
        if not isinstance(value.get(name) or [], list) or not all(
            isinstance(each, kind) for each in value.get(name) or ()
        ):
            raise ValueError(f"not a seccomp profile: {name}")
    for rule in value.get("syscalls") or ():
        if not _is_rule(rule):
            raise ValueError("not a seccomp profile: syscalls has an element without action and names")
    return value  # type: ignore[return-value]


def _is_rule(rule: Mapping[str, object]) -> bool:
    names = rule.get("names")
    return isinstance(rule.get("action"), str) and isinstance(names, list) and all(isinstance(n, str) for n in names)
