"""What differs between two plans: steps that one of them lacks, steps with other fields, steps in another order.

A step is known by phase, side, stage, class, and by what it is about (`_IDENTITY`). Where a step is in config.json,
and the path of the bundle, make no difference.
"""

from __future__ import annotations

from bisect import bisect_left

from gosudacon.base import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gosudacon.container.explain import Explanation
    from gosudacon.container.risk import Reason
    from gosudacon.pipeline.explain import Row

    Key = tuple[str, ...]
    Fields = dict[str, object]

_KEY = ("phase", "side", "stage", "step")
_IDENTITY = ("destination", "path", "file", "name", "kind", "kinds", "key", "unit", "controller")
_NEVER = "destination"  # who has another one is another mount
_IGNORED = ("index", "devpts", "last")  # places in lists, which the order of steps tells as well
_BUNDLE = "<bundle>"


class Change:
    """A step in both plans with different fields: the two steps, and name -> values before and after."""

    def __init__(self, before: Row, after: Row, fields: dict[str, tuple[object, object]]) -> None:
        self.before, self.after, self.fields = before, after, fields


class Comparison:
    """Of two plans: ``added``, ``removed``, ``changed``, ``moved`` (to another place among the steps of its side).

    ``stages``: the names of those whose steps count; none for all. ``gained`` and ``lost``: of what is shared with the
    host.
    """

    def __init__(self, one: Explanation, other: Explanation, stages: Sequence[str] = ()) -> None:
        self.one, self.other = one, other
        left, right = (_rows(each, stages) for each in (one, other))
        pairs = dict(_pairs(left, right))
        matched = {*pairs.values()}
        self.removed = [row for at, row in enumerate(left) if at not in pairs]
        self.added = [row for at, row in enumerate(right) if at not in matched]
        self.changed = [
            Change(left[at], right[to], fields)
            for at, to in pairs.items()
            if (fields := _differing(left[at], right[to]))
        ]
        self.moved = [right[to] for to in _moved(left, pairs)]
        shared = {(each.name, each.what): each for each in one.shared}
        shared_then = {(each.name, each.what): each for each in other.shared}
        self.lost: list[Reason] = [each for key, each in shared.items() if key not in shared_then]
        self.gained: list[Reason] = [each for key, each in shared_then.items() if key not in shared]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.removed or self.added or self.changed or self.moved)

    def to_json(self) -> dict[str, object]:
        """As `explain A B --format json` prints it."""
        return {
            "equal": self.equal,
            "before": _about(self.one),
            "after": _about(self.other),
            "removed": [_plain(row) for row in self.removed],
            "added": [_plain(row) for row in self.added],
            "changed": [
                {**_plain(each.after), "was": each.before["what"], "fields": each.fields} for each in self.changed
            ],
            "moved": [_plain(row) for row in self.moved],
            "no_longer_shared": [each.to_json() for each in self.lost],
            "newly_shared": [each.to_json() for each in self.gained],
        }


def _rows(explanation: Explanation, stages: Sequence[str]) -> list[Row]:
    bundle = explanation.spec.bundle
    rows = [row for row in explanation.plan.to_json() if not stages or row["stage"] in stages]
    return [{**row, "compared": _without(row["fields"], bundle)} for row in rows]


def _without(fields: object, bundle: str) -> Fields:
    """Fields as JSON has them, with the bundle's path left out of those below it."""
    data = jsonio.loads(jsonio.dumps(fields).encode())
    assert isinstance(data, dict)
    return {name: _relative(value, bundle) for name, value in data.items() if name not in _IGNORED}


def _relative(value: object, bundle: str) -> object:
    if isinstance(value, str) and (value == bundle or value.startswith(f"{bundle}/")):
        return _BUNDLE + value[len(bundle) :]
    if isinstance(value, list):
        return [_relative(each, bundle) for each in value]
    if isinstance(value, dict):
        return {name: _relative(each, bundle) for name, each in value.items()}
    return value


def _pairs(left: list[Row], right: list[Row]) -> Iterator[tuple[int, int]]:
    """Which step is which: equal ones, then those about the same thing, then the last of a kind."""
    ours, theirs = ({at: row for at, row in enumerate(rows)} for rows in (left, right))
    for describe in (_whole, _subject):
        places: dict[str, list[int]] = {}
        for at, row in theirs.items():
            places.setdefault(describe(row), []).append(at)
        for at, row in [*ours.items()]:
            there = places.get(describe(row))
            if there:
                yield at, (to := there.pop(0))
                del ours[at], theirs[to]
    kinds: dict[Key, tuple[list[int], list[int]]] = {}
    for rows, side in ((ours, 0), (theirs, 1)):
        for at, row in rows.items():
            if _NEVER not in row["compared"]:
                kinds.setdefault(_key(row), ([], []))[side].append(at)
    for mine, others in kinds.values():
        if len(mine) == len(others) == 1:
            yield mine[0], others[0]


def _key(row: Row) -> Key:
    return tuple(row[name] for name in _KEY)


def _whole(row: Row) -> str:
    return jsonio.dumps([*_key(row), row["compared"]])


def _subject(row: Row) -> str:
    about = [row["compared"][name] for name in _IDENTITY if name in row["compared"]]
    return jsonio.dumps([*_key(row), about])


def _differing(one: Row, other: Row) -> dict[str, tuple[object, object]]:
    before, after = one["compared"], other["compared"]
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    }  # fmt: skip


def _moved(left: list[Row], pairs: dict[int, int]) -> list[int]:
    """Places, in the other plan, of steps that are not in the order of the first; of a side, as few as can be."""
    found: list[int] = []
    for side in ("runtime", "container"):
        places = [pairs[at] for at in sorted(pairs) if left[at]["side"] == side]
        stay = _longest_rising(places)
        found += [to for to in places if to not in stay]
    return sorted(found)


def _longest_rising(numbers: list[int]) -> set[int]:
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for number in numbers:
        at = bisect_left(ends, number)
        before[number] = ends[at - 1] if at else None
        ends[at : at + 1] = [number]
    found: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        found.add(last)
        last = before[last]
    return found


def _about(explanation: Explanation) -> dict[str, object]:
    host = {name: value for name, value in vars(explanation.host).items() if name != "assumed"}
    return {"bundle": explanation.spec.bundle, "id": explanation.spec.id, "host": host, "risk": explanation.risk()}


def _plain(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("compared", "waits_for")}
