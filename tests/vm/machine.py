"""Running a machine: QEMU, one virtiofsd for each directory that it sees, and the streams between us."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.vm.guest import Guest, initramfs, kernel_parameters
from tests.vm.kernel import Kernel

_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")

# In a mount namespace of its own: the outer machine's root, read-only, at /mnt, and --rootfs within it.
_READ_ONLY_VIEW = """
mount --bind / /mnt
mount -o remount,bind,ro /mnt
if [ "$1" != / ]; then
    mount --bind "$1" "/mnt$1"
    mount -o remount,bind,ro "/mnt$1"
fi
shift
exec "$@"
"""


# Taken as it is used. Above 2 GiB, because the initramfs is put at the top of the memory below that, over the ACPI
# tables if those are there, too (QEMU 10): the machine then finds no devices.
MEMORY = 2304


class MachineError(Exception):
    """The machine could not be started, or it ended without a result."""


class MachineTimeout(Exception):
    """The time was up."""


@dataclass
class Machine:
    """A machine to boot once; a context manager that ends everything it started.

    ``timeout`` is in seconds and counts from the start of ``run``, ``memory`` in MiB, ``disk`` (the scratch
    disk) in GiB; ``parameters`` are further ones for the kernel.  Sockets and disks have no names, and the
    children die with this process, so nothing stays behind, however it ends.  They are nice to what else runs here.
    """

    guest: Guest
    kernel: Kernel
    timeout: float = 300.0
    memory: int = MEMORY
    processors: int = 2
    disk: int = 4
    parameters: str = ""
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _handles: list[int] = field(default_factory=list, init=False)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.kill()
            child.wait()
        for handle in self._handles:
            os.close(handle)
        self._children.clear()
        self._handles.clear()

    def run(self, out: Callable[[bytes], None], err: Callable[[bytes], None], console: Callable[[bytes], None]) -> int:
        """Boot, run the command, pass its output on as it comes; the command's exit status.

        ``console`` gets what the kernel prints.  Raises MachineError and MachineTimeout.
        """
        deadline = time.monotonic() + self.timeout
        mark = secrets.token_hex(16)
        streams = Streams(mark.encode(), out, err, console)
        words = [*self._qemu(), *self._memory_files(mark), *self._shares(streams.ports["console"])]
        for name, port in streams.ports.items():
            words += ["-add-fd", f"fd={port},set={port}"]
            words += ["-chardev", f"file,id={name},path=/dev/fdset/{port},append=on"]
            device = ["-device", f"virtserialport,chardev={name},name={name}"]
            words += ["-serial", "chardev:console"] if name == "console" else device
        self._spawn(words, [*self._handles, *streams.ports.values()])
        streams.close_ports()
        try:
            return streams.pump(deadline)
        finally:
            streams.close()

    def _spawn(self, words: list[str], keep: list[int], output: int | None = None) -> None:
        self._children.append(
            subprocess.Popen(
                ["nice", "-n5", "setpriv", "--pdeathsig", "KILL", *words],
                pass_fds=keep,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        )

    def _qemu(self) -> list[str]:
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            raise MachineError("no qemu-system-x86_64: apt-get install qemu-system-x86")
        parameters = " ".join([*kernel_parameters(self.guest), *_clock(), self.parameters])
        return [
            program,
            *("-M", "microvm,pit=on,pic=on,rtc=on,accel=tcg,memory-backend=ram", "-cpu", "max"),
            *("-smp", str(self.processors), "-m", str(self.memory)),
            *("-object", f"memory-backend-memfd,id=ram,size={self.memory}M,share=on"),
            *("-global", "virtio-mmio.force-legacy=false", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-no-reboot"),
            *("-kernel", str(self.kernel.image), "-append", parameters),
            *("-device", "virtio-serial-device"),
        ]

    def _memory_files(self, mark: str) -> list[str]:
        """The initramfs and the scratch disk, both in memory."""
        initrd, disk = os.memfd_create("initrd"), os.memfd_create("disk")
        self._handles += [initrd, disk]
        view = memoryview(initramfs(self.guest, self.kernel, mark))
        while view:
            view = view[os.write(initrd, view) :]
        os.truncate(disk, self.disk << 30)
        make = [
            "mkfs.ext4",
            "-qF",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=1,nodiscard",
            f"/dev/fd/{disk}",
        ]
        subprocess.run(make, pass_fds=[disk], check=True)
        drive = f"if=none,id=scratch,format=raw,cache=unsafe,file=/dev/fd/{disk}"
        return ["-initrd", f"/dev/fd/{initrd}", "-drive", drive, "-device", "virtio-blk-device,drive=scratch"]

    def _shares(self, log: int) -> list[str]:
        """Start the file servers: the outer machine's root, which does not change, and the share."""
        server = next((path for path in _VIRTIOFSD if Path(path).exists()), None)
        if server is None:
            raise MachineError("no virtiofsd: apt-get install virtiofsd (Debian 12: qemu-system-common)")
        # The older one, in C, reports every request that fails.
        quiet = ",log_level=err" if server.startswith("/usr/lib/qemu") else ""
        wrap = ["unshare", "-m", "sh", "-ec", _READ_ONLY_VIEW, "sh", str(self.guest.rootfs)]
        words = []
        for tag, options, before in (
            ("outer", "source=/mnt,cache=always", wrap),
            ("share", f"source={self.guest.share},cache=auto", []),
        ):
            listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
            with listener:
                listener.bind("")  # an abstract address that the kernel picks
                listener.listen()
                client.connect(listener.getsockname())
                handle = listener.fileno()
                command = [*before, server, f"--fd={handle}", "-o", f"{options},sandbox=chroot,xattr{quiet}"]
                self._spawn(command, [handle], log)
            self._handles.append(client.detach())
            words += ["-chardev", f"socket,id={tag},fd={self._handles[-1]}"]
            words += ["-device", f"vhost-user-fs-device,chardev={tag},tag={tag}"]
        return words


def _clock() -> list[str]:
    """The rate of the time stamp counter, which this type of machine has nothing to measure against."""
    match = re.search(r"bogomips\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text())
    return [f"tsc_early_khz={float(match[1]) * 500:.0f}"] if match else []


class Streams:
    """The pipes from the machine: kernel console, exit status, and the command's two outputs."""

    def __init__(
        self,
        mark: bytes,
        out: Callable[[bytes], None],
        err: Callable[[bytes], None],
        console: Callable[[bytes], None],
    ) -> None:
        self._mark = mark
        self._sinks = {"out": out, "err": err}
        self._console = console
        self._held = {"out": b"", "err": b"", "status": b""}
        self._done: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self.ports: dict[str, int] = {}
        for name in ("console", "status", "out", "err"):
            end, self.ports[name] = os.pipe()
            self._selector.register(end, selectors.EVENT_READ, name)
        self.seen = bytearray()

    def close_ports(self) -> None:
        """Close our copies of the ends that QEMU writes to."""
        for port in self.ports.values():
            os.close(port)

    def close(self) -> None:
        """Close the ends that we read from."""
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def pump(self, deadline: float) -> int:
        """Pass output on until both outputs and the status are complete; return the status."""
        while len(self._done) < 3 and self._selector.get_map():
            events = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not events and time.monotonic() >= deadline:
                raise MachineTimeout
            for key, _ in events:
                data = os.read(key.fd, 65536)
                if data:
                    self._take(key.data, data)
                else:
                    self._selector.unregister(key.fd)
                    os.close(key.fd)
        if "status" not in self._done:
            text = self.seen[-8000:].decode(errors="replace")
            raise MachineError(f"the machine ended without a result; its console:\n{text}")
        return int(self._held["status"])

    def _take(self, name: str, data: bytes) -> None:
        if name == "console":
            self.seen += data
            self._console(data)
            return
        data = self._held[name] + data
        if name == "status":
            self._held[name] = data
            if data.endswith(b"\n"):
                self._done.add(name)
            return
        # What may be the beginning of the mark is held back.
        if data.endswith(self._mark):
            self._done.add(name)
        held = next(n for n in range(len(self._mark), -1, -1) if data.endswith(self._mark[:n]))
        self._held[name] = data[len(data) - held :]
        if len(data) > held:
            self._sinks[name](data[: len(data) - held])
