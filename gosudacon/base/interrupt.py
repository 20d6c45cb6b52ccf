"""The signals that ask a command to end: SIGINT, SIGTERM and SIGHUP become an exception, once.

A command may be interrupted anywhere, since what it makes is on disk before it exists. What must not be interrupted is
the way back: the code that undoes calls `defer` first, and so does the handler. A second signal then changes nothing.

When a signal comes while a destructor or a callback of an import runs, Python reports that and goes on; `check`, called
between steps, raises it again.
"""

from __future__ import annotations

import _signal

SIGNALS = {_signal.SIGHUP: "SIGHUP", _signal.SIGINT: "SIGINT", _signal.SIGTERM: "SIGTERM"}
_received: list[int] = []


class Interrupted(BaseException):
    """A signal asks this command to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by {SIGNALS[signal]}")
        self.signal = signal


def arm() -> None:
    """From here on a signal raises `Interrupted`, unless the caller ignores it; one that came before does so now.

    They have been blocked since the launcher started the interpreter, or `gosudacon.__main__` was called without it.
    """
    for number in SIGNALS:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _interrupt)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, SIGNALS)


def defer() -> None:
    """Hold the signals back from here on; those that come end nothing any more."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS)


def check() -> None:
    """Raise `Interrupted` if a signal has come."""
    if _received:
        raise Interrupted(_received[0])


def _interrupt(number: int, _frame: object) -> None:
    defer()
    _received.append(number)
    raise Interrupted(number)
