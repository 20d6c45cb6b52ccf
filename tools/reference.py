"""The text of docs/plugin-reference.md: everything that plugins and their tests import, from signatures and docstrings.

`tools.pages` puts it between the marks of that file. What a class's fields are is read from its source: annotations
and assignments of the constructor, each with the comment behind it. (mkdocstrings and autodoc would show the same only
in the site; this page is read in the repository, too.)
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gosudacon import api, hookspecs
from gosudacon.pipeline.step import PHASES
from gosudacon.testing import plugin
from gosudacon.testing.containers import Container, Containers
from gosudacon.testing.faults import Report
from gosudacon.testing.planning import Planner
from gosudacon.testing.roots import ScratchRoot
from tools.api_record import signature, types

GROUPS = {
    "Changing the configuration": ("Edit",),
    "Stages and steps": ("Stage", "Step", "PlanWarning", "Rank", "Expectation"),
    "What planning sees": ("Spec", "Options", "Target", "Host", "Plan"),
    "What a step sees": ("Context",),
    "The end of a container": ("EndedContainer", "Exit"),
    "Errors": ("Error", "ConfigError", "SettingsError", "StepError", "SyscallError"),
    "Files inside a root": ("open_in_root", "mkdir_in_root"),
    "Namespaces": ("open_namespace", "in_namespaces", "setns", "unshare"),
    "Mounts by descriptor": ("new_filesystem", "clone_tree", "move_mount", "mount_setattr", "umount"),
    "Networks": ("Rtnetlink",),
    "Programs of the host": ("Program", "Ended"),
    "Seccomp": ("flag_bits", "load_filter", "notify_all", "listener", "SyscallNames"),
}
"""The names of gosudacon.api, except the decorator `hookimpl` and the constants, under headings."""
OPERATIONS = {
    "CREATE": "`create` and `run`",
    "EXEC": "`exec`: another process in the container `spec.target`",
    "RESTORE": "`restore`: processes that CRIU makes",
    "UPDATE": "`update`: other limits",
    "ADD_MOUNTS": '`mounts add`: `spec.config["mounts"]`',
    "REMOVE_MOUNTS": "`mounts remove`",
}
FIXTURES = (Planner, ScratchRoot, Containers, Container, Report)
"""The classes of what fixtures give."""


class Field(NamedTuple):
    """An attribute of a class."""

    name: str
    type: str
    default: str
    words: str


def text() -> str:
    """The whole of it."""
    return "\n".join(line.rstrip() for line in _lines()).strip() + "\n"


def _lines() -> Iterator[str]:
    yield from ("## Hooks", "", _prose(hookspecs), "")
    yield from _function("hookimpl", api.hookimpl)
    for name, hook in vars(hookspecs).items():
        if name.startswith("gosudacon_"):
            yield from _function(name, hook)
    for heading, names in _groups().items():
        yield from (f"## {heading}", "")
        for name in names:
            yield from _entry(name, getattr(api, name))
    yield from _constants()
    yield from ("## Types", "", _TYPES.format(", ".join(f"`{name}`" for name in types())), "")
    yield from ("## Fixtures", "", _FIXTURES, "")
    for name, fixture in vars(plugin).items():
        if name.startswith("oci_"):
            yield from (f"### {name}", "", _prose(fixture), "")
    yield from ("## What fixtures give", "")
    for kind in FIXTURES:
        yield from _class(kind.__name__, kind, constructor=False)


_TYPES = """For annotations alone: they exist under `if TYPE_CHECKING`, and are TypedDicts made from the JSON schemas.
Any member may be missing, and none is None. {}. [config.md](config.md) lists the members."""
_FIXTURES = "pytest has them where gosudacon is installed; [plugin-testing.md](plugin-testing.md) shows them at work."


def _groups() -> dict[str, tuple[str, ...]]:
    """`GROUPS`, and what is in none of them yet."""
    known = {"hookimpl", *(name for names in GROUPS.values() for name in names)}
    rest = tuple(name for name in api.__all__ if name not in known and not name.isupper())
    return {**GROUPS, "Others": rest} if rest else GROUPS


def _constants() -> Iterator[str]:
    names = {getattr(api, name): name for name in api.__all__ if name.isupper()}
    yield from ("## Constants", "", "Phases (`Step.phase`), in their order, each with the side of its steps:", "")
    yield from ("| name | value | side |", "| --- | --- | --- |")
    yield from (f"| `{names[phase]}` | `{phase!r}` | {side} |" for phase, side in PHASES.items())
    yield from ("", "Sides (`Step.side`, `Context.side`):", "", "| name | value | process |", "| --- | --- | --- |")
    yield f"| `RUNTIME` | `{api.RUNTIME!r}` | the command that was called |"
    yield f"| `CONTAINER` | `{api.CONTAINER!r}` | the container's |"
    yield from (
        "",
        "What a plan is made for (`Spec.operation`):",
        "",
        "| name | value | made for |",
        "| --- | --- | --- |",
    )
    yield from (f"| `{name}` | `{getattr(api, name)!r}` | {words} |" for name, words in OPERATIONS.items())
    yield ""


def _entry(name: str, value: object) -> Iterator[str]:
    if inspect.ismodule(value):
        yield from (f"### {name}", "", _prose(value), "")
        for member, found in vars(value).items():
            if inspect.isclass(found) and found.__module__ == value.__name__:
                yield from _class(f"{name}.{member}", found)
            elif inspect.isfunction(found) and not member.startswith("_"):
                yield from _function(f"{name}.{member}", found)
    elif inspect.isclass(value):
        yield from _class(name, value)
    else:
        yield from _function(name, value)


def _function(name: str, value: object) -> Iterator[str]:
    yield from (f"### {name}", "", *_code(name, value), "", _prose(value), "")


def _class(name: str, kind: type, constructor: bool = True) -> Iterator[str]:
    yield from (f"### {name}", "")
    base = kind.__mro__[1]
    if base.__name__ in api.__all__ or base is OSError:
        yield from (f"A subclass of `{base.__name__}`, with all that it has.", "")
    if constructor and "__init__" in vars(kind):
        yield from (*_code(name.rpartition(".")[2], kind), "")
    yield from (_prose(kind), "")
    if not constructor:
        yield from (f"For annotations: `from {kind.__module__} import {kind.__name__}`.", "")
    yield from _attributes(kind, signature(kind) if constructor and "__init__" in vars(kind) else "")
    for member, value in vars(kind).items():
        if member == "__call__" or not member.startswith("_"):
            yield from _method(member, value)


def _attributes(kind: type, shown: str) -> Iterator[str]:
    """A table of those that the signature in sight does not show already, or that have words of their own."""
    found = [field for field in fields(kind) if field.words or not re.search(rf"\b{field.name}: ", shown)]
    if not found:
        return
    yield from ("| attribute | type | default | meaning |", "| --- | --- | --- | --- |")
    for field in found:
        words = field.words or (f"`--{field.name.replace('_', '-')}`" if kind is api.Options else "above")
        yield "| " + " | ".join((f"`{field.name}`", _cell(field.type), _cell(field.default), words)) + " |"
    yield ""


def _cell(code: str) -> str:
    return f"`{code}`".replace("|", "\\|") if code else ""


def _method(name: str, value: object) -> Iterator[str]:
    if isinstance(value, property) and value.fget is not None:
        function = value.fget
        head = f"`{name}`, a property: `{inspect.signature(function).return_annotation}`"
    elif isinstance(value, classmethod):
        function = value.__func__
        head = f"`{name}{_call(function)}`, a classmethod"
    elif inspect.isfunction(value):
        function = value
        head = f"`{'' if name == '__call__' else name}{_call(value)}`"
    else:
        return
    if function.__doc__:  # else it does what that of the base class does
        yield from (f"- {head}", "", textwrap.indent(_prose(function), "  "), "")


def _call(function: object) -> str:
    """A method's signature as its caller sees it."""
    return re.sub(r"^\((self|cls)(, )?", "(", signature(function))


def _code(name: str, value: object) -> list[str]:
    """A signature as code, an argument a line where it is long."""
    line = f"{name}{signature(value)}"
    line = re.sub(r"\bmode: int = (\d+)", lambda found: f"mode: int = {int(found[1]):#o}", line)
    if inspect.isclass(value):
        line = line.removesuffix(" -> None")
    return ["```python", _broken(line) if len(line) > 100 else line, "```"]


def _broken(line: str) -> str:
    begin, end = line.index("(") + 1, line.rindex(") ->") if ") ->" in line else line.rindex(")")
    depth, parts, at = 0, [], begin
    for index in range(begin, end):
        depth += (line[index] in "([{") - (line[index] in ")]}")
        if line[index] == "," and depth == 0:
            parts.append(line[at:index].strip())
            at = index + 1
    parts.append(line[at:end].strip())
    return line[:begin] + "\n" + "".join(f"    {part},\n" for part in parts) + line[end:]


def _prose(value: object) -> str:
    """A docstring in Markdown."""
    return _code_spans(inspect.cleandoc(value.__doc__ or ""))


def _code_spans(words: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", words, flags=re.DOTALL)


def fields(kind: type) -> list[Field]:
    """The public attributes of a class that it declares or its constructor sets; none that it inherits."""
    found: dict[str, Field] = {}
    for field in _fields(kind):
        found.setdefault(field.name, field)
    return [*found.values()]


def _fields(kind: type) -> Iterator[Field]:
    source = textwrap.dedent(inspect.getsource(kind))
    said = _comments(source)
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.ClassDef)
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            name, declared = each.target.id, ast.unparse(each.annotation)
        elif isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            name, declared = each.targets[0].id, _kind(each.value)
        else:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                yield from _assigned(each, said)
            continue
        if not name.startswith("_"):
            default = ast.unparse(each.value) if each.value else ""
            if default.startswith("_"):  # a constant of its module
                default = repr(getattr(kind, name))
            yield Field(name, declared, default, said(each))


def _assigned(constructor: ast.FunctionDef, said: Callable[[ast.stmt], str]) -> Iterator[Field]:
    """What a constructor sets: of its arguments' types, unless it says another one."""
    arguments = {each.arg: each.annotation for each in (*constructor.args.args, *constructor.args.kwonlyargs)}
    for each in constructor.body:
        if not isinstance(each, ast.Assign | ast.AnnAssign) or each.value is None:
            continue
        target = each.target if isinstance(each, ast.AnnAssign) else each.targets[0]
        if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name) or target.attr[0] == "_":
            continue
        argument = arguments.get(target.attr)
        if isinstance(each, ast.AnnAssign):
            kind = ast.unparse(each.annotation)
        elif argument is not None:
            kind = ast.unparse(argument)
            if not isinstance(each.value, ast.Name):
                kind = kind.removesuffix(" | None")  # None becomes something
        else:
            kind = _kind(each.value)
        constant = isinstance(each.value, ast.Constant | ast.UnaryOp)
        yield Field(target.attr, kind, ast.unparse(each.value) if constant else "", said(each))


def _kind(value: ast.expr) -> str:
    """The type of a constant; an empty string for another expression."""
    try:
        return type(ast.literal_eval(value)).__name__
    except ValueError:
        return ""


def _comments(source: str) -> Callable[[ast.stmt], str]:
    """What the comment behind a statement says, on its last line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {token.start[0]: token.string.lstrip("#: ") for token in tokens if token.type == tokenize.COMMENT}
    hidden = re.compile(r"^(type|noqa)\b.*")
    return lambda node: _code_spans(hidden.sub("", found.get(node.end_lineno or 0, "")))
