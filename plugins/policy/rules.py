"""The administrator's rules: ``[stage.policy]`` of config.toml, checked, and held against a configuration. Pure."""

from __future__ import annotations

from gosudacon.api import ADD_MOUNTS, CREATE, EXEC, RESTORE, UPDATE, Host, SettingsError, Spec
from gosudacon.plugins.policy import patterns, places, process, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Found = tuple[str, str]  # place in config.json, what is wrong there
    Check = tuple[Callable[[object], object], Callable[[object, "Subject"], Iterator[Found]], tuple[str, ...]]

_NEW = (CREATE, RESTORE)
_PROCESS, _LIMITS, _MOUNTS = (*_NEW, EXEC), (*_NEW, UPDATE), (*_NEW, ADD_MOUNTS)
#: What a rule can say: name -> how its value is read, how it is checked, for which operations.
CHECKS: dict[str, Check] = {
    "require": (process.require_words, process.require, _PROCESS),
    "allow-capabilities": (process.capability_names, process.allow_capabilities, _PROCESS),
    "deny-capabilities": (process.capability_names, process.deny_capabilities, _PROCESS),
    "limits": (resources.limits_table, resources.limits, _LIMITS),
    "labels": (patterns.table, places.labels, _NEW),
    "deny-annotations": (patterns.words, places.deny_annotations, _NEW),
    "allow-paths": (patterns.absolute, places.allow_paths, _MOUNTS),
    "allow-writable-paths": (patterns.absolute, places.allow_writable_paths, _MOUNTS),
    "deny-paths": (patterns.absolute, places.deny_paths, _MOUNTS),
    "allow-roots": (patterns.absolute, places.allow_roots, _NEW),
    "allow-filesystems": (patterns.words, places.allow_filesystems, _MOUNTS),
    "deny-filesystems": (patterns.words, places.deny_filesystems, _MOUNTS),
    "deny-host-namespaces": (places.namespace_kinds, places.deny_host_namespaces, _NEW),
    "allow-devices": (resources.Devices, resources.allow_devices, _LIMITS),
    "deny-devices": (resources.Devices, resources.deny_devices, _LIMITS),
    "allow-sysctls": (patterns.words, places.allow_sysctls, _NEW),
    "allow-hooks": (patterns.words, places.allow_hooks, _NEW),
}
_MODES = ("enforce", "report")
_OF_A_RULE = ("name", "message", "mode", "together")
_OF_AN_EXCEPTION = ("annotation", "values", "rules")


class Subject:
    """What is judged: a configuration for an operation on a host. ``whole``: as if the container were made from it."""

    def __init__(self, spec: Spec, host: Host, whole: bool = False) -> None:
        self.spec = spec
        self.host = host
        facts = host.facts.get("policy")
        self.facts: Mapping[str, object] = facts if isinstance(facts, dict) else {}
        self.is_whole = whole or spec.operation in _NEW  # the container itself, not something in it

    def shared(self) -> dict[str, str]:
        """Kind of namespace -> place in config.json, of those that are the host's."""
        entries = self.spec.linux.get("namespaces") or []
        there = {entry["type"]: index for index, entry in enumerate(entries)}
        joined = self.facts.get("host_namespaces")
        found = {kind: "linux.namespaces" for kind in places.KINDS if kind not in there}
        for kind in joined if isinstance(joined, (list, tuple)) else ():
            found[kind] = f"linux.namespaces[{there[kind]}].path"
        return found


class Broken:
    """One place that breaks a rule; ``reported``: that is only said."""

    def __init__(self, rule: Rule, where: str, what: str) -> None:
        self.where = where
        self.reported = rule.reports
        self._text = f"{rule.message}: {what} (policy: {rule.name})"

    def __str__(self) -> str:
        return self._text


class Rule:
    """A rule: its name, what is said when it is broken, and what it demands."""

    def __init__(self, given: object, number: int, mode: str) -> None:
        """Raises `SettingsError`."""
        place = f"rule[{number}]"
        if not isinstance(given, dict):
            raise _error(place, "must be a table")
        for name in given:
            if name not in CHECKS and name not in _OF_A_RULE:
                raise _error(f"{place}.{name}", f"is not known; known: {', '.join([*_OF_A_RULE, *CHECKS])}")
        self.name = _text(f"{place}.name", given.get("name"))
        self.message = _text(f"{place}.message", given.get("message"))
        self.reports = _mode(f"{place}.mode", given.get("mode", mode)) == "report"
        self.together = given.get("together", False)
        if not isinstance(self.together, bool):
            raise _error(f"{place}.together", "must be true or false")
        self._wanted = [(name, _read(f"{place}.{name}", name, given[name])) for name in CHECKS if name in given]
        if self.together:
            self._wanted = [demand for each in self._wanted for demand in _apart(*each)]
        if not self._wanted:
            raise _error(place, f"demands nothing; it can have: {', '.join(CHECKS)}")

    def broken(self, subject: Subject) -> Iterator[Broken]:
        """What breaks it. With ``together``, only where every demand is broken."""
        found: list[Broken] = []
        if self.together:  # what the container is counts, too
            subject = Subject(subject.spec, subject.host, whole=True)
        for name, wanted in self._wanted:
            _, check, operations = CHECKS[name]
            matters = subject.spec.operation in operations
            if not matters and not self.together:
                continue
            here = [Broken(self, where, what) for where, what in check(wanted, subject)]
            if self.together and not here:
                return
            found += here if matters else []
        yield from found


class Rules:
    """All rules, and the exceptions from them."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        """Raises `SettingsError`: with rules that cannot be read, no container is made."""
        for name in settings:
            if name not in ("mode", "rule", "exception"):
                raise _error(name, "is not a setting; known: mode, rule, exception")
        mode = _mode("mode", settings.get("mode", "enforce"))
        given = settings.get("rule", [])
        if not isinstance(given, list) or not given:
            raise _error("rule", "must be a list of tables, [[stage.policy.rule]], and not empty")
        self._rules = [Rule(each, number, mode) for number, each in enumerate(given)]
        names = [rule.name for rule in self._rules]
        if len({*names}) < len(names):
            raise _error("rule", f"has one name twice: {next(name for name in names if names.count(name) > 1)}")
        exceptions = settings.get("exception", [])
        if not isinstance(exceptions, list):
            raise _error("exception", "must be a list of tables, [[stage.policy.exception]]")
        self._exceptions = [_exception(each, number, names) for number, each in enumerate(exceptions)]

    def broken(self, spec: Spec, host: Host) -> Iterator[Broken]:
        """Everything that breaks a rule from which the container is not excepted, in the order of the rules."""
        subject, excepted = Subject(spec, host), self._excepted(spec)
        for rule in self._rules:
            if rule.name not in excepted:
                yield from rule.broken(subject)

    def _excepted(self, spec: Spec) -> set[str]:
        annotations: object = spec.config.get("annotations")
        there = annotations if isinstance(annotations, dict) else {}
        return {
            name
            for annotation, values, names in self._exceptions
            if annotation in there and patterns.among(values, str(there[annotation]))
            for name in names
        }


def _apart(name: str, wanted: object) -> list[tuple[str, object]]:
    """A demand, as one for each word if it is a list of what is required."""
    return [(name, [word]) for word in wanted] if name == "require" and isinstance(wanted, list) else [(name, wanted)]


def _exception(given: object, number: int, known: list[str]) -> tuple[str, list[str], list[str]]:
    place = f"exception[{number}]"
    if not isinstance(given, dict):
        raise _error(place, "must be a table")
    for name in given:
        if name not in _OF_AN_EXCEPTION:
            raise _error(f"{place}.{name}", f"is not known; known: {', '.join(_OF_AN_EXCEPTION)}")
    annotation = _text(f"{place}.annotation", given.get("annotation"))
    part = "values"
    try:
        values = patterns.words(given.get(part))
        part = "rules"
        names = patterns.one_of(known, given.get(part))
    except patterns.Wrong as error:
        raise _error(f"{place}.{part}", str(error)) from None
    return annotation, values, names


def _read(place: str, name: str, value: object) -> object:
    try:
        return CHECKS[name][0](value)
    except patterns.Wrong as error:
        raise _error(place, str(error)) from None


def _text(place: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _error(place, "must be a string, and not empty")
    return value


def _mode(place: str, value: object) -> str:
    if value not in _MODES:
        raise _error(place, f"must be one of {', '.join(_MODES)}")
    return str(value)


def _error(place: str, text: str) -> SettingsError:
    return SettingsError(f"[stage.policy] {place} {text}", hint="see docs/policy.md")
