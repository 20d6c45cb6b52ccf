"""What a step's `run` and `undo` import while they run, read from their source."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_PROGRAM = """
import sys
cut = sys.argv.index("--")
sys.path[:] = sys.argv[1:cut]
import gosudacon.cli.create, gosudacon.cli.delete, gosudacon.pipeline.plugins
for name in sys.argv[cut + 1:]:
    __import__(name)
print(*sorted(sys.modules), sep="\\n")
"""


def loaded(modules: Sequence[str]) -> set[str]:
    """The modules that are there when the wall is built in a container with these of a plugin. Raises `Error`."""
    command = [os.path.realpath(sys.executable), "-ISB", "-Xutf8", "-c", _PROGRAM, *sys.path, "--", *modules]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Error(f"cannot import {', '.join(modules)}: {last}")
    return set(result.stdout.split())


def of_method(kind: type, method: str) -> set[str]:
    """The modules that a method imports, itself or in functions and methods of its module that it calls by name."""
    owner = next((each for each in kind.__mro__ if method in vars(each)), None)
    module = sys.modules.get(owner.__module__) if owner is not None else None
    if owner is None or module is None:
        return set()
    functions = _functions(module)
    found: set[str] = set()
    waiting, seen = [method], {method}
    own = {method: functions.get(f"{owner.__name__}.{method}")}
    while waiting:
        name = waiting.pop()
        node = own.get(name) or functions.get(f"{owner.__name__}.{name}") or functions.get(name)
        if node is None:
            continue
        found.update(_imported(node, module.__package__ or ""))
        for called in _names(node):
            if called not in seen:
                seen.add(called)
                waiting.append(called)
    return found


def _functions(module: ModuleType) -> dict[str, ast.AST]:
    """The functions of a module, and the methods of its classes as CLASS.METHOD."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found.update({f"{node.name}.{each.name}": each for each in node.body if isinstance(each, ast.FunctionDef)})
    return found


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            if isinstance(each.func, ast.Name):
                yield each.func.id
            elif isinstance(each.func, ast.Attribute):
                yield each.func.attr


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (name.name for name in each.names)
        elif isinstance(each, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - each.level + 1] if each.level else []
            yield ".".join([*base, *([each.module] if each.module else [])])
        elif isinstance(each, ast.Call) and each.args and isinstance(each.args[0], ast.Constant):
            called = each.func.attr if isinstance(each.func, ast.Attribute) else getattr(each.func, "id", "")
            if called in ("__import__", "import_module") and isinstance(each.args[0].value, str):
                yield each.args[0].value
