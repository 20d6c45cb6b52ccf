"""What /proc says about processes (proc(5)); without system calls of our own, for the shortest commands."""

from __future__ import annotations

from gosudacon.linux import system as os


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks after boot at which the process started; 0 if it is gone or a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        data = os.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    fields = data[data.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
