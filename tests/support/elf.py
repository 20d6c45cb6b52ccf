"""What an ELF file asks of the machine that it is loaded on: elf(5), of 64 bits and little-endian."""

from __future__ import annotations

import struct

MAGIC = b"\x7fELF"
_DYNAMIC, _INTERPRETER = 2, 3  # types of segments
_NAMES = {1: "a library", 0x6FFFFFFE: "a symbol version"}  # tags of the dynamic section: NEEDED, VERNEED


def requirements(content: bytes) -> set[str]:
    """What the file ``content`` needs to be loaded: a loader, a library, a symbol version. Empty for a static one."""
    assert content.startswith(MAGIC + b"\2\1"), "not an ELF file of 64 bits, little-endian"
    (offset,), (size, count) = struct.unpack_from("<Q", content, 32), struct.unpack_from("<HH", content, 54)
    found = set()
    for index in range(count):
        kind, _, start, _, _, length, _, _ = struct.unpack_from("<IIQQQQQQ", content, offset + index * size)
        if kind == _INTERPRETER:
            found.add("a loader")
        elif kind == _DYNAMIC:
            entries = struct.iter_unpack("<QQ", content[start : start + length // 16 * 16])
            found |= {_NAMES[tag] for tag, _ in entries if tag in _NAMES}
    return found
