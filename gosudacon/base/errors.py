"""The exception family: every failure names its stage, step, system call, errno and place in config.json."""

from __future__ import annotations

from errno import EIO, ENAMETOOLONG

from gosudacon.base import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class ProblemRow(TypedDict, total=False):
        """One of several things that are wrong with config.json, or config.toml."""

        message: str
        where: str  # the path of the member
        line: int  # from 1; 0 if the file is not known
        column: int
        found: str
        allowed: str
        plugin: str  # that has put it there
        hint: str


# What the log says of an error in addition to its message, in this order.
FACTS = ("stage", "step", "call", "errno", "where", "hint")
_SHOWN = 120  # characters of a step in a message
_LONGEST = 4096  # of a fact in the log


class SyscallError(OSError):
    """A failed system call: ``errno`` and ``strerror`` as in `OSError`, plus the call and what it was about."""

    call: str  # its name, such as ``mount``
    path: str  # a path, or words for what was passed; may be empty

    def __init__(self, number: int, call: str, path: str = "") -> None:
        # Python itself refuses addresses that are too long, without an errno: never "success".
        number = number or (ENAMETOOLONG if call in ("bind", "connect") else EIO)
        super().__init__(number, posix.strerror(number))
        self.call = call
        self.path = path

    def __str__(self) -> str:
        return reason(self)


class Error(Exception):
    """What the runtime reports to its caller.

    ``message`` is complete without them; the other attributes say where it happened and may be empty:
    ``stage`` and ``step`` of the plan, ``call`` and ``errno`` of the system call, ``where`` in config.json
    (``mounts[3].options``) and a ``hint`` for a person. ``problems`` lists everything that is wrong with
    a configuration: ``line`` and ``column``, ``where``, and either ``message`` or ``found`` and ``allowed``.
    ``place`` is ``where`` with file, line and column, once it is known.
    """

    exit_code = 1  # the command's
    place = ""

    def __init__(
        self,
        message: str,
        *,
        stage: str = "",
        step: str = "",
        call: str = "",
        errno: int = 0,
        where: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.step = step
        self.call = call
        self.errno = errno
        self.where = where
        self.hint = hint
        self.problems: list[ProblemRow] = []

    def record(self) -> dict[str, object]:
        """The error as JSON-able data, to cross from one process to another."""
        data = {name: getattr(self, name) for name in ("message", *FACTS)}
        return {**data, "type": type(self).__name__}

    def facts(self) -> dict[str, object]:
        """What is known apart from the message, for the log; ``where`` with file, line and column if they are known."""
        known = {name: getattr(self, name) for name in FACTS}
        known["where"] = self.place or self.where
        return {
            name: shortened(value, _LONGEST) if isinstance(value, str) else value
            for name, value in known.items()
            if value
        }

    def whereabouts(self) -> str:
        """Stage, step and place, for the end of the message; the step only where the message does not name it."""
        step = "" if self.step in self.message else shortened(self.step, _SHOWN)
        parts = (": ".join(filter(None, (self.stage, step))), self.place or self.where)
        return ", ".join(filter(None, parts))


class ConfigError(Error):
    """The configuration asks for something invalid or impossible; found while planning, before any effect."""


class SettingsError(Error):
    """The administrator's configuration, config.toml, asks for something invalid or impossible."""


class StepError(Error):
    """A step of the plan failed. What a step raises as OSError becomes one, with stage, step, call and errno."""


class StateError(Error):
    """The container is not in the state that the operation needs."""


def from_record(data: dict[str, Any]) -> Error:
    """Rebuild an error that another process recorded. Raises TypeError for what `Error.record` would not have made."""
    data = dict(data)
    kind = {"ConfigError": ConfigError, "StateError": StateError}.get(data.pop("type", ""), StepError)
    for name, value in data.items():
        if type(value) is not (int if name == "errno" else str):
            raise TypeError(f"{name} of an error is {value!r}")
    return kind(**data)


def reason(error: BaseException) -> str:
    """One line for any exception: ``mount /proc: operation not permitted`` in the lower case callers match."""
    if isinstance(error, OSError):
        text = posix.strerror(number(error)) if error.errno or str(error) else type(error).__name__
        text = text[:1].lower() + text[1:]
        call = getattr(error, "call", "")
        path = getattr(error, "path", "") or _name(error.filename)
        subject = " ".join(part for part in (call, path) if part)
        return f"{subject}: {text}" if subject else text
    if isinstance(error, Error):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def shortened(text: str, limit: int) -> str:
    """``text``, or of one longer than ``limit`` characters the beginning and the end, which has the reason."""
    if len(text) <= limit:
        return text
    end = max(limit // 4, 1)
    return f"{text[: limit - end]} ... (cut) ... {text[-end:]}"


def errno_name(number: int) -> str:
    """``EPERM`` for 1; an empty string for 0."""
    import errno

    return errno.errorcode.get(number, str(number)) if number else ""


def number(error: OSError) -> int:
    """The errno of an error; of one that Python raised before any system call, what that would have said."""
    return error.errno or (ENAMETOOLONG if "too long" in str(error) else EIO)


def _name(filename: object) -> str:
    """The name of a file; a descriptor's number is none."""
    if isinstance(filename, bytes):
        return posix.fsdecode(filename)
    return filename if isinstance(filename, str) else ""
