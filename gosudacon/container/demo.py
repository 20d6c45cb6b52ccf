"""The demo bundle that ``gosudacon demo`` writes: a container on the host's own ``/usr``, so nothing to download."""

from __future__ import annotations

import os

from gosudacon.base import layout
from gosudacon.container.template import default_spec, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gosudacon.schema.types import Config, Mount

_GREETING = """\
set -- /proc/[0-9]*
echo "Hello from a container."
echo
echo "  host name   $(uname -n)"
echo "  processes   $# (this one is number $$)"
echo "  user        $(id -un), with the capabilities $(grep CapEff /proc/self/status | cut -f 2)"
echo "  network     $(ls /sys/class/net)"
echo "  /usr        the host's:$(touch /usr/x 2>&1 | cut -d : -f 3)"
"""
_EMPTY = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\n",
    "etc/hosts": "127.0.0.1 localhost demo\n::1 localhost\n",
}
_READONLY = ["rbind", "ro", "nosuid", "nodev"]


def make(directory: str, args: Sequence[str], terminal: bool, cgroup_v2: bool) -> None:
    """Write the bundle to ``directory``, which is made if need be. Raises `Error` where there is a bundle, OSError."""
    os.makedirs(directory, 0o755, exist_ok=True)
    config = os.path.join(directory, layout.CONFIG)
    write(config, spec(args, terminal=terminal, cgroup_v2=cgroup_v2))
    try:
        make_rootfs(os.path.join(directory, "rootfs"))
    except OSError:
        os.unlink(config)
        raise


def spec(args: Sequence[str] = (), *, terminal: bool = False, cgroup_v2: bool = False) -> Config:
    """The configuration: ``args``, or a greeting, as root of a read-only system without a network.

    ``terminal`` gives the process a terminal; without ``args`` it is then a shell.
    """
    config = default_spec(cgroup_v2=cgroup_v2)
    config["hostname"] = "demo"
    process = config["process"]
    process["terminal"] = terminal
    process["args"] = list(args) or (["/bin/sh"] if terminal else ["/bin/sh", "-c", _GREETING])
    process["env"] += ["HOME=/root", "PS1=demo# "]
    config["mounts"] += [*_binds(), *_scratch()]
    config["linux"]["resources"]["pids"] = {"limit": 100}
    return config


def make_rootfs(rootfs: str) -> None:
    """Make the root filesystem: empty directories for the mounts, the host's links into /usr, three small files.

    Raises OSError, FileExistsError if there is something at ``rootfs``.
    """
    os.mkdir(rootfs, 0o755)
    for name in (*_EMPTY, *_top_directories()):
        os.mkdir(os.path.join(rootfs, name), 0o755)
    for name, target in _links():
        os.symlink(target, os.path.join(rootfs, name))
    for name, text in _FILES.items():
        with open(os.path.join(rootfs, name), "x", encoding="ascii") as file:
            file.write(text)
    os.mkdir(os.path.join(rootfs, "etc/alternatives"), 0o755)


def _programs() -> Iterator[str]:
    """bin, sbin, lib and its variants: the names at the root of this host that lead to programs and libraries."""
    return (name for name in sorted(os.listdir("/")) if name in ("bin", "sbin") or name.startswith("lib"))


def _links() -> Iterator[tuple[str, str]]:
    return ((name, os.readlink(f"/{name}")) for name in _programs() if os.path.islink(f"/{name}"))


def _top_directories() -> Iterator[str]:
    """Those that are directories: the host keeps them apart from /usr."""
    return (name for name in _programs() if not os.path.islink(f"/{name}") and os.path.isdir(f"/{name}"))


def _binds() -> Iterator[Mount]:
    sources = ["/usr", *(f"/{name}" for name in _top_directories())]
    if os.path.isdir("/etc/alternatives"):  # Debian's links from /usr/bin pass through it
        sources.append("/etc/alternatives")
    return ({"destination": path, "type": "bind", "source": path, "options": _READONLY} for path in sources)


def _scratch() -> Iterator[Mount]:
    for path, mode in (("/tmp", "1777"), ("/run", "755"), ("/root", "700"), ("/var", "755")):
        options = ["nosuid", "nodev", f"mode={mode}", "size=65536k"]
        yield {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}
