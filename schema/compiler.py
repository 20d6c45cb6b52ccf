"""Compiles the JSON Schemas in this directory into `_validator.py`, plain functions that say yes or no.

    python -m gosudacon.schema.compiler [TARGET]

The package's build calls `build`, from a `setup.py` that loads this file by its path: nothing is imported
here but the standard library, and nothing of gosudacon.

Only the keywords of `KEYWORDS` are understood, with some further restrictions that keep the output small and
its meaning plain; anything else is a SchemaError. The output has one function per schema and one per part
that several places share. Everything else is written out in place: calls and code objects are what would
cost time when a runtime that lives for milliseconds loads and runs it.

Semantics shared with the other gear (`problems.py`): types are exact (`true` and `1.0` are not integers), a
null member of an object is absent, a `format` is binding (`formats.py`), `pattern` is only for other tools.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

FOLDER = Path(__file__).resolve().parent
KINDS = ("config", "process", "state", "features")
"""What can be validated; the schema of each is `KIND.schema.json`."""

SHAPED = ("config", "process")
"""Those of them that callers write, and of which `shape` is wanted."""

NOTES = frozenset(
    {"$schema", "$comment", "$defs", "title", "description", "pattern", "allowed", "default", "read", "warns"}
)
"""Keywords without influence on the verdict."""

_BY_TYPE = {
    "boolean": frozenset[str](),
    "integer": frozenset({"minimum", "maximum", "const", "anyOf"}),
    "string": frozenset({"enum", "format", "minLength"}),
    "array": frozenset({"items", "minItems", "maxItems", "uniqueBy"}),
    "object": frozenset(
        {
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "dependentRequired",
            "anyOf",
            "if",
            "then",
        }
    ),
}
KEYWORDS = NOTES.union({"$ref", "type"}, *_BY_TYPE.values())
_TYPES = {"boolean": "bool", "integer": "int", "string": "str", "array": "list", "object": "dict"}


class SchemaError(ValueError):
    """A schema uses JSON Schema in a way this compiler does not know."""


def load(kind: str, folder: Path = FOLDER) -> Schema:
    """The schema of `kind` (one of `KINDS`), with every `$ref` replaced by what it refers to.

    Words next to a `$ref` (a description, for example) replace those of its target.
    Raises SchemaError for unknown keywords and references to nowhere, OSError for a missing file.
    """
    files: dict[str, Schema] = {}

    def file(name: str) -> Schema:
        if name not in files:
            files[name] = json.loads((folder / name).read_text("utf-8"))
        return files[name]

    def resolve(node: Schema, home: str) -> Schema:
        _check(node, home)
        if "$ref" in node:
            name, _, pointer = node["$ref"].partition("#/")
            target: Any = file(name or home)
            for part in pointer.split("/"):
                if part not in target:
                    raise SchemaError(f"{home}: {node['$ref']} leads nowhere")
                target = target[part]
            node = {**resolve(target, name or home), **{k: v for k, v in node.items() if k != "$ref"}}
        return {word: _map_schemas(word, value, lambda part: resolve(part, home)) for word, value in node.items()}

    home = f"{kind}.schema.json"
    return {word: value for word, value in resolve(file(home), home).items() if word != "$defs"}


def _map_schemas(word: str, value: Any, change: Any) -> Any:
    """The value of keyword `word` with the schemas in it changed by `change`."""
    if word in ("items", "additionalProperties", "propertyNames", "if", "then"):
        return change(value)
    if word == "properties":
        return {name: change(part) for name, part in value.items()}
    if word == "anyOf":
        return [change(part) for part in value]
    return value


def _check(node: object, home: str) -> None:
    if not isinstance(node, dict):
        raise SchemaError(f"{home}: {node!r} is not a schema")
    unknown = node.keys() - KEYWORDS
    if unknown:
        raise SchemaError(f"{home}: unknown keywords {', '.join(sorted(unknown))}")
    if "$ref" in node and node.keys() - NOTES - {"$ref"}:
        raise SchemaError(f"{home}: only words may stand beside $ref {node['$ref']}")
    if "pattern" in node and "format" not in node:
        raise SchemaError(f"{home}: pattern {node['pattern']!r} without a format")


def fingerprint(folder: Path = FOLDER) -> str:
    """A hash of everything the generated module depends on; it carries it as `SOURCE`."""
    names = [f"{kind}.schema.json" for kind in KINDS] + ["formats.py", "compiler.py"]
    total = hashlib.sha256()
    for name in names:
        total.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()


def _bare(schema: Schema) -> str:
    """`schema` without words, as text: equal texts mean equal verdicts."""

    def strip(node: Schema) -> Schema:
        return {word: _map_schemas(word, value, strip) for word, value in node.items() if word not in NOTES}

    return json.dumps(strip(schema), sort_keys=True)


class _Writer:
    """Collects the lines of the generated module."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.names: dict[str, str] = {}
        self.seen: dict[str, int] = {}

    def count(self, schema: Schema) -> None:
        """Note the objects and arrays in `schema`, so that what occurs twice becomes a function."""
        if schema.get("type") not in ("object", "array"):
            return
        key = _bare(schema)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] > 1:
            return
        for word, value in schema.items():
            if word in ("properties", "items", "additionalProperties"):
                _map_schemas(word, value, self.count)

    def function(self, schema: Schema, name: str) -> str:
        """Define a function for `schema`, once, and return its name."""
        key = _bare(schema)
        if key not in self.names:
            self.names[key] = name
            body = self.checks(schema, "v", 0)
            self.functions.append("\n".join([f"def {name}(v):", *_indent(body), "    return True"]))
        return self.names[key]

    def checks(self, schema: Schema, var: str, depth: int) -> list[str]:
        """Statements that return False unless the value in `var` fits `schema`."""
        kind = schema.get("type")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise SchemaError(f"a schema needs one type, not {kind!r}")
        wrong = schema.keys() - NOTES - _BY_TYPE[kind] - {"type"}
        if wrong:
            raise SchemaError(f"{', '.join(sorted(wrong))} beside type {kind}")
        if kind == "object":
            return [f"if type({var}) is not dict: return False", *self.members(schema, var, depth)]
        if kind == "array":
            return self.elements(schema, var, depth)
        return [f"if not ({scalar(schema, var)}): return False"]

    def part(self, schema: Schema, var: str, depth: int) -> list[str]:
        """As `checks`, by way of a shared function where there is one."""
        if schema.get("type") in ("object", "array") and self.seen.get(_bare(schema), 0) > 1:
            name = self.function(schema, f"_shared_{len(self.names)}")
            return [f"if not {name}({var}): return False"]
        return self.checks(schema, var, depth)

    def elements(self, schema: Schema, var: str, depth: int) -> list[str]:
        bad = f"type({var}) is not list"
        for word, sign in (("minItems", "<"), ("maxItems", ">")):
            if word in schema:
                bad += f" or len({var}) {sign} {schema[word]}"
        lines = [f"if {bad}: return False"]
        if "items" in schema:
            item = f"i{depth}"
            if _bare(schema["items"]) == _bare({"type": "string", "format": "text"}):
                lines.append(f"if not _texts({var}): return False")
            else:
                body = self.part(schema["items"], item, depth + 1)
                lines += [f"for {item} in {var}:", *_indent(body)]
        if "uniqueBy" in schema:
            word = schema["uniqueBy"]
            if word not in schema["items"].get("required", ()):
                raise SchemaError(f"uniqueBy {word}, which need not be there")
            lines.append(f"if len({{e[{word!r}] for e in {var}}}) != len({var}): return False")
        return lines

    def members(self, schema: Schema, var: str, depth: int) -> list[str]:
        """Checks of the dictionary in `var`."""
        lines: list[str] = []
        member = f"m{depth}"
        required = set(schema.get("required", ()))
        for name, part in schema.get("properties", {}).items():
            body = self.part(part, member, depth + 1)
            if name in required:  # None is of none of the types
                lines += [f"{member} = {var}.get({name!r})", *body]
            elif len(body) == 1 and body[0].startswith("if not "):
                lines += [f"{member} = {var}.get({name!r})", f"if {member} is not None and {body[0][3:]}"]
            else:
                lines += [f"{member} = {var}.get({name!r})", f"if {member} is not None:", *_indent(body)]
        for name in sorted(required - schema.get("properties", {}).keys()):
            lines.append(f"if {var}.get({name!r}) is None: return False")
        lines += self.others(schema, var, depth)
        for name, needed in schema.get("dependentRequired", {}).items():
            absent = " or ".join(f"not {var}.get({other!r})" for other in needed)
            lines.append(f"if {var}.get({name!r}) and ({absent}): return False")
        if "anyOf" in schema:
            choices = " or ".join(f"({condition(choice, var)})" for choice in schema["anyOf"])
            lines.append(f"if not ({choices}): return False")
        if "if" in schema:
            met, wanted = condition(schema["if"], var), condition(schema["then"], var)
            lines.append(f"if ({met}) and not ({wanted}): return False")
        return lines

    def others(self, schema: Schema, var: str, depth: int) -> list[str]:
        """Checks of the members of a map: any name, the same kind of value."""
        if "additionalProperties" not in schema and "propertyNames" not in schema:
            return []
        if "properties" in schema:
            raise SchemaError("additionalProperties and propertyNames beside properties")
        key, value = f"k{depth}", f"i{depth}"
        body = self.checks(schema.get("propertyNames", {"type": "string"}), key, depth + 1)
        if "additionalProperties" in schema:
            body += self.part(schema["additionalProperties"], value, depth + 1)
        return [f"for {key}, {value} in {var}.items():", f"    if {value} is not None:", *_indent(body, 2)]


def _indent(lines: list[str], levels: int = 1) -> list[str]:
    return ["    " * levels + line for line in lines]


def scalar(schema: Schema, var: str) -> str:
    """An expression that is true if the value in `var` fits `schema`, which is neither an array nor an object."""
    tests = [f"type({var}) is {_TYPES[schema['type']]}"]
    if "minimum" in schema and "maximum" in schema:
        tests.append(f"{schema['minimum']} <= {var} <= {schema['maximum']}")
    elif "minimum" in schema:
        tests.append(f"{var} >= {schema['minimum']}")
    elif "maximum" in schema:
        tests.append(f"{var} <= {schema['maximum']}")
    if "const" in schema:
        tests.append(f"{var} == {schema['const']!r}")
    if "anyOf" in schema:
        if any(choice.keys() - NOTES - {"const", "minimum", "maximum"} for choice in schema["anyOf"]):
            raise SchemaError("anyOf of integers knows const, minimum and maximum")
        choices = [scalar({"type": schema["type"], **choice}, var) for choice in schema["anyOf"]]
        tests.append("(" + " or ".join(f"({choice})" for choice in choices) + ")")
    if "enum" in schema:
        tests.append(f"{var} in {{{', '.join(map(repr, schema['enum']))}}}")
    if schema.get("minLength"):
        tests.append(f"len({var}) >= {schema['minLength']}")
    if "format" in schema:
        tests.append(f"{function_name(schema['format'])}({var})")
    return " and ".join(tests)


def condition(schema: Schema, var: str) -> str:
    """An expression that is true if the dictionary in `var` fits `schema`: a branch of anyOf, if or then.

    In such a place only `required` and `properties` with scalars, or arrays limited in length, are known.
    """
    wrong = schema.keys() - NOTES - {"required", "properties"}
    if wrong:
        raise SchemaError(f"{', '.join(sorted(wrong))} in a condition")
    tests = [f"{var}.get({name!r}) is not None" for name in schema.get("required", ())]
    for name, part in schema.get("properties", {}).items():
        value = f"{var}.get({name!r})"
        if part["type"] == "array" and part.keys() - NOTES == {"type", "maxItems"}:
            fits = f"type({value}) is list and len({value}) <= {part['maxItems']}"
        elif part["type"] in ("string", "integer", "boolean"):
            fits = scalar(part, value)
        else:
            raise SchemaError(f"type {part['type']} in a condition")
        tests.append(f"({value} is None or {fits})")
    return " and ".join(tests)


def shape(schema: Schema) -> Schema | None:
    """What `verdict.normal` has to know of values that fit `schema`; None if there is nothing to know.

    Of an object: ``members`` (name -> shape), ``absent`` (name -> what it is then) and ``read`` (name -> {value: what
    it is read as}); of an array or a map: ``each``, the shape of what is in it.
    """
    if "properties" in schema:
        members = schema["properties"]
        return {
            "members": {name: shape(part) for name, part in members.items()},
            "absent": {name: part["default"] for name, part in members.items() if "default" in part},
            "read": {name: dict(part["read"]) for name, part in members.items() if "read" in part},
        }
    inner = schema.get("items") or schema.get("additionalProperties")
    found = shape(inner) if inner else None
    return {"each": found} if found else None


def function_name(format_name: str) -> str:
    """The name of the function in `formats.py` for the format `format_name`."""
    return format_name.replace("-", "_")


def _predicates(folder: Path) -> list[str]:
    """The functions of `formats.py`, without docstrings and annotations (they would only be loaded)."""
    found = []
    for node in ast.parse((folder / "formats.py").read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            node.body = node.body[1:] if ast.get_docstring(node) else node.body
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
            found.append(ast.unparse(node))
    return found


_TEXTS = """\
def _texts(v):
    try:
        return text("".join(v))
    except TypeError:
        return False"""


def source(folder: Path = FOLDER) -> str:
    """The text of the generated module. Raises SchemaError, OSError."""
    schemas = {kind: load(kind, folder) for kind in KINDS}
    writer = _Writer()
    for schema in schemas.values():
        writer.count(schema)
    checks = [f"{kind!r}: {writer.function(schema, f'_{kind}')}" for kind, schema in schemas.items()]
    parts = [
        "# Generated by gosudacon.schema.compiler from the schemas. Not for editing.",
        f"SOURCE = {fingerprint(folder)!r}",
        *_predicates(folder),
        _TEXTS,
        *writer.functions,
        "CHECKS = {" + ", ".join(checks) + "}",
        "SHAPES = {" + ", ".join(f"{kind!r}: {shape(schemas[kind])!r}" for kind in SHAPED) + "}",
    ]
    return "\n".join(parts) + "\n"


def build(target_path: str | Path, folder: Path = FOLDER) -> None:
    """Write the validator of the schemas in `folder` to the file `target_path`, complete or not at all.

    Needs the standard library only. Raises SchemaError, OSError.
    """
    target = Path(target_path)
    text = source(folder)
    compile(text, str(target), "exec")
    draft = target.with_name(f".{target.name}.new")
    draft.write_text(text, "utf-8")
    draft.replace(target)


if __name__ == "__main__":
    build(sys.argv[1] if len(sys.argv) > 1 else FOLDER / "_validator.py")
