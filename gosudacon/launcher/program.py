"""The launcher as a file: write the paths into the compiled program, or write a script instead."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from gosudacon.base.errors import Error

# As in launcher.c: a tag of 32 bytes, then room for a path, or five numbers.
_TAG = b"gosudacon-slot:%s\0"
_PATHS = (b"interpreter", b"link", b"name", b"loader", b"recover")
_WORD, _TEMPLATE = b"word", b"template"
_STAMP = b"stamp"
_TAG_SIZE, _SLOT_SIZE = 32, 4096
_FILE_MAX = 1 << 16  # of loader and recover
_SCRIPT_MARK = b"# Written by `gosudacon install`."
_SHEBANG_MAX = 255  # BINPRM_BUF_SIZE less one; kernels before 5.1 take half of it


def patch(launcher: bytes, interpreter: str, loader: str, recover: str = "", name: str = "", link: str = "") -> bytes:
    """The compiled launcher with its slots filled: absolute paths of the interpreter and of what it runs.

    ``loader`` is run while it and the interpreter are the files that they are now, ``recover`` otherwise. ``name`` is
    what the interpreter is told to be (`gosudacon.launcher.startup_dir`); its own path if empty. ``link`` leads to an
    interpreter for the case that this one is gone.

    Raises `Error` where the file is not a launcher, or a path or file does not fit; OSError.
    """
    content = bytearray(launcher)
    paths = (interpreter, link, name or interpreter, loader, recover or loader)
    for tag, path in zip(_PATHS, paths, strict=True):
        value = path.encode("utf-8", "surrogateescape")
        needed = path or tag != b"link"
        if (needed and not value.startswith(b"/")) or b"\0" in value or len(value) >= _SLOT_SIZE:
            raise Error(f"not a path for the launcher: {path!r}")
        start = _slot(launcher, tag)
        content[start : start + _SLOT_SIZE] = value.ljust(_SLOT_SIZE, b"\0")
    status = os.stat(interpreter)
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    sums = [sum_of(Path(path).read_bytes()) for path in paths[3:]]
    struct.pack_into("=QqQQQ", content, _slot(launcher, _STAMP), status.st_size, seconds, nanoseconds, *sums)
    return bytes(content)


def of_shim(launcher: bytes, word: str, template: str) -> bytes:
    """A patched launcher as the shim's: it puts ``word`` before its arguments, and asks at the socket ``template``."""
    content = bytearray(launcher)
    for tag, value in ((_WORD, word), (_TEMPLATE, template)):
        start = _slot(launcher, tag)
        content[start : start + _SLOT_SIZE] = value.encode("utf-8", "surrogateescape").ljust(_SLOT_SIZE, b"\0")
    return bytes(content)


def sum_of(content: bytes) -> int:
    """What the launcher knows a file again by, as ``check`` in launcher.c. Raises `Error` if it is too large."""
    if len(content) >= _FILE_MAX:
        raise Error(f"{len(content)} bytes are too many for the launcher")
    total = 0
    for (word,) in struct.iter_unpack("=Q", content.ljust(-(-len(content) // 8) * 8, b"\0")):
        total = (total ^ word) * 0x9E3779B97F4A7C15 % 2**64
        total ^= total >> 32
    return total ^ len(content)


def is_launcher(content: bytes) -> bool:
    """Whether the bytes are the compiled launcher, patched or not, of whatever version."""
    return content.startswith(b"\x7fELF") and content.count(_TAG % _PATHS[0]) == 1


def script(interpreter: str, recover: bytes) -> bytes:
    """A script that does the launcher's work without the seal; the interpreter then starts a second time for it.

    Raises `Error` where the kernel could not read the first line.
    """
    first = f"#!{interpreter} -ISBXutf8\n"
    if len(first) > _SHEBANG_MAX or any(character.isspace() for character in interpreter):
        raise Error(f"{interpreter} cannot be used in the first line of a script", hint="install a C compiler")
    return first.encode() + _SCRIPT_MARK + b"\n" + recover


def is_script(content: bytes) -> bool:
    """Whether the bytes are what `script` gave."""
    return content.startswith(b"#!") and _SCRIPT_MARK in content


def _slot(launcher: bytes, name: bytes) -> int:
    tag = _TAG % name
    if not is_launcher(launcher) or launcher.count(tag) != 1:
        raise Error("not a compiled launcher")
    return launcher.index(tag) + _TAG_SIZE
