"""Loop devices: files as block devices (loop(4))."""

from __future__ import annotations

import fcntl
from errno import EBUSY

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError

_CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82  # LOOP_CTL_GET_FREE
_CONFIGURE = 0x4C0A  # LOOP_CONFIGURE, Linux 5.8
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_FLAGS_AT = 60  # offset of lo_flags in struct loop_config: behind fd, block size and 52 bytes of struct loop_info64
_NAME_AT, _NAME_SIZE = 64, 63
_CONFIG_SIZE = 304
_TRIES = 20


def attach(path: str, read_only: bool, direct: bool = False) -> tuple[str, int]:
    """A free loop device that shows the file, and a descriptor of it.

    The device is free again when nothing has it open any more, and nothing is mounted from it. Raises `Error`, OSError.
    """
    file = posix.open(path, (posix.O_RDONLY if read_only else posix.O_RDWR) | posix.O_CLOEXEC)
    try:
        control = posix.open(_CONTROL, posix.O_RDWR | posix.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
                fd = _configured(device, configuration(file, path, read_only, direct), read_only)
                if fd >= 0:
                    return device, fd
        finally:
            posix.close(control)
    finally:
        posix.close(file)
    raise Error(f"no loop device for {path}: others take each that is free")


def configuration(file: int, path: str, read_only: bool, direct: bool) -> bytes:
    """A struct loop_config (linux/loop.h) for the open file."""
    flags = _AUTOCLEAR | (_READ_ONLY if read_only else 0) | (_DIRECT_IO if direct else 0)
    config = bytearray(_CONFIG_SIZE)
    config[:4] = file.to_bytes(4, "little")
    config[_FLAGS_AT : _FLAGS_AT + 4] = flags.to_bytes(4, "little")
    name = posix.fsencode(path)[:_NAME_SIZE]
    config[_NAME_AT : _NAME_AT + len(name)] = name
    return bytes(config)


def _configured(device: str, config: bytes, read_only: bool) -> int:
    """A descriptor of the device, -1 if another process has taken it meanwhile."""
    fd = posix.open(device, (posix.O_RDONLY if read_only else posix.O_RDWR) | posix.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _CONFIGURE, config)
    except OSError as error:
        posix.close(fd)
        if error.errno == EBUSY:
            return -1
        raise SyscallError(error.errno or 0, "ioctl", device) from None
    return fd
