"""Make the files of a build: `gosudacon.launcher.loader`, an archive of our modules' code, and the rest.

The code is made for speed: without docstrings, annotations and the columns of positions. Reading it is the larger
part of a start, and this takes a fifth of it away. Assertions stay.

`make` runs the compiler in an interpreter of its own, because only an option of the interpreter
(``-X no_debug_ranges``) leaves the columns out. This file is its program, and imports the standard library only.
"""

from __future__ import annotations
import __future__

import _imp
import ast
import encodings
import importlib.util
import marshal
import os
import re
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from types import CodeType
    from typing import Any

    Known = tuple[str, str, int, int, tuple[Any, ...]]

# The files of a build: what the launcher runs, our modules' code, what it runs in case of doubt, the startup directory.
LOADER, ARCHIVE, RECOVER, STARTUP = "loader.pyc", "archive", "recover.py", "startup"

# A module that imports one of these when it is imported cannot be part of a fast start.
_SLOW = frozenset(
    {
        *(
            "argparse",
            "asyncio",
            "collections",
            "contextlib",
            "ctypes",
            "dataclasses",
            "enum",
            "functools",
            "importlib",
        ),
        *(
            "inspect",
            "json",
            "jsonschema",
            "logging",
            "pathlib",
            "pluggy",
            "pyroute2",
            "re",
            "rich",
            "shutil",
            "socket",
        ),
        *("socket", "subprocess", "tempfile", "tomllib", "traceback", "typing"),
    }
)
# Extension modules of the standard library that a fast start needs, where they are files.
_EXTENSIONS = ("_ctypes", "_json", "_struct", "_socket", "fcntl")
# The commands whose modules the loader itself has the index of. The rest is larger, and not read for them.
_SHORT = tuple(f"gosudacon.cli.{name}" for name in ("main", "start", "state", "kill", "delete"))
# Modules that are read together, each group with all that they import and no group before it has: one read, and what
# they have in common, such as names, is made once. For every command; those that run or undo steps; those that undo
# cgroups; those that make a process; a container; `exec`. Held against what is imported by test_import_budget.py.
TOGETHER = (
    "__main__ cli.main container.state linux.proc",
    "api linux.cgroup.hierarchy pipeline.runner stages.cgroups",
    "stages.cgroups.create",
    "container.bundle container.caller container.host container.operation linux.capability linux.cgroup.files "
    "linux.identity linux.namespace linux.path pipeline.executor pipeline.plan pipeline.snapshot schema._validator "
    "schema.verdict stages.handoff.confine stages.handoff.execute stages.namespaces stages.validate_config",
    "container.create linux.cgroup.processes stages.cgroups.devices stages.cgroups.limits stages.cgroups.making "
    "stages.pivot_root stages.rootfs_mount.destination stages.rootfs_mount.devices stages.rootfs_mount.filesystem "
    "stages.rootfs_mount.hide stages.rootfs_mount.options stages.rootfs_mount.root",
    "cli.exec linux.memory stages.cgroups.enter stages.namespaces.birth stages.namespaces.enter stages.namespaces.join",
)
# What the interpreter takes from where it is started from, and must be as without the startup directory.
_OF_THE_PLACE = ("executable", "_base_executable", "prefix", "base_prefix", "exec_prefix", "base_exec_prefix")
_IMPORT = re.compile(r"^ *(?:from|import) (gosudacon[\w.]*)(?: import (?:\(([^)]*)\)|([\w, ]+)))?", re.MULTILINE)
_HEADER_REST = bytes(12)  # of a .pyc file: flags, time and size of the source; read by importlib only


class Files:
    """Content of the files of a build and of its startup directory, by their names."""

    def __init__(self, build: dict[str, bytes], startup: dict[str, bytes]) -> None:
        self.build = build
        self.startup = startup


def make(interpreter: str, directory: str, paths: Sequence[str]) -> Files:
    """The files of the build ``directory``, to be run by ``interpreter``.

    ``paths`` go to ``sys.path``; gosudacon is in the first of them. Raises `RuntimeError` with what the compiler
    said, and OSError.
    """
    options = ["-ISB", "-Xutf8", "-Xno_debug_ranges"]
    command = [interpreter, *options, os.path.abspath(__file__), directory, *paths]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"cannot compile the modules: {lines[-1]}")
    return Files(*marshal.loads(result.stdout))


def _make(directory: str, paths: Sequence[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    package = os.path.join(paths[0], "gosudacon")
    sources = dict(_sources(package))
    _check_complete(sources)
    mark = os.urandom(8)
    modules: list[tuple[str, Known]] = []
    data = bytearray()
    fast = _fast(sources)
    wanted = _imports_of(fast)
    for group in groups(wanted):
        content = marshal.dumps({name: _compile(fast[name], sources[name]) for name in group})
        for name in group:
            path = sources[name]
            folder = os.path.dirname(path) if os.path.basename(path) == "__init__.py" else ""
            modules.append((name, (path, folder, len(data), len(content), wanted[name])))
        data += content + mark
    extensions = [(name, (path, "", 0, 0, _stamp(path))) for name, path in _extensions()]
    first = _closure(["gosudacon", "gosudacon.__main__", *_SHORT], wanted)
    rest = marshal.dumps(tuple(known for known in modules if known[0] not in first))
    values: dict[str, object] = {"REST": (len(data), len(rest))}
    data += rest + mark
    values |= {
        "MODULES": (*(known for known in modules if known[0] in first), *extensions),
        "ARCHIVE": os.path.join(directory, ARCHIVE),
        "MARK": mark,
        "PATHS": tuple(paths),
        "STARTUP": os.path.join(directory, STARTUP),
        "PYTHON": tuple((name, getattr(sys, name)) for name in _OF_THE_PLACE),
    }
    place = os.path.join(directory, LOADER)
    loader = _pyc(_filled(os.path.join(package, "launcher", "loader.py"), place, values))
    files = {LOADER: loader, ARCHIVE: bytes(data), RECOVER: _recover(package, place, loader, paths)}
    return files, _startup(package, place)


def _check_complete(paths: Mapping[str, str]) -> None:
    """Raise `RuntimeError` if a module of ours is imported that is not there: the package is being replaced."""
    for path in paths.values():
        for module, several, names in _IMPORT.findall(_read(path).decode()):
            needed = {module}
            if os.path.basename(paths.get(module, "")) == "__init__.py":
                own = _read(paths[module]).decode()
                words = [part.split()[0] for part in (several or names).split(",") if part.strip()]
                needed |= {f"{module}.{word}" for word in words if word not in own}
            for name in sorted(needed - {*paths}):
                if not _is_stub(name, paths):
                    raise RuntimeError(f"{path} imports {name}, which is missing")


def _is_stub(name: str, paths: Mapping[str, str]) -> bool:
    """Whether a module is there for the type checker only, as a ``.pyi`` file."""
    package, _, leaf = name.rpartition(".")
    return os.path.exists(os.path.join(os.path.dirname(paths.get(package, "")), f"{leaf}.pyi"))


def _recover(package: str, place: str, loader: bytes, paths: Sequence[str]) -> bytes:
    text = _read(os.path.join(package, "launcher", "recover.py")).decode()
    version = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    for name, value in (
        ("LOADER", place),
        ("DIGEST", _imp.source_hash(0, loader)),
        ("MAGIC, VERSION", (importlib.util.MAGIC_NUMBER, version)),
        ("PATHS", tuple(paths)),
    ):
        before, found, after = text.partition(f"\n{name} = ")
        assert found, name
        text = f"{before}{found}{value!r}{after[after.index(chr(10)) :]}"
    return text.encode()


def imports(package: str) -> dict[str, tuple[str, ...]]:
    """What every module of the archive imports when it is imported, packages and all; ``package``: our directory."""
    return _imports_of(_fast(dict(_sources(package))))


def _imports_of(trees: Mapping[str, ast.Module]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(_needs(tree, trees)) for name, tree in trees.items()}


def _fast(sources: Mapping[str, str]) -> dict[str, ast.Module]:
    trees = {name: ast.parse(_read(path)) for name, path in sources.items()}
    return {name: tree for name, tree in trees.items() if _is_fast(tree)}


def groups(imports: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The modules, as they are read: those of `TOGETHER`, every other one alone.

    ``imports``: as the function of this name gives it.
    """
    found = []
    grouped: set[str] = set()
    for words in TOGETHER:
        roots = [f"gosudacon.{word}" for word in words.split()]
        found.append(sorted(_closure(["gosudacon", *roots], imports) - grouped))
        grouped.update(found[-1])
    return found + [[name] for name in imports if name not in grouped]


def _closure(roots: Sequence[str], imports: Mapping[str, Sequence[str]]) -> set[str]:
    """The modules that are imported when ``roots`` are, packages and all."""
    waiting = [part for root in roots for part in _with_packages(root)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in imports and name not in found:
            found.add(name)
            waiting += imports[name]
    return found


def _with_packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _startup(package: str, loader: str) -> dict[str, bytes]:
    """The files of the startup directory except the link to the interpreter (`gosudacon.launcher.startup_dir`).

    This process is an interpreter of the same kind without it: its ``sys.path`` is what the library needs.
    """
    values = {"LIBRARY": os.path.dirname(encodings.__file__), "LOADER": loader}
    code = _filled(os.path.join(package, "launcher", "encoding.py"), "<gosudacon encodings>", values)
    lines = [".", *sys.path, ""]
    return {"encodings.pyc": _pyc(code), f"{os.path.basename(sys.executable)}._pth": "\n".join(lines).encode()}


def _pyc(code: CodeType) -> bytes:
    return importlib.util.MAGIC_NUMBER + _HEADER_REST + marshal.dumps(code)


def _filled(source: str, path: str, values: Mapping[str, object]) -> CodeType:
    tree = ast.parse(_read(source))
    _strip(tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in values:
            constant = ast.Constant(values[node.targets[0].id])  # type: ignore[arg-type]
            node.value = ast.copy_location(constant, node)
    return compile(tree, path, "exec", dont_inherit=True)


def _is_fast(tree: ast.Module) -> bool:
    return _SLOW.isdisjoint(name.partition(".")[0] for name in _imports(tree))


def _needs(tree: ast.Module, known: Container[str]) -> dict[str, None]:
    """The modules of the archive that a module imports when it is executed, in order, packages before what is in them.

    For a package that is not in the archive nothing below it is named: the ordinary import has to make it.
    """
    found: dict[str, None] = {}
    for name in _imports(tree):
        for part in _with_packages(name):
            if part not in known:
                break
            found[part] = None
    return found


def _sources(package: str) -> Iterator[tuple[str, str]]:
    """Name and path of every module."""
    top = os.path.dirname(package)
    for directory, folders, files in os.walk(package, followlinks=True):  # in a checkout some folders are links
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        prefix = os.path.relpath(directory, top).replace(os.sep, ".")
        for file in sorted(files):
            stem, extension = os.path.splitext(file)
            if extension == ".py":
                yield (prefix if stem == "__init__" else f"{prefix}.{stem}"), os.path.join(directory, file)


def _imports(tree: ast.Module) -> Iterator[str]:
    """What the module's own statements import, not those inside its functions; a name from a package, too."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _compile(tree: ast.Module, path: str) -> CodeType:
    # ``from __future__ import annotations`` is an import like any other when it is executed. The compiler takes
    # the same order as a flag.
    flags = 0
    for node in [*tree.body]:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            flags |= sum(getattr(__future__, alias.name).compiler_flag for alias in node.names)
            tree.body.remove(node)
    _strip(tree)
    code: CodeType = compile(tree, path, "exec", flags=flags, dont_inherit=True)
    return code


def _strip(tree: ast.Module) -> None:
    _Strip().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body[:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), node.body[0])]


class _Strip(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def _extensions() -> Iterator[tuple[str, str]]:
    for name in _EXTENSIONS:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin and spec.has_location:
            yield name, spec.origin


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    sys.stdout.buffer.write(marshal.dumps(_make(sys.argv[1], sys.argv[2:])))
