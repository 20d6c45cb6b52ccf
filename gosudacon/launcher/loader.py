"""What the installed command runs, and the finder that gets its modules from one file.

This is the source of the ``.pyc`` file that the launcher names to the interpreter. `gosudacon.launcher.archive`
compiles it, with its own values instead of the constants, and writes the code of our modules into the
file DATA. To find the modules one by one on ``sys.path`` takes directory listings, a dozen system calls a module
and a check of each ``.pyc``.

Where ARCHIVE is damaged, the modules come from their source files next to it, and one line on standard error says so.
Nothing but the time of a start depends on it. Only what is built into the interpreter is imported here.

What a module imports when it is executed is known in advance, and brought in without the import system's locks and
searches, which cost more than a small module's own code. Its import statements then find everything in ``sys.modules``.
"""

import gc
import posix
import sys
from _frozen_importlib import ModuleSpec, module_from_spec
from _frozen_importlib_external import ExtensionFileLoader, SourceFileLoader
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

# name: path, directory if a package else "", offset and size of its group in ARCHIVE (0 if an extension module), those
# of our modules that it imports first of all; of an extension module, time of change and size of the file
MODULES: "tuple[tuple[str, tuple[str, str, int, int, tuple[Any, ...]]], ...]" = ()
ARCHIVE = ""
# What follows each group's code in ARCHIVE: another installation's has another.
MARK = b""
# Offset and size in ARCHIVE of more of the same: MODULES has what the shortest commands need.
REST: "tuple[int, int]" = (0, 0)
# For sys.path: the directory that holds our packages, and those of the Python or venv, for plugins of others.
PATHS: "tuple[str, ...]" = ()
# The directory that the interpreter was started from (`gosudacon.launcher.startup_dir`), and attributes of `sys` that
# this has made different.
STARTUP = ""
PYTHON: "tuple[tuple[str, str], ...]" = ()

_known = dict(MODULES)
_rest = [REST]
_codes: "dict[str, CodeType]" = {}


class Loader(SourceFileLoader):
    """The ordinary loader of a source file, except that the code is at hand."""

    def get_code(self, fullname: str) -> "CodeType | None":
        """The code object of the module. That of the modules that are read with it is kept for them."""
        if fullname not in _codes:
            _codes.update(_read(*_known[fullname][2:4]) or ())
        code = _codes.pop(fullname, None)
        return super().get_code(fullname) if code is None else code

    def exec_module(self, module: "ModuleType") -> None:
        """Execute the module, after those that it imports."""
        for name in _known[module.__name__][4]:
            if name not in sys.modules:
                _bring(name)
        super().exec_module(module)


class Finder:
    """A finder for ``sys.meta_path``: our modules, and extension modules that are still the same files."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """As `importlib.abc.MetaPathFinder.find_spec`."""
        known = _known.get(name)
        if known is None:
            if not _rest or not name.startswith("gosudacon."):
                return None
            _known.update(_read(*_rest.pop()) or ())
            return Finder.find_spec(name)
        origin, package, _offset, size, stamp = known
        if not size and _stamp(origin) != stamp:
            return None
        spec = ModuleSpec(name, (Loader if size else ExtensionFileLoader)(name, origin), origin=origin)
        spec.has_location = True
        spec.cached = __file__
        if package:
            spec.submodule_search_locations = [package]
        return spec


def _stamp(path: str) -> "tuple[int, int] | None":
    try:
        status = posix.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(offset: int, size: int) -> "Any":
    """What is in ARCHIVE; None if that is not what was installed, said once."""
    global MARK
    # Opened every time: a descriptor kept open could be closed, and its number be another file.
    content = b""
    try:
        data = posix.open(ARCHIVE, posix.O_RDONLY | posix.O_CLOEXEC)
        content = posix.pread(data, size + len(MARK), offset)
        posix.close(data)
    except OSError:
        pass
    if MARK and content[size:] == MARK:
        return loads(content)
    if MARK and "gosudacon-again" not in sys._xoptions:  # said before the interpreter was started over
        print(f'gosudacon: {ARCHIVE} is damaged; run "gosudacon install" to be as fast as before', file=sys.stderr)
    MARK = b""
    return None


def _bring(name: str) -> None:
    """Import a module whose package is imported; what is not here is left to the import statement."""
    spec = Finder.find_spec(name)
    if spec is None or spec.loader is None:
        return
    if type(spec.loader) is Loader:
        # As module_from_spec does it, for all the cases there are.
        module = type(sys)(name)
        module.__dict__.update(
            __spec__=spec, __loader__=spec.loader, __package__=spec.parent, __file__=spec.origin, __cached__=__file__
        )
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
    else:
        module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    package, _, tail = name.rpartition(".")
    setattr(sys.modules[package], tail, module)


def _report(kind: type, error: BaseException, _traceback: object) -> None:
    """A line for what ends the program before it can report errors itself; as `sys.excepthook`."""
    posix.write(2, f"gosudacon: cannot start: {kind.__name__}: {error}\n".encode(errors="replace"))


def start() -> None:
    """Put the finder in front of the others and run the command line."""
    sys.excepthook = _report
    gc.disable()  # a command is over before there is garbage worth looking for; `run` waits, and enables it again
    sys.meta_path.insert(0, Finder)
    if sys.executable.startswith(STARTUP):
        for name, value in PYTHON:
            setattr(sys, name, value)
    sys.path[:] = [*(path for path in sys.path if path != STARTUP), *PATHS]
    try:
        from gosudacon.__main__ import main
    except (ModuleNotFoundError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("gosudacon"):
            raise
        sys.exit(f'gosudacon: {PATHS[0]} is damaged; run "gosudacon install" of the package')
    main(__file__)


if __name__ == "__main__":
    start()
