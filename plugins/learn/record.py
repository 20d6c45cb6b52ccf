"""What was seen: calls with their programs, refusals with their arguments; as data for the report."""

from __future__ import annotations

from errno import errorcode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypedDict

    class CallData(TypedDict):
        """Calls that were let through."""

        name: str
        number: int
        architecture: str
        count: int
        programs: list[str]

    class RefusalData(TypedDict):
        """Calls that were refused in the same way, to the same program; ``arguments`` are those of the first."""

        name: str
        number: int
        architecture: str
        action: str
        errno: int
        error: str
        arguments: list[str]
        program: str
        comm: str
        container: str
        count: int

    class ReportData(TypedDict):
        """The report, a JSON object in a file next to the profile."""

        version: int
        profile: str
        runs: int
        containers: list[str]
        ended: str
        calls: list[CallData]
        refused: list[RefusalData]
        refused_more: int
        unused: list[str] | None
        warnings: list[str]


VERSION = 1
_MOST_PROGRAMS = 16  # of one call; what runs in the container chooses how many there are
_MOST_REFUSALS = 1000
_MOST_WARNINGS = 100
_MOST_CONTAINERS = 32


class Call:
    """One system call of one architecture."""

    __slots__ = ("architecture", "count", "name", "number", "programs")

    def __init__(self, name: str, number: int, architecture: str) -> None:
        self.name = name
        self.number = number
        self.architecture = architecture
        self.count = 0
        self.programs: set[str] = set()


class Record:
    """What has been seen since it was last written."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.calls: dict[tuple[int, int], Call] = {}
        self.refused: dict[tuple[object, ...], RefusalData] = {}
        self.more = 0
        self.warnings: list[str] = []

    def refuse(self, call: Call, verdict: tuple[str, int], arguments: list[int], program: str, comm: str) -> None:
        """Note a refusal: action and errno."""
        action, number = verdict
        key = (call.name, call.number, call.architecture, action, number, program, comm)
        known = self.refused.get(key)
        if known is not None:
            known["count"] += 1
        elif len(self.refused) >= _MOST_REFUSALS:
            self.more += 1
        else:
            self.refused[key] = {
                "name": call.name,
                "number": call.number,
                "architecture": call.architecture,
                "action": action,
                "errno": number,
                "error": errorcode.get(number, str(number)) if number else "",
                "arguments": [f"{value:#x}" for value in arguments],
                "program": program,
                "comm": comm,
                "container": self.container,
                "count": 1,
            }

    def warn(self, message: str) -> None:
        """Note what the reader of the report should know, once."""
        if message not in self.warnings and len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(message)

    def call_data(self) -> list[CallData]:
        """The calls that were let through."""
        return [
            {
                "name": call.name,
                "number": call.number,
                "architecture": call.architecture,
                "count": call.count,
                "programs": sorted(call.programs),
            }
            for call in self.calls.values()
            if call.count
        ]


def note_program(call: Call, program: str) -> None:
    """That ``program`` has made the call; the first ones only."""
    if program and len(call.programs) < _MOST_PROGRAMS:
        call.programs.add(program)


def merged_calls(old: list[CallData], new: list[CallData]) -> list[CallData]:
    """Counts added, programs together; in the order of names."""
    found: dict[tuple[str, str, int], CallData] = {}
    for each in [*old, *new]:
        key = (each["name"], each["architecture"], each["number"])
        known = found.get(key)
        if known is None:
            found[key] = {**each}
        else:
            known["count"] += each["count"]
            known["programs"] = sorted({*known["programs"], *each["programs"]})[:_MOST_PROGRAMS]
    return [found[key] for key in sorted(found)]


def merged_refusals(old: list[RefusalData], new: list[RefusalData]) -> tuple[list[RefusalData], int]:
    """The same for refusals, and how many there are beyond those that are kept."""
    found: dict[tuple[object, ...], RefusalData] = {}
    for each in [*old, *new]:
        key = tuple(str(each[name]) for name in ("name", "architecture", "action", "errno", "program", "comm"))
        known = found.get(key)
        if known is None:
            found[key] = {**each}
        else:
            known["count"] += each["count"]
            known["container"] = each["container"]
    kept = list(found.values())
    return kept[:_MOST_REFUSALS], max(len(kept) - _MOST_REFUSALS, 0)


def merged_names(old: list[str], new: list[str], most: int = _MOST_CONTAINERS) -> list[str]:
    """The last ``most`` of both, each once."""
    return list(dict.fromkeys([*reversed(new), *reversed(old)]))[:most][::-1]


def check(value: object) -> ReportData:
    """The report that was read from a file. Raises ValueError if it is none, or another version's."""
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError("not a report of this version of gosudacon's learn")
    for name, sample in (("calls", _CALL), ("refused", _REFUSAL)):
        if not isinstance(value.get(name), list) or not all(_is_like(each, sample) for each in value[name]):
            raise ValueError(f"not a report of gosudacon's learn: {name}")
    lists = all(isinstance(value.get(name), list) for name in ("containers", "warnings"))
    if not lists or not isinstance(value.get("runs"), int):
        raise ValueError("not a report of gosudacon's learn")
    return value  # type: ignore[return-value]


def _is_like(value: object, sample: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in sample.items())


_CALL: dict[str, type] = {"name": str, "number": int, "architecture": str, "count": int, "programs": list}
_REFUSAL: dict[str, type] = {
    **dict.fromkeys(("name", "architecture", "action", "error", "program", "comm", "container"), str),
    **dict.fromkeys(("number", "errno", "count"), int),
    "arguments": list,
}
