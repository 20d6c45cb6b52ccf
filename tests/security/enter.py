"""Not a test: a process that ends up in a container in the least possible way. ROOTFS PROGRAM.

Says how it is sealed, changes its root and executes PROGRAM there, with ``/proc`` in reach.
"""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from gosudacon.launcher import seal
from gosudacon.linux import mount, namespace

rootfs, program = sys.argv[1:3]
print("seal:", seal.verified() or "none", flush=True)
namespace.unshare(0x00020000)  # CLONE_NEWNS
mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
mount.mount("proc", f"{rootfs}/proc", "proc", 0)
os.chroot(rootfs)
os.chdir("/")
os.execve(program, [program], {})
