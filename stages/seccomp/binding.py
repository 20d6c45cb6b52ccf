"""libseccomp(3), the part that compiling a profile needs, called through `_ctypes`."""

from __future__ import annotations

import sys
from _ctypes import FUNCFLAG_CDECL, CFuncPtr, _SimpleCData, dlopen
from errno import EEXIST

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCMP_ERROR = -1  # __NR_SCMP_ERROR: no architecture has a system call of this name

ATTRIBUTE_BAD_ARCHITECTURE = 2  # SCMP_FLTATR_ACT_BADARCH
ATTRIBUTE_NO_NEW_PRIVILEGES = 3  # SCMP_FLTATR_CTL_NNP
ATTRIBUTE_OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE


class _int(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _uint(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "I"


class _IntFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = _int


class _UintFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = _uint


class _PointerFunction(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = abi.c_void_p


class _Image:
    """What CFuncPtr wants to see: an object with the handle that dlopen(3) gave."""

    def __init__(self, path: str) -> None:
        try:
            self._handle = dlopen(path, posix.RTLD_NOW)
        except OSError as error:
            raise Error(f"cannot load libseccomp: {error}", call="dlopen") from error


class Library:
    """The library at a path. A function it lacks (before 2.5) raises `Error`."""

    def __init__(self, path: str) -> None:
        self._image = _Image(path)
        self._path = path

    def function(self, kind: type[CFuncPtr], name: str, *types: type) -> Callable[..., int]:
        """A C function by name, with declared arguments."""
        try:
            entry = kind((name, self._image))  # type: ignore[arg-type]
        except AttributeError as error:
            raise Error(f"{self._path} has no {name}: libseccomp 2.5 or later is needed") from error
        entry.argtypes = types
        return entry

    def native_architecture(self) -> int:
        """seccomp_arch_native(3)."""
        number: int = self.function(_UintFunction, "seccomp_arch_native")()
        return number

    def knows_architecture(self, name: str) -> bool:
        """Whether it can make filters for ``SCMP_ARCH_…`` (seccomp_arch_resolve_name(3))."""
        function = self.function(_UintFunction, "seccomp_arch_resolve_name", abi.PATH)
        return bool(function(name.removeprefix("SCMP_ARCH_").lower()))

    def version(self) -> str:
        """``2.5.4``, for example (seccomp_version(3))."""
        where: int = self.function(_PointerFunction, "seccomp_version")()
        numbers = bytes((abi.c_char * 12).from_address(where))  # struct scmp_version: three unsigned int
        return ".".join(str(int.from_bytes(numbers[at : at + 4], sys.byteorder)) for at in (0, 4, 8))


class Filter:
    """A filter under construction (seccomp_init(3)); release it. Every method raises `Error`."""

    def __init__(self, library: Library, default: int) -> None:
        self._library = library
        self._context = library.function(_PointerFunction, "seccomp_init", abi.UINT)(default)
        if not self._context:
            raise Error(f"libseccomp refuses the default action {default:#x}", call="seccomp_init")
        integer = library.function
        self._add = integer(_IntFunction, "seccomp_rule_add_array", abi.ULONG, abi.UINT, abi.INT, abi.UINT, abi.BUFFER)
        self._resolve = integer(_IntFunction, "seccomp_syscall_resolve_name", abi.PATH)
        self._resolve_on = integer(_IntFunction, "seccomp_syscall_resolve_name_arch", abi.UINT, abi.PATH)

    def release(self) -> None:
        """seccomp_release(3)."""
        self._library.function(_IntFunction, "seccomp_release", abi.ULONG)(self._context)
        self._context = 0

    def set(self, attribute: int, value: int, must: bool = True) -> None:
        """seccomp_attr_set(3); without ``must`` a library that does not know the attribute is forgiven."""
        function = self._library.function(_IntFunction, "seccomp_attr_set", abi.ULONG, abi.INT, abi.UINT)
        result = function(self._context, attribute, value)
        if result and must:
            raise _error("seccomp_attr_set", result, f"attribute {attribute}")

    def add_architecture(self, token: int, name: str) -> None:
        """seccomp_arch_add(3); adding one twice is fine."""
        function = self._library.function(_IntFunction, "seccomp_arch_add", abi.ULONG, abi.UINT)
        result = function(self._context, token)
        if result and result != -EEXIST:
            raise _error("seccomp_arch_add", result, name)

    def number(self, name: str) -> int:
        """The native number of a system call, a negative pseudo number if only other architectures have it,
        `SCMP_ERROR` if none does (seccomp_syscall_resolve_name(3))."""
        number: int = self._resolve(name)
        return number

    def number_on(self, token: int, name: str) -> int:
        """The number on another architecture; negative if it has no such call."""
        number: int = self._resolve_on(token, name)
        return number

    def add_rule(self, action: int, number: int, name: str, comparisons: Sequence[bytes] = ()) -> None:
        """seccomp_rule_add_array(3); ``comparisons`` are `comparison`s, all of which must hold."""
        result = self._add(self._context, action, number, len(comparisons), b"".join(comparisons))
        if result == -EEXIST:
            raise Error(f"two seccomp rules for {name} with the same arguments ask for different actions")
        if result:
            raise _error("seccomp_rule_add", result, name)

    def export(self) -> bytes:
        """The program, as an array of struct sock_filter (seccomp_export_bpf(3))."""
        function = self._library.function(_IntFunction, "seccomp_export_bpf", abi.ULONG, abi.INT)
        fd = posix.memfd_create("seccomp")
        try:
            result = function(self._context, fd)
            if result:
                raise _error("seccomp_export_bpf", result, "the filter")
            return posix.pread(fd, posix.fstat(fd).st_size, 0)
        finally:
            posix.close(fd)


def comparison(index: int, operator: int, first: int, second: int) -> bytes:
    """struct scmp_arg_cmp: argument ``index`` against ``first``; for MASKED_EQ, masked with it, against ``second``."""
    fields = ((index, 4), (operator, 4), (first, 8), (second, 8))
    return b"".join(value.to_bytes(size, sys.byteorder) for value, size in fields)


def _error(call: str, result: int, about: str) -> Error:
    text = posix.strerror(-result)
    return Error(f"{call} {about}: {text[:1].lower()}{text[1:]}", call=call, errno=-result)
