"""POSIX extended regular expressions, by the C library (regex(3), regex(7))."""

from __future__ import annotations

import ctypes

from gosudacon.base.errors import Error

_EXTENDED, _NOSUB = 1, 8  # in both the GNU C library and musl
_SIZE = 256  # bytes; a regex_t has 64 and 56 in these
_MESSAGE = 256


class Regex:
    """One expression, which may match anywhere in a text. Raises `Error` if it is none."""

    def __init__(self, pattern: str) -> None:
        self._libc = ctypes.CDLL(None)
        self._compiled = ctypes.create_string_buffer(_SIZE)
        code = self._libc.regcomp(self._compiled, pattern.encode(errors="surrogateescape"), _EXTENDED | _NOSUB)
        if code:
            message = ctypes.create_string_buffer(_MESSAGE)
            self._libc.regerror(code, self._compiled, message, _MESSAGE)
            raise Error(f"invalid regular expression {pattern!r}: {message.value.decode(errors='replace')}")

    def matches(self, text: str) -> bool:
        """Whether it matches somewhere in ``text``."""
        return bool(self._libc.regexec(self._compiled, text.encode(errors="surrogateescape"), 0, None, 0) == 0)
