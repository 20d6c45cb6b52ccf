"""Memory that forks go on sharing with their parent although they have written to it.

A fork's page is its own as soon as it writes to it (fork(2)), and an interpreter writes to all that it looks at, for it
counts references; mostly it puts back what was there, or writes what others of its kind write. So the parent's memory
becomes a private mapping of a file in memory, the *image*: the memory of a fork that has done what all forks do. A fork
that has nothing to do drops the pages that are as in the image (`Image.share`); what it sees stays the same.

The two functions that change memory under a running interpreter are in C, in the launcher (launcher/pages.h). Where
the launcher has not been built, or pages are not of 4 KiB, there is no image, and each fork keeps its pages.
"""

from __future__ import annotations

import fcntl
import struct
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_PYTHONAPI, CFuncPtr

from gosudacon.base import posix
from gosudacon.linux import abi

_PAGE = 4096  # bytes; as in pages.h
_TAG = b"gosudacon-slot:pages".ljust(32, b"\0")
_SMALLEST = 64 << 10  # bytes of a mapping that is worth it, and more than what threads and libraries have
_PIECE = struct.Struct("=QQq")  # struct memory_piece
_MFD_NOEXEC_SEAL = 0x8  # Linux 6.3
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_PROT_READ, _PROT_EXEC = 1, 4
_MAP_PRIVATE, _MAP_ANONYMOUS = 0x2, 0x20
_NAME = "gosudacon-image"
_LOAD, _EXECUTABLE = 1, 1  # p_type and p_flags of a segment (elf(5))
_HEADER = struct.Struct("<32xQ14xHH")  # of an ELF file: e_phoff, e_phentsize, e_phnum
_SEGMENT = struct.Struct("<IIQQQQ")  # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz

_mmap = abi.syscall("mmap", abi.ULONG, abi.ULONG, abi.INT, abi.INT, abi.INT, abi.ULONG)


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
    _restype_ = abi.c_long


class Mapping:
    """A piece of this process's memory, as a line of /proc/self/maps tells it.

    ``offset``: where it is in the image. All in bytes.
    """

    __slots__ = ("end", "name", "offset", "start")

    def __init__(self, line: bytes) -> None:
        words = line.split(None, 5)
        self.start, self.end = (int(text, 16) for text in words[0].split(b"-"))
        self.offset = 0
        self.name = words[5] if len(words) > 5 else b""

    @property
    def length(self) -> int:
        return self.end - self.start

    def is_in(self, maps: bytes) -> bool:
        """Whether it is still there: the heap may have become smaller. ``maps``: what /proc/PID/maps says."""
        _, found, rest = maps.partition(b"%08x-" % self.start)
        return bool(found) and int(rest.split(b" ", 1)[0], 16) >= self.end


class Image:
    """The image of a process's memory, made in the process whose forks are to share it.

    ``launcher``: the launcher's file, for the functions in it. Raises `ValueError`, OSError where there can be none.
    """

    def __init__(self, launcher: str) -> None:
        self._adopt, self._share = _functions(launcher)
        found = [Mapping(line) for line in _maps("self").splitlines() if b" rw-p " in line]
        self._wanted = [mapping for mapping in found if _is_worth_it(mapping)]
        self._size = 0
        for mapping in self._wanted:
            mapping.offset = self._size
            self._size += mapping.length
        self._pieces = b""  # what is shared, as pages.h wants it
        self.fd = _memory_file()
        self._file = posix.fstat(self.fd)

    def write(self, pid: int, fd: int) -> None:
        """Make the memory of process ``pid`` the image, a fork that has done what later ones will do.

        ``fd``: the image's file. Another process calls this: to write the image, too, the interpreter writes to memory.
        Raises `ValueError` if it is another file, OSError.
        """
        given = posix.fstat(fd)
        if (given.st_dev, given.st_ino) != (self._file.st_dev, self._file.st_ino):
            raise ValueError("not the file of this image")
        memory = posix.open(f"/proc/{pid}/mem", posix.O_RDONLY | posix.O_CLOEXEC)
        there = _maps(pid)
        for mapping in self._wanted:
            if mapping.is_in(there):
                for at in range(0, mapping.length, _PAGE):
                    page = posix.pread(memory, _PAGE, mapping.start + at)
                    if page.count(0) != _PAGE:
                        posix.pwrite(fd, page, mapping.offset + at)
        posix.close(memory)

    def adopt(self, written: bool = True) -> None:
        """Have this process's memory above the image: its forks, from now on, can `share`. Raises OSError.

        Memory for which that fails stays as it is. With one that is not ``written`` yet, nothing is changed, nor found
        to be shared.
        """
        seals, whole, anonymous = (_SEALS, 1, 0) if written else (0, 0, _MAP_ANONYMOUS)
        fcntl.fcntl(self.fd, _F_ADD_SEALS, seals)
        image = _mmap(0, self._size, _PROT_READ, _MAP_PRIVATE | anonymous, self.fd, 0)
        there = _maps("self")
        for mapping in self._wanted:
            if mapping.is_in(there):
                pages = mapping.length // _PAGE
                self._adopt(mapping.start, pages * whole, self.fd, mapping.offset)
                self._pieces += _PIECE.pack(mapping.start, image + mapping.offset, pages)

    def share(self, fd: int = -1, seconds: float = 0.0) -> int:
        """Share again what is as in the image; then wait until ``fd`` is ready to be read, as with `select.poll`.

        ``seconds``: how long at most; below zero for ever. Returns how many pages are shared again. Raises OSError.
        """
        pagemap = posix.open("/proc/self/pagemap", posix.O_RDONLY | posix.O_CLOEXEC)
        count = len(self._pieces) // _PIECE.size
        milliseconds = -1 if seconds < 0 else round(seconds * 1000)
        shared: int = self._share(self._pieces, count, pagemap, fd, milliseconds)
        return shared


def _maps(pid: int | str) -> bytes:
    with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
        return file.readall() or b""


def _is_worth_it(mapping: Mapping) -> bool:
    """Whether the interpreter keeps objects there: in its own data, the C library's heap, large anonymous mappings."""
    return mapping.length >= _SMALLEST and (mapping.name == b"[heap]" or not mapping.name.startswith(b"["))


def _memory_file() -> int:
    """An empty file in memory that nothing can be executed from (memfd_create(2))."""
    try:
        return posix.memfd_create(_NAME, posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING | _MFD_NOEXEC_SEAL)
    except OSError:  # before Linux 6.3
        return posix.memfd_create(_NAME, posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING)


def _functions(launcher: str) -> tuple[_Function, _Function]:
    """The two functions of pages.h, in the launcher's text, which is mapped. Raises `ValueError`, OSError."""
    if posix.sysconf("SC_PAGESIZE") != _PAGE:
        raise ValueError("pages have another size")
    fd = posix.open(launcher, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        with open(fd, "rb", buffering=0, closefd=False) as file:
            data = file.readall() or b""
        at = data.index(_TAG) + len(_TAG)
        offset, length, address = _text(data)
        base = _mmap(0, length, _PROT_READ | _PROT_EXEC, _MAP_PRIVATE, fd, offset)
    finally:
        posix.close(fd)
    adopt, share = (_Function(base + place - address) for place in struct.unpack_from("<QQ", data, at))
    adopt.argtypes = (abi.ULONG, abi.LONG, abi.LONG, abi.LONG)
    share.argtypes = (abi.BUFFER, abi.LONG, abi.LONG, abi.LONG, abi.LONG)  # type: ignore[assignment]  # see abi
    return adopt, share


def _text(program: bytes) -> tuple[int, int, int]:
    """Offset, length and address of the executable segment of a 64-bit ELF file (elf(5)). Raises `ValueError`."""
    table, size, count = _HEADER.unpack_from(program)
    for number in range(count):
        kind, flags, offset, address, _, length = _SEGMENT.unpack_from(program, table + number * size)
        if kind == _LOAD and flags & _EXECUTABLE:
            return offset, length, address
    raise ValueError("the launcher has no text")
