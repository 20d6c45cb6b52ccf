"""The exception family: every failure names its stage, step, system call, errno and place in config.json."""

from __future__ import annotations

from gosudacon.base import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SyscallError(OSError):
    """A failed system call: ``errno`` and ``strerror`` as in `OSError`, plus the call's name and its object."""

    call: str
    path: str

    def __init__(self, number: int, call: str, path: str = "") -> None:
        super().__init__(number, posix.strerror(number))
        self.call = call
        self.path = path

    def __str__(self) -> str:
        return reason(self)


class Error(Exception):
    """What the runtime reports to its caller.

    ``message`` is complete by itself; the other attributes say where it happened and may be empty:
    ``stage`` and ``step`` of the plan, ``call`` and ``errno`` of the system call, ``where`` in config.json
    (``mounts[3].options``) and a ``hint`` for a person. ``problems`` lists everything that is wrong with
    a configuration: ``line`` and ``column``, ``where``, and either ``message`` or ``found`` and ``allowed``.
    """

    exit_code = 1

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
        self.problems: list[dict[str, Any]] = []

    def record(self) -> dict[str, object]:
        """The error as JSON-able data, to cross from one process to another."""
        data = dict(vars(self), type=type(self).__name__)
        del data["problems"]  # found while planning, which happens in one process
        return data


class ConfigError(Error):
    """The configuration asks for something invalid or impossible; found while planning, before any effect."""


class StepError(Error):
    """A step of the plan failed."""


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
        text = posix.strerror(error.errno) if error.errno else (error.strerror or type(error).__name__)
        text = text[:1].lower() + text[1:]
        call = getattr(error, "call", "")
        path = getattr(error, "path", "") or _name(error.filename)
        subject = " ".join(part for part in (call, path) if part)
        return f"{subject}: {text}" if subject else text
    if isinstance(error, Error):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def shortened(text: str, limit: int) -> str:
    """``text``, or of one longer than ``limit`` characters the beginning and the end, where the reason stands."""
    if len(text) <= limit:
        return text
    end = max(limit // 4, 1)
    return f"{text[: limit - end]} ... (cut) ... {text[-end:]}"


def errno_name(number: int) -> str:
    """``EPERM`` for 1; an empty string for 0."""
    import errno

    return errno.errorcode.get(number, str(number)) if number else ""


def _name(filename: object) -> str:
    if isinstance(filename, bytes):
        return posix.fsdecode(filename)
    return "" if filename is None else str(filename)
