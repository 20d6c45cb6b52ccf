"""The launcher as a file: write the paths into the compiled program, or write a script in its place."""

from __future__ import annotations

from gosudacon.linux.errors import Error

# As in launcher.c: a tag of 32 bytes, then room for a path.
_TAGS = (b"gosudacon-slot:interpreter", b"gosudacon-slot:name", b"gosudacon-slot:entry")
_TAG_SIZE, _SLOT_SIZE = 32, 4096
_SCRIPT_MARK = b"# Written by `gosudacon install`."
_SHEBANG_MAX = 255  # BINPRM_BUF_SIZE less one; kernels before 5.1 take half of it


def patch(launcher: bytes, interpreter: str, entry: str, name: str = "") -> bytes:
    """The compiled launcher with its slots filled: absolute paths of the interpreter and of what it runs.

    ``name`` is the path that the interpreter is told to be (`gosudacon.launcher.home`); its own if empty.

    Raises `Error` where the file is no launcher, or a path does not fit.
    """
    image = bytearray(launcher)
    for tag, path in zip(_TAGS, (interpreter, name or interpreter, entry), strict=True):
        value = path.encode("utf-8", "surrogateescape")
        if not value.startswith(b"/") or b"\0" in value or len(value) >= _SLOT_SIZE:
            raise Error(f"not a path for the launcher: {path!r}")
        start = _slot(launcher, tag)
        image[start : start + _SLOT_SIZE] = value.ljust(_SLOT_SIZE, b"\0")
    return bytes(image)


def is_launcher(content: bytes) -> bool:
    """Whether the bytes are the compiled launcher, patched or not."""
    return content.startswith(b"\x7fELF") and all(content.count(tag) == 1 for tag in _TAGS)


def script(interpreter: str, entry: str) -> bytes:
    """A script that does the launcher's work without the seal; the interpreter then starts a second time for it.

    Raises `Error` where the kernel could not read the first line.
    """
    first = f"#!{interpreter} -ISBXutf8"
    if len(first) > _SHEBANG_MAX or any(character.isspace() for character in interpreter):
        raise Error(f"{interpreter} cannot stand in the first line of a script", hint="install a C compiler")
    return "\n".join(
        (
            first,
            _SCRIPT_MARK.decode(),
            "from io import open_code",
            "from marshal import loads",
            f"with open_code({entry!r}) as file:",
            "    code = loads(file.read()[16:])",
            "exec(code)",
            "",
        )
    ).encode()


def is_script(content: bytes) -> bool:
    """Whether the bytes are what `script` gave."""
    return content.startswith(b"#!") and _SCRIPT_MARK in content


def _slot(launcher: bytes, tag: bytes) -> int:
    if not is_launcher(launcher):
        raise Error("not a compiled launcher")
    return launcher.index(tag) + _TAG_SIZE
