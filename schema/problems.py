"""The slow gear: everything that is wrong, each with its place, what was found and what is allowed.

Rests on jsonschema, with the conventions of `config.schema.json`: exact types, null members absent, binding
formats, `uniqueBy`. For those who need the verdict alone there is `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import jsonschema.validators
from jsonschema import ValidationError

from gosudacon.base import jsonio
from gosudacon.schema import compiler, descriptions, formats
from gosudacon.schema.compiler import Schema
from gosudacon.schema.positions import Path, Positions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.base.errors import ProblemRow

LIMIT = 1000
"""No more than so many problems are looked for."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a JSON text.

    `where` is the path of the value, such as `mounts[3].destination`, empty for the text as a whole. `line`
    and `column` count from 1, the column in characters, and point at the value, or at the enclosing object
    if the value is missing; both are 0 if the text is not at hand. `found` is the value as JSON (shortened),
    `allowed` says in words what may be there.
    """

    where: str
    line: int
    column: int
    found: str
    allowed: str

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        subject = f"{self.where}: " if self.where else ""
        return f"{place}{subject}found {self.found}, allowed: {self.allowed}"

    def row(self) -> ProblemRow:
        """The same as data, for `Error.problems`."""
        return {
            "where": self.where,
            "line": self.line,
            "column": self.column,
            "found": self.found,
            "allowed": self.allowed,
        }


def accepts(config: object, kind: str = "config") -> bool:
    """As `gosudacon.schema.verdict.accepts`, by way of jsonschema.

    Raises ValueError for an unknown `kind`.
    """
    return bool(_validator(kind).is_valid(jsonio.without_nulls(config)))


def problems(config: object, text: bytes | None = None, kind: str = "config") -> list[Problem]:
    """Everything about `config` that makes it no valid `kind`, in the order of the text.

    `text` is the JSON text `config` was read from; without it there are no lines and columns. At most
    `LIMIT` problems; none if and only if `accepts` says yes. Raises ValueError for an unknown `kind`.
    """
    schema = _schema(kind)
    positions = Positions(str(text, "utf-8")) if text is not None else None
    faults: dict[tuple[Path, bool], tuple[int, Problem]] = {}
    for error in islice(_validator(kind).iter_errors(jsonio.without_nulls(config)), LIMIT):
        path = tuple(error.absolute_path)
        is_name = error.validator == "propertyNames"
        if (path, is_name) not in faults:  # several keywords can object to one value
            faults[path, is_name] = _problem(error, path, config, schema, positions)
    return [problem for _, problem in sorted(faults.values(), key=lambda fault: fault[0])]


def problems_of_text(text: bytes, kind: str = "config") -> list[Problem]:
    """Everything that makes the JSON text `text` no valid `kind`; broken JSON is one problem."""
    try:
        config = jsonio.loads(text)
    except jsonio.JSONError as error:
        return [broken(error)]
    return problems(config, text, kind)


def broken(error: jsonio.JSONError) -> Problem:
    """The problem behind an error of `gosudacon.base.jsonio.loads`."""
    return Problem("", error.line, error.column, f"broken JSON ({error.message})", "one JSON value in UTF-8")


def _problem(
    error: Any, path: Path, config: object, schema: Schema, positions: Positions | None
) -> tuple[int, Problem]:
    """The problem of one `error`, with the offset of its place in the text."""
    is_name = error.validator == "propertyNames"
    offset = line = column = 0
    if positions is not None:
        offset = positions.name(path) if is_name else positions.value(path)
        line, column = positions.line_column(offset)
    if is_name:
        found = descriptions.found(path[-1])
        allowed = descriptions.allowed(error.validator_value, path[-1]) + " as the name"
    else:
        found, value = _look_up(config, path)
        own_words = error.validator == "uniqueBy" or "allowed" in error.schema
        # What is missing is described where the schema defines it, not where it demands it.
        wanted = error.schema if own_words or error.validator not in _MISSING else _part(schema, path)
        allowed = error.message if error.validator == "uniqueBy" else descriptions.allowed(wanted, value)
    return offset, Problem(descriptions.where(path), line, column, found, allowed)


def _look_up(config: object, path: Path) -> tuple[str, object]:
    """What is to be found at `path`, in words and as it is."""
    value: Any = config
    for step in path:
        if isinstance(value, dict) and step not in value:
            return "nothing", None
        value = value[step]
    return descriptions.found(value), value


def _part(schema: Schema, path: Path) -> Schema:
    """The schema of the value at `path` in what `schema` describes."""
    for step in path:
        if isinstance(step, int):
            schema = schema["items"]
        else:
            schema = schema.get("properties", {}).get(step) or schema["additionalProperties"]
    return schema


@cache
def _schema(kind: str) -> Schema:
    if kind not in compiler.KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(compiler.KINDS)}")
    return compiler.load(kind)


@cache
def _validator(kind: str) -> Any:
    return _Validator(_schema(kind))


# From here on: JSON Schema keywords in the shape jsonschema calls them. An error's path is that of the value
# it is about, so a missing member has the path it would have.


def _required(_: object, names: list[str], instance: object, schema: object) -> Iterator[ValidationError]:
    if type(instance) is dict:
        for name in names:
            if name not in instance:
                yield ValidationError(f"{name} is missing", path=[name])


def _dependent_required(
    validator: object, needed: dict[str, list[str]], instance: object, schema: object
) -> Iterator[ValidationError]:
    for name, others in needed.items():
        if type(instance) is dict and instance.get(name):
            given = {other: value for other, value in instance.items() if value}  # what is empty counts as absent
            yield from _required(validator, others, given, schema)


def _property_names(validator: Any, names: object, instance: object, schema: object) -> Iterator[ValidationError]:
    if type(instance) is dict:
        for name in instance:
            if not validator.evolve(schema=names).is_valid(name):
                yield ValidationError(f"{name!r} is not a valid name", path=[name])


def _unique_by(_: object, member: str, instance: object, schema: object) -> Iterator[ValidationError]:
    seen = set()
    for index, element in enumerate(instance if type(instance) is list else ()):
        value = element.get(member) if type(element) is dict else None
        if type(value) is not str:
            continue
        if value in seen:
            yield ValidationError(f"a {member} that no entry before it has", path=[index, member])
        seen.add(value)


def _format(_: object, name: str, instance: object, schema: object) -> Iterator[ValidationError]:
    if type(instance) is str and not getattr(formats, compiler.function_name(name))(instance):
        yield ValidationError(f"no {name}")


def _nothing(*_: object) -> None:
    """`pattern`: an approximation of the format next to it, for other tools."""


def _exactly(kind: type) -> object:
    return lambda _, instance: type(instance) is kind


_MISSING = ("required", "dependentRequired")
_TYPES: dict[str, object] = {
    "boolean": _exactly(bool),
    "integer": _exactly(int),
    "number": lambda _, instance: type(instance) in (int, float),
    "string": _exactly(str),
    "array": _exactly(list),
    "object": _exactly(dict),
    "null": _exactly(type(None)),
}
_library: Any = jsonschema  # the types of its stubs do not fit all the versions we can work with
_Validator: Any = _library.validators.extend(
    _library.Draft202012Validator,
    validators={
        "required": _required,
        "dependentRequired": _dependent_required,
        "propertyNames": _property_names,
        "uniqueBy": _unique_by,
        "format": _format,
        "pattern": _nothing,
    },
    type_checker=_library.TypeChecker(_TYPES),
)
