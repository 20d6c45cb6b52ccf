"""Words for what a schema allows, for what was found, and for where."""

from __future__ import annotations

from gosudacon.base import jsonio
from gosudacon.schema import formats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.compiler import Schema

_FORMATS = {
    "text": "a string",
    "line": "a string without line feeds",
    "absolute-path": "an absolute path",
    "absolute-path-or-none": "an absolute path",
    "env-entry": "KEY=VALUE",
    "component": "a name without slashes and blanks, at most 255 bytes long, not . or ..",
    "clos-id": "/ or a name without slashes and blanks, not . or ..",
    "interface-name": "a network device name: 1 to 15 bytes without slashes, colons and blanks, not . or ..",
    "interface-name-or-none": "a network device name: 1 to 15 bytes without slashes, colons and blanks, not . or ..",
    "hostname": "a string of at most 64 bytes",
    "cpu-list": "a list such as 0-3,7",
    "hugepage-size": "a page size such as 64KB, 2MB or 1GB",
    "mb-schema": "a string without line feeds that begins with MB:",
    "sysctl-key": "a kernel parameter such as net.ipv4.ip_forward",
}
_KINDS = {
    "boolean": "booleans",
    "integer": "integers",
    "string": "strings",
    "array": "arrays",
    "object": "objects",
}
_LONGEST = 60


def allowed(schema: Schema, value: object = None) -> str:
    """What `schema` allows, as a noun phrase. `value`, what was found instead, may call for more detail."""
    if "allowed" in schema:
        return str(schema["allowed"])
    kind = schema.get("type")
    if kind == "boolean":
        return "true or false"
    if kind == "integer":
        return _integer(schema)
    if kind == "string":
        return _string(schema, value)
    if kind == "array":
        return _array(schema)
    if kind == "object":
        return _object(schema)
    return "something else"


def _integer(schema: Schema) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_integer(choice) for choice in schema["anyOf"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"an integer from {low} to {high}"
    if low is not None:
        return f"an integer of at least {low}"
    return "an integer" if high is None else f"an integer of at most {high}"


def _string(schema: Schema, value: object) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(choice or '""' for choice in schema["enum"])
    words = _FORMATS[schema["format"]] if "format" in schema else "a string"
    if schema.get("minLength"):
        words += " that is not empty"
    if isinstance(value, str) and not formats.text(value):
        words += ", without NUL characters and lone surrogates"
    return words


def _array(schema: Schema) -> str:
    words = "an array"
    if "maxItems" in schema:
        words += f" of at most {schema['maxItems']}"
    else:
        words += " of"
    words += " " + _KINDS.get(schema.get("items", {}).get("type"), "values")
    return words + " that is not empty" if schema.get("minItems") else words


def _object(schema: Schema) -> str:
    choices = [name for choice in schema.get("anyOf", ()) for name in choice["required"]]
    return "an object with " + " or ".join(choices) if choices else "an object"


def found(value: object) -> str:
    """`value` as JSON, shortened if it is long."""
    try:
        text = jsonio.dumps(value)
    except (TypeError, ValueError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def where(path: tuple[str | int, ...]) -> str:
    """`path` in the form `mounts[3].source` or `linux.sysctl["fs.mqueue.msg_max"]`; empty for the whole."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isascii() and step.isidentifier():
            text += f".{step}" if text else step
        else:
            text += f"[{found(step)}]"
    return text
