"""What runs inside of the machine: an initramfs with two stages, both of them scripts for busybox.

Stage one mounts: the outer machine's root, read-only, below an overlay in memory; the share; the scratch disk;
the kernel's own filesystems.  Stage two is process 1, or with systemd a service; it runs the command and sends
its output through virtio ports.  Under emulation every process costs some 10 ms, so the mounts are in tables
and each table takes one process.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm.kernel import Kernel, load_modules

_MODULES = ["virtio_mmio", "virtiofs", "virtio_console", "virtio_blk", "overlay", "crc32c_generic", "ext4"]
_APPLETS = [
    *("sh", "cat", "chmod", "cp", "hostname", "ip", "mkdir", "mkfifo", "modprobe", "mount"),
    *("poweroff", "rm", "rmdir", "setsid", "sleep", "switch_root"),
]

_STAGE_ONE = r"""#!/bin/busybox sh
export PATH=/bin
mount -a -T /tables/1
. /stage/run/vm/settings

give_up() {
    echo "<2>vm-run: $*" >/dev/kmsg
    poweroff -f
}

modprobe -a $MODULES && mount -a -T /tables/2 && mkdir /upper/files /upper/work \
    || give_up "the outer machine's root cannot be mounted"
mount -t overlay -o "lowerdir=/outer$ROOTFS,upperdir=/upper/files,workdir=/upper/work" root /new && cd /new \
    || give_up "the overlay cannot be mounted"
mkdir -p "./$SCRATCH" && mount -t ext4 /dev/vda "./$SCRATCH" && rmdir "./$SCRATCH/lost+found" \
    && chmod 1777 "./$SCRATCH" || give_up "the scratch disk cannot be mounted"
mkdir -p proc sys dev run tmp "./$SHARE" "./$MODULE_DIRECTORY" && mount -a -T /tables/3 \
    || give_up "the share cannot be mounted"
mkdir dev/pts dev/shm dev/mqueue run/host
cp -a /bin /stage/run/vm/
cp -a /stage/* .
mount -a -T /tables/4 || give_up "the kernel's filesystems cannot be mounted"
read controllers <sys/fs/cgroup/cgroup.controllers
for controller in $controllers; do echo "+$controller" >sys/fs/cgroup/cgroup.subtree_control; done
ip link set lo up
hostname vm
# This file would make systemd believe that it is in a container.
rm -f .dockerenv
[ "$SYSTEMD" = 1 ] || exec switch_root /new /run/vm/bin/sh /run/vm/agent
[ -s etc/machine-id ] || echo "$MARK" >etc/machine-id
mount -o bind run/vm/none lib/systemd/system-generators
exec switch_root /new /lib/systemd/systemd
"""

_STAGE_TWO = r"""export PATH=/run/vm/bin
. /run/vm/settings
ulimit -Hn 1048576
for port in /sys/class/virtio-ports/*; do
    read name <$port/name
    eval "port_$name=/dev/${port##*/}"
done

# Output goes through a fifo to its port, and MARK follows when the last writer has closed it.
relay() {
    mkfifo -m 666 /run/vm/$1
    {
        cat </run/vm/$1 &
        echo $! >/run/vm/$1.pid
        wait
        printf %s "$MARK"
    } >$2 &
}
relay out $port_out; out=$!
relay err $port_err; err=$!

find_program() {
    case $1 in */*) echo "$1"; return;; esac
    IFS=:
    for directory in $PATH; do
        [ -f "$directory/$1" ] && [ -x "$directory/$1" ] && echo "$directory/$1" && return
    done
}
(
    . /run/vm/command
    program=$(find_program "$1")
    [ -n "$program" ] || { echo "vm-run: $1: not found in the machine" >&2; exit 127; }
    shift
    cd "$DIRECTORY" && exec /run/vm/bin/setsid "$program" "$@"
) </run/vm/stdin >/run/vm/out 2>/run/vm/err
status=$?

# What still holds the output open after a second is not waited for.
turns=0
while kill -0 $out || kill -0 $err; do
    turns=$((turns + 1))
    if [ $turns = 20 ]; then
        read one </run/vm/out.pid
        read two </run/vm/err.pid
        kill $one $two
    fi
    sleep 0.05
done 2>/dev/null
echo $status >$port_status
while :; do sleep 1000; done
"""

# The boot stops where D-Bus can be started; all else is up to the command.
_SYSTEMD = {
    "systemd/system/vm-run.target": "[Unit]\nWants=vm-run.service\n",
    "systemd/system/vm-run.service": (
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n"
        "[Service]\nDelegate=yes\nTasksMax=infinity\nExecStart=/run/vm/bin/sh /run/vm/agent\n"
    ),
    # Without these two, D-Bus waits for sysinit.target.
    "systemd/system/dbus.socket.d/vm-run.conf": "[Unit]\nDefaultDependencies=no\n",
    "systemd/system/dbus.service.d/vm-run.conf": "[Unit]\nDefaultDependencies=no\n",
    # Masks the rule that empties /tmp.
    "tmpfiles.d/tmp.conf": "",
}

_KERNEL_PARAMETERS = [
    *("console=ttyS0", "quiet", "panic=-1", "tsc=reliable", "no_timer_check", "random.trust_cpu=on"),
    *("cryptomgr.notests", "nokaslr", "mitigations=off", "nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1"),
    *("psi=1", "cgroup_no_v1=all", "apparmor=1", "security=apparmor"),
]
_SYSTEMD_PARAMETERS = [
    *("systemd.unit=vm-run.target", "systemd.show_status=0", "systemd.log_target=kmsg"),
    *("systemd.log_level=warning", "systemd.condition-first-boot=no"),
]


@dataclass(frozen=True)
class Guest:
    """What the machine is to be and to do.

    ``rootfs`` is the directory of the outer machine that it sees as its root, ``share`` one that it may write
    to; ``scratch`` is where its empty disk is mounted.  ``directory`` is where ``command`` runs.
    """

    command: list[str]
    share: Path
    directory: Path
    rootfs: Path = Path("/")
    scratch: Path = Path("/scratch")
    environment: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    systemd: bool = False


def kernel_parameters(guest: Guest) -> list[str]:
    """What the kernel gets on its command line."""
    return _KERNEL_PARAMETERS + (_SYSTEMD_PARAMETERS if guest.systemd else [])


def _tables(guest: Guest, kernel: Kernel, bind_modules: bool) -> list[str]:
    """The mount tables, in the order of their use; lines as in fstab(5), less options and numbers."""
    modules = f"/new/run/host{kernel.modules} /new/lib/modules/{kernel.release} none bind"
    return [
        "proc /proc proc\nsysfs /sys sysfs\ndevtmpfs /dev devtmpfs",
        "outer /outer virtiofs ro\nupper /upper tmpfs size=80%,mode=755",
        f"share /new{guest.share} virtiofs\n"
        "run /new/run tmpfs nosuid,nodev,mode=755\n"
        "/dev /new/dev none move\n/sys /new/sys none move\n/proc /new/proc none move",
        "/outer /new/run/host none move\n"
        "devpts /new/dev/pts devpts gid=5,mode=620,ptmxmode=666\n"
        "mqueue /new/dev/mqueue mqueue\n"
        "shm /new/dev/shm tmpfs nosuid,nodev,mode=1777\n"
        "securityfs /new/sys/kernel/security securityfs\n"
        "bpf /new/sys/fs/bpf bpf mode=700\n"
        "cgroup2 /new/sys/fs/cgroup cgroup2 nsdelegate,memory_recursiveprot\n" + modules * bind_modules,
    ]


def _complete(table: str) -> str:
    """The lines of a table with their options and the two numbers of fstab(5)."""
    lines = [line if line.count(" ") > 2 else f"{line} defaults" for line in table.splitlines()]
    return "".join(f"{line} 0 0\n" for line in lines)


def initramfs(guest: Guest, kernel: Kernel, mark: str) -> bytes:
    """The archive to boot from; ``mark`` ends what comes from each of the two outputs.

    Raises FileNotFoundError without a static busybox.
    """
    busybox = Path(shutil.which("busybox") or os.devnull).read_bytes()
    if not busybox or b"/lib64/ld-linux" in busybox:
        raise FileNotFoundError("no static busybox: apt-get install busybox-static")
    modules, names = load_modules(kernel, _MODULES)
    own_modules = f"/lib/modules/{kernel.release}"
    bind_modules = not Path(f"{guest.rootfs}/{own_modules}").exists()
    settings = {
        "MODULES": " ".join(names),
        "ROOTFS": str(guest.rootfs).rstrip("/"),
        "SHARE": str(guest.share),
        "SCRATCH": str(guest.scratch),
        "MARK": mark,
        "MODULE_DIRECTORY": own_modules if bind_modules else "",
        "SYSTEMD": str(int(guest.systemd)),
        "DIRECTORY": str(guest.directory),
    }
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in guest.environment.items())
    archive = Archive()
    for directory in ("proc", "sys", "dev", "outer", "upper", "new"):
        archive.directory(directory)
    archive.file("init", _STAGE_ONE, 0o755)
    archive.file("bin/busybox", busybox, 0o755)
    for applet in _APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    for number, table in enumerate(_tables(guest, kernel, bind_modules), 1):
        archive.file(f"tables/{number}", _complete(table))
    for name, data in modules.items():
        archive.file(f"lib/modules/{kernel.release}/{name}", data)
    archive.file("stage/run/vm/agent", _STAGE_TWO)
    archive.file("stage/run/vm/settings", "".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items()))
    archive.file("stage/run/vm/command", f"{exports}set -- {shlex.join(guest.command)}\n")
    archive.file("stage/run/vm/stdin", guest.stdin)
    archive.directory("stage/run/vm/none")
    for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        archive.link(f"stage/dev/{name}", f"/proc/self/{target}")
    for name, text in _SYSTEMD.items() if guest.systemd else ():
        archive.file(f"stage/run/{name}", text)
    return archive.finish()


class Archive:
    """A cpio archive of the kind "newc", as the kernel's ``initramfs-buffer-format`` has it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._count = 0
        self._directories: set[str] = set()

    def file(self, name: str, data: str | bytes, mode: int = 0o644) -> None:
        """Add a file, and the directories above it."""
        self._parents(name)
        self._add(name, 0o100000 | mode, data.encode() if isinstance(data, str) else data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link, and the directories above it."""
        self._parents(name)
        self._add(name, 0o120777, target.encode())

    def directory(self, name: str) -> None:
        """Add a directory, and those above it, once."""
        if name not in self._directories:
            self._parents(name)
            self._directories.add(name)
            self._add(name, 0o40755, b"")

    def finish(self) -> bytes:
        """The whole archive."""
        self._add("TRAILER!!!", 0, b"")
        return bytes(self._data)

    def _parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._count += 1
        raw = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's length, checksum
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        self._data += b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        self._data += bytes(-len(self._data) % 4) + data
        self._data += bytes(-len(self._data) % 4)
