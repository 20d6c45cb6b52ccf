"""One invocation: parse, open the log, run the one command asked for, report its failure."""

from __future__ import annotations

import sys

from gosudacon.base import posix
from gosudacon.base.errors import Error, StateError
from gosudacon.base.interrupt import Interrupted, arm
from gosudacon.cli import log as logs
from gosudacon.cli import parse as parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from gosudacon.container.caller import Caller, Options

    Kind = TypeVar("Kind", bound=Options)

#: Options whose values are paths, of which any may name a descriptor.
_FILES = ("config", "process", "pid-file", "console-socket", "pidfd-socket")


def main(argv: list[str]) -> int:
    """Run the command line ``argv`` (without the program's name); returns the exit status."""
    try:
        invocation = parser.parse(argv)
    except parser.UsageError as error:
        return _usage(error)
    try:
        log = logs.open_log(invocation.globals)
    except (Error, OSError) as error:
        logs.Log().error(error)
        return 1
    invocation.log = log
    if invocation.former:
        for name, former in invocation.former.items():
            log.warning(f"--{former} is now called --{name}; the old name will be removed")
    return _run(invocation, log)


def _run(invocation: parser.Invocation, log: logs.Log) -> int:
    try:
        arm()
        return _command(invocation)
    except (Error, OSError) as error:
        log.error(_diagnosed(error, invocation), invocation.prefix)
    except SystemExit:  # rich, whose reader has gone: `gosudacon explain | head`
        pass
    except Interrupted as interrupted:
        log.error(str(interrupted), invocation.prefix)
    except BaseException as error:  # noqa: BLE001 - a bug, too, must reach the caller as one line
        log.error(error, invocation.prefix + "internal error: ")
    return invocation.failure


def _command(invocation: parser.Invocation) -> int:
    """Run the command. A trace of it is written at the very end, whether it succeeds or fails."""
    if invocation.options.get("trace"):
        from gosudacon.trace import record

        record.begin(invocation, invocation.options["trace"])
    try:
        name = f"gosudacon.cli.{invocation.command}"
        __import__(name)
        status: int = sys.modules[name].run(invocation)
        return status
    except BaseException as error:
        if invocation.recording is not None:
            invocation.recording.failed(error)
        raise
    finally:
        if invocation.recording is not None:
            for message in invocation.recording.write():
                invocation.log.warning(message)


def _diagnosed(error: Error | OSError, invocation: parser.Invocation) -> Error | OSError:
    """The error with its place and a hint, as far as they can be found; nothing that happens here may hide it."""
    caller, settings = invocation.caller, invocation.globals["config-file"]
    if isinstance(error, StateError) and caller is None and invocation.command != "start":
        return error  # an everyday answer to callers, not worth another import
    try:
        from gosudacon.container import diagnosis

        spec = caller.spec if caller is not None else None
        root = root_of(invocation)
        if spec is None and invocation.command == "start":
            spec = diagnosis.saved(root, invocation.args[0])
        return diagnosis.diagnosed(error, spec, root, settings)
    except Exception:  # noqa: BLE001
        return error


def _usage(error: parser.UsageError) -> int:
    from gosudacon.cli import help as helps

    try:
        log = logs.open_log(error.invocation.globals)
    except (Error, OSError, KeyError):
        log = logs.Log()
    helps.report(error)
    error.hint = helps.hint(error)
    log.error(error)
    return error.exit_code


def root_of(invocation: parser.Invocation) -> str:
    """The directory of all containers' state: ``--root``, made absolute, or the default. Raises `Error`."""
    from gosudacon.container.state import default_root

    root: str = invocation.globals["root"]
    if "root" not in invocation.given:
        return default_root(posix.environ)
    root = posix.path.abspath(root) if root else "/"
    if root == "/":
        raise Error("Option --root argument should not be set to /")
    return root


def bundle_of(invocation: parser.Invocation) -> str:
    """The absolute path of ``--bundle``, by default the working directory."""
    return posix.path.abspath(invocation.options["bundle"] or ".")


def options_of(invocation: parser.Invocation, kind: type[Kind]) -> Kind:
    """The options that an operation sees, global ones included; with absolute paths."""
    options = {**invocation.globals, **invocation.options}
    options["config-file"] = invocation.globals["config-file"] if "config-file" in invocation.given else ""
    options = {name.replace("-", "_"): value for name, value in options.items() if value not in (None, "", [], False)}
    for name in ("pid_file", "console_socket", "pidfd_socket", "image_path", "work_path"):
        if name in options:
            options[name] = posix.path.abspath(options[name])
    return kind.among(options)


def caller_of(invocation: parser.Invocation, listen: bool = True) -> Caller:
    """The caller of a command that enters a container; ``listen``: descriptors passed by LISTEN_FDS are passed on."""
    from gosudacon.container.caller import of_process

    log, options = invocation.log, invocation.options
    named = [posix.descriptor(options.get(name) or "") for name in _FILES]
    count = int(options.get("preserve-fds") or 0)
    caller = of_process(log, log.fd, count, listen, [fd for fd in named if fd > 2], invocation)
    invocation.caller = caller
    return caller
