"""What a failure leaves behind: a record in ``--log``, a line on stderr, and a second one with a hint.

Callers depend on the forms (containerd reads ``--log`` as a stream of JSON objects, Podman as exactly one):
without ``--log`` one record on stderr; with it, the record in the file and the bare message on stderr.
When all went well nothing is written but warnings, and what ``--debug`` asks for.
"""

from __future__ import annotations

import time
from errno import ENXIO

from gosudacon.base import errors, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LIMIT = 32 * 1024  # characters of a message
_FACT_LIMIT = 1000  # characters of a hint, a step, a place
_UNQUOTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+"
_SHORT = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", '"': '"', "\\": "\\"}
_STDERR = ("", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2")
# Above what a caller may have meant for the container (--preserve-fds), below the usual limit of 1024.
_LOWEST_FD = 512


class Log:
    """Where records go: ``fd`` (-1: stderr only), as ``json`` or text, ``debugging`` or only errors."""

    __slots__ = ("debugging", "fd", "json")

    def __init__(self, fd: int = -1, json: bool = False, debugging: bool = False) -> None:
        self.fd = fd
        self.json = json
        self.debugging = debugging

    def error(self, error: BaseException | str, prefix: str = "") -> None:
        """Report the failure that ends this invocation. Never raises OSError: it could not be reported.

        One line for callers, which begins with the words that they look for, and where there is a hint one with that.
        """
        message = prefix + (error if isinstance(error, str) else errors.reason(error))
        message = errors.shortened(message, _LIMIT)
        facts: dict[str, object] = {}
        if isinstance(error, errors.Error):
            facts, whereabouts = error.facts(), error.whereabouts()
            message += f" ({whereabouts})" if whereabouts else ""
        self._report("error", message, facts)
        if self.debugging and isinstance(error, BaseException) and not isinstance(error, OSError | errors.Error):
            _write(2, _traceback(error))

    def debug(self, message: str) -> None:
        """Record what is being done, if ``--debug`` was given."""
        if self.debugging:
            self._record("debug", message)

    def warning(self, message: str) -> None:
        """Record what is odd and no failure, in one line."""
        self._record("warning", errors.shortened(message, _LIMIT))

    def outcome(self, message: str, hint: str) -> None:
        """Say how a container in the foreground has ended, in the log and on standard error; nothing if empty."""
        if message:
            self._report("warning", message, {"hint": hint} if hint else {})

    def _report(self, level: str, message: str, facts: Mapping[str, object]) -> None:
        """A record in the log, a line on standard error, and one with the hint."""
        facts = {name: _fitting(value) for name, value in facts.items()}
        self._record(level, message, facts)
        if self.fd >= 0:
            _write(2, plain(message) + "\n")
        if facts.get("hint") and (self.fd >= 0 or not self.json):
            _write(2, f"hint: {plain(' '.join(str(facts['hint']).split()))}\n")

    def _record(self, level: str, message: str, facts: Mapping[str, object] | None = None) -> None:
        """``facts``: more members of the record; not of one on stderr that people read, which has the hint below it."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = facts or {}
        if self.json:
            from gosudacon.base import jsonio

            line = jsonio.dumps({"level": level, "msg": message, "time": now, **facts})
        else:
            shown = {"msg": message, **(facts if self.fd >= 0 else {})}
            line = f'time="{now}" level={level} ' + " ".join(
                [f"{name}={_word(value)}" for name, value in shown.items()]
            )
        _write(self.fd if self.fd >= 0 else 2, line + "\n")


def _fitting(value: object) -> object:
    """What a record has in addition to the message: a path or an argument in it may be of any length."""
    return errors.shortened(value, _FACT_LIMIT) if isinstance(value, str) else value


def open_log(options: Mapping[str, Any]) -> Log:
    """The log that the global options ask for; the file is opened now and never again.

    A symlink is not followed and a FIFO without a reader not waited for. Raises `errors.Error`.
    """
    path, format = options["log"], options["log-format"]
    if format not in ("text", "json"):
        raise errors.Error(f"invalid log-format: {format}")
    kind, colon, rest = path.partition(":")
    if colon and kind in ("journald", "syslog"):
        raise errors.Error(f"--log {kind}: is not supported; give a file")
    if colon and kind == "file":
        path = rest
    fd = -1 if path in _STDERR else _open(path)
    return Log(fd, format == "json", bool(options["debug"]))


def _open(path: str) -> int:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    try:
        fd = _open_now(path, flags)
    except OSError as error:
        raise errors.Error(f"open {errors.reason(error)}", call="open", errno=error.errno or 0) from error
    except ValueError as error:
        raise errors.Error(f"open {quote(path)}: {error}") from error
    import fcntl

    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
    except OSError:  # the limit on descriptors is lower than that
        return fd
    posix.close(fd)
    return high


def _open_now(path: str, flags: int) -> int:
    if posix.descriptor(path) < 0:
        try:
            return posix.open(path, flags | posix.O_NOFOLLOW, 0o644)
        except OSError as error:
            if error.errno != ENXIO:  # a FIFO without a reader yet
                raise
    from gosudacon.base import pipes

    return pipes.open_to_write(path, posix.O_APPEND)


def quote(text: str) -> str:
    """``text`` in double quotes, as Go's ``%q`` prints it: every unprintable character escaped."""
    return '"' + "".join([_escape(char) for char in text]) + '"'


def _escape(char: str) -> str:
    if char in _SHORT:
        return "\\" + _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        code -= 0xDC00
    elif code >= 0x80:
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return f"\\x{code:02x}"


def _word(value: object) -> str:
    """A value of a text record: in quotes unless all of its characters are harmless."""
    text = str(value)
    return text if all(char in _UNQUOTED for char in text) else quote(text)


def plain(text: str) -> str:
    """``text`` as lines for stderr, escaped where a name that a container chose would steer the terminal."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() or char in "\n\t" else _escape(char) for char in text])


def _traceback(error: BaseException) -> str:
    import traceback

    return plain("".join(traceback.format_exception(error)))


def _write(fd: int, text: str) -> None:
    """One write(2), so that records of several processes do not mix."""
    if text:
        try:
            posix.write(fd, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
