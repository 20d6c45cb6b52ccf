"""The fast gear: is this what the specification allows, yes or no; and before that, what was written in other words.

The answer comes from `_validator`, which the build compiles from the schemas (`compiler.py`). Without it, in
a checkout in which it is not compiled, the slow gear (`problems.py`) answers, the same but late.
Nothing here looks whether `_validator` is of the same age as the schemas: installed it cannot be of another,
and in a checkout a test does (tests/unit/test_schema_gears.py).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.compiler import Schema

try:
    from gosudacon.schema._validator import CHECKS, SHAPES
except ImportError:
    CHECKS, SHAPES = {}, {}


def accepts(config: object, kind: str = "config") -> bool:
    """Whether `config`, a parsed JSON text, is a valid `kind`: config, process, state or features.

    Null members of objects count as absent and unknown ones are ignored, as in runc.
    `gosudacon.schema.problems` says what is wrong with what is rejected here. Never changes `config`.
    Raises ValueError for an unknown `kind`.
    """
    check = CHECKS.get(kind)
    if check is not None:
        return check(config)
    from gosudacon.schema import problems

    return problems.accepts(config, kind)


def normal(value: object, kind: str = "config", at: str = "") -> list[tuple[str, str]]:
    """Bring ``value``, a parsed JSON text that nothing else uses, into the form that the specification describes.

    The Go types that callers write with have no absent numbers and do not look at the case of names. So a number that
    is missing is put in where it has a value then (``default`` in the schema), one that says "unset" is taken out or
    replaced (``read``), and a name in other letters becomes the one it means. ``at``: ``value`` is what belongs at
    this dotted place of a ``kind``. Returns (place, name as it was written) of each such name.
    """
    renamed: list[tuple[str, str]] = []
    _walk(value, _shape(kind, at), at, renamed)
    return renamed


def _shape(kind: str, at: str) -> Schema:
    shape = SHAPES.get(kind)
    if shape is None:
        from gosudacon.schema import compiler

        shape = compiler.shape(compiler.load(kind)) or {}
    for name in at.split(".") if at else ():
        shape = shape["members"][name]
    return shape


def _walk(value: object, shape: Schema, where: str, renamed: list[tuple[str, str]]) -> None:
    each = shape.get("each")
    if each is not None:
        if type(value) is list:
            for index, item in enumerate(value):
                _walk(item, each, f"{where}[{index}]", renamed)
        elif type(value) is dict:
            for name, item in value.items():
                _walk(item, each, f"{where}.{name}", renamed)
        return
    if type(value) is not dict:
        return
    members, absent, read = shape["members"], shape["absent"], shape["read"]
    if not value.keys() <= members.keys():
        _rename(value, members, where, renamed)
    for name in read:
        old = value.get(name)
        if type(old) in (int, str) and old in read[name]:
            new = read[name][old]
            if new is None:
                del value[name]
            else:
                value[name] = new
    for name in absent:
        if value.get(name) is None:
            value[name] = absent[name]
    for name in value:
        inner = members.get(name)
        if inner is not None:
            _walk(value[name], inner, f"{where}.{name}" if where else name, renamed)


def _rename(value: dict[str, object], members: dict[str, object], where: str, renamed: list[tuple[str, str]]) -> None:
    """Names that differ from known ones in case alone; of several for one member the last counts, and objects join."""
    folded = {name.casefold(): name for name in members}
    order = list(value)
    for place, name in enumerate(order):
        known = folded.get(name.casefold())
        if known is None or known == name:
            continue
        item = value.pop(name)
        before = value.get(known)
        if type(before) is dict and type(item) is dict:
            value[known] = {**item, **before} if known in order[place:] else {**before, **item}
        elif known not in order[place:]:
            value[known] = item
        renamed.append((f"{where}.{known}" if where else known, name))
