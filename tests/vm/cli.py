"""The command line of vm-run."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.vm.guest import Guest
from tests.vm.kernel import NoKernel, find_kernel
from tests.vm.machine import MEMORY, Machine, MachineError, MachineTimeout

DESCRIPTION = """\
Run a command in a throw-away machine: QEMU in plain emulation, no KVM needed.

It boots a Debian kernel with cgroup v2 alone.  Its root is a read-only view of this machine's (or of
--rootfs) below an overlay that is thrown away; --share is shared, writable, at the same path.  The exit status
is the command's, 124 when the time is up, 125 when the machine failed, 126 or 127 when the command cannot be
run.
"""
_PASSED_ON = ("PATH", "HOME", "LANG", "USER")


def fail(text: str, status: int = 125) -> NoReturn:
    """Say what is wrong and exit."""
    print(f"vm-run: {text}", file=sys.stderr)
    sys.exit(status)


def parser() -> argparse.ArgumentParser:
    """The options; what follows ``--`` is the command."""
    result = argparse.ArgumentParser(
        "vm-run",
        "vm-run [options] -- COMMAND...",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--systemd", action="store_true", help="systemd as process 1, with D-Bus")
    add("--timeout", type=float, default=300, metavar="S", help="seconds for everything, boot included (300)")
    add("--mem", type=int, default=MEMORY, metavar="MB", help=f"memory ({MEMORY})")
    add("--cpus", type=int, default=2, metavar="N", help="processors (2)")
    add("--rootfs", default="/", metavar="DIR", help="what the machine sees as its root (this machine's)")
    add("--share", default=".", metavar="DIR", help="shared, writable, same path; COMMAND runs in it (.)")
    add("--scratch", default="/scratch", metavar="DIR", help="mount point of an empty ext4 disk (/scratch)")
    add("--env", action="append", default=[], metavar="K[=V]", help="environment to set, or to pass on")
    add("--stdin", action="store_true", help="pass on standard input, read to its end before the boot")
    add("--kernel", type=Path, metavar="FILE", help="vmlinuz-RELEASE, with ../lib/modules (newest in /boot)")
    add("--append", default="", metavar="ARGS", help="further kernel parameters")
    add("--verbose", action="store_true", help="show the machine's console on standard error")
    return result


def make_guest(options: argparse.Namespace, command: list[str]) -> Guest:
    """The guest that the options ask for."""
    share, rootfs = Path(options.share).resolve(), Path(options.rootfs).resolve()
    scratch = Path(os.path.abspath(options.scratch))
    if os.geteuid() != 0:
        fail("only root can do this")
    if str(share) == "/" or re.search(r"[\s,:=\\]", f"{share}{rootfs}{scratch}"):
        fail("the share must not be /, and paths must be without blanks and , : = \\")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"VM_RUN": "1"}
    for name, equals, value in (item.partition("=") for item in options.env):
        if equals:
            environment[name] = value
        elif name in os.environ:
            environment[name] = os.environ[name]
    here = Path.cwd()
    return Guest(
        command=command,
        share=share,
        directory=here if here.is_relative_to(share) else share,
        rootfs=rootfs,
        scratch=scratch,
        environment=environment,
        stdin=sys.stdin.buffer.read() if options.stdin else b"",
        systemd=options.systemd,
    )


def write_to(handle: int, data: bytes) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def main(arguments: list[str]) -> int:
    """Run the machine as the command line says; the exit status."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser().parse_args(arguments[:split])
    command = arguments[split + 1 :]
    if not command:
        parser().error("no COMMAND after --")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        machine = Machine(
            make_guest(options, command),
            find_kernel(options.kernel),
            options.timeout,
            options.mem,
            options.cpus,
            parameters=options.append,
        )
        with machine:
            return machine.run(
                lambda data: write_to(1, data),
                lambda data: write_to(2, data),
                lambda data: write_to(2, data) if options.verbose else None,
            )
    except MachineTimeout:
        fail(f"not done after {options.timeout:g} s", 124)
    except BrokenPipeError:  # the output is not read
        return 128 + signal.SIGPIPE
    except (MachineError, NoKernel, FileNotFoundError) as error:
        fail(str(error))
