"""What the launcher runs where the interpreter is not the one of the installation, or the loader is damaged.

Another build of the same Python minor version runs the loader. For anything else our modules are imported from their
source files, and one line on standard error says so. This is also the body of the script that stands in for the
launcher (`gosudacon.launcher.program.script`), so it looks at everything itself.

`gosudacon install` replaces the constants with its own values. Any Python from 3.6 on must be able to read it.
"""

import sys

LOADER = ""
DIGEST = b""  # of the loader's content
MAGIC, VERSION = b"", ""  # of the Python that it was installed for
PATHS = ()  # type: tuple[str, ...]  # for sys.path, ours first


def start() -> None:
    """Run the command line, by the loader if possible."""
    if sys.version_info < (3, 11):  # noqa: UP036 - that is what this file is for
        sys.exit(f'gosudacon: installed for {VERSION}, and this is {_this()}; run "gosudacon install" with a newer one')
    import _imp
    from _frozen_importlib_external import MAGIC_NUMBER
    from marshal import loads

    content = _read(LOADER)
    if MAGIC_NUMBER != MAGIC:
        _ordinary(f"installed for {VERSION}, and this is {_this()}")
    elif _imp.source_hash(0, content) != DIGEST:
        _ordinary(f"{LOADER} is damaged")
    else:
        exec(loads(content[16:]), {"__name__": "__main__", "__file__": __file__})


def _ordinary(trouble: str) -> None:
    """Import our modules as any others are imported, and say why."""
    if "gosudacon-again" not in sys._xoptions:  # said before the interpreter was started over
        print(f'gosudacon: {trouble}; run "gosudacon install" to be as fast as before', file=sys.stderr)
    sys.path.extend(PATHS)
    try:
        from gosudacon.__main__ import main
    except (ModuleNotFoundError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("gosudacon"):
            raise
        sys.exit(f'gosudacon: {PATHS[0]} is damaged; run "gosudacon install" of the package')
    main(__file__)


def _this() -> str:
    return f"Python {'.'.join(map(str, sys.version_info[:3]))}"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    start()
