"""Every start of the program: the loader, pip's console script and ``python -m gosudacon`` call `main`."""

from __future__ import annotations

import _signal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def _report(kind: type[BaseException], error: BaseException, _traceback: object) -> None:
    """A line for what no command could report; as `sys.excepthook`."""
    text = f"{kind.__name__}: {error}" if str(error) else kind.__name__
    posix.write(2, f"gosudacon: {text}\n".encode(errors="replace"))


sys.excepthook = _report
sys.unraisablehook = lambda _report: None  # a signal in a destructor: `interrupt.check` raises it again

_SHIM = "containerd-shim"  # the first argument that the launcher of this name gives
_PACKAGE = __file__.rpartition("/")[0]


def main(entry: str = "") -> NoReturn:
    """Run the command line and leave with its exit status.

    ``entry`` is the file to run again if the interpreter has to be started over (`gosudacon.launcher.start`).
    Does not return, and skips the interpreter's own shutdown, which takes 1 to 2 ms and has nothing to do.
    """
    if "gosudacon" in sys._xoptions:
        _show_environment()
    if sys._xoptions.get("gosudacon") != "tree":
        # As the launcher has done: gosudacon.base.interrupt.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM))
        from gosudacon.launcher.start import prepare

        prepare(sys.argv[1:], entry or _PACKAGE + "/__main__.py", _PACKAGE)
    _check_owner()
    if sys.argv[1:2] == [_SHIM]:
        from gosudacon.shim.main import main as shim

        _leave(shim(sys.argv[2:]))
    from gosudacon.cli.main import main as run

    _leave(run(sys.argv[1:]))


def _check_owner() -> None:
    owned = posix.stat(_PACKAGE)
    if posix.geteuid() != 0 or (owned.st_uid == 0 and not owned.st_mode & 0o022):
        return
    from gosudacon.base.ownership import is_safe

    if not is_safe(_PACKAGE, owned):
        _leave(f"gosudacon: {_PACKAGE} can be written to by others than root: refusing to run its code as root")


def _show_environment() -> None:
    """Give the environment the caller's names back, which the launcher or the seal has hidden from the interpreter."""
    hidden = dict(posix.environ)
    posix.environ.clear()
    for name in hidden:
        posix.unsetenv(name)
    for name, value in hidden.items():
        if name >= b"\x80":  # otherwise one that the interpreter was to see
            shown = name[1:] if name[0] == 0x80 else bytes((name[0] & 0x7F,)) + name[1:]
            posix.environ[shown] = value
            if shown:
                posix.putenv(shown, value)  # for what the C library starts or reads


def _leave(status: int | str) -> NoReturn:
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            status = status or 1
    posix._exit(status)


if __name__ == "__main__":
    if not __package__:  # started by its path, not by -m: after the library, before another gosudacon
        packages = [index for index, path in enumerate(sys.path) if path.endswith("-packages")]
        sys.path.insert(min(packages, default=len(sys.path)), _PACKAGE.rpartition("/")[0])
        sys.path.extend(filter(None, str(sys._xoptions.get("gosudacon-path", "")).split(":")))
    main()
