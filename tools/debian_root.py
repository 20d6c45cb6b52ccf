"""Roots of Debian's releases, unpacked by mmdebstrap(1), and entered with namespaces of their own."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.environments import copy_checkout
from tools.side_by_side import Failure, Job

SUITE = "trixie"
SUITES = ("bookworm", SUITE)
"""What the package of `tools.deb` is for: Debian 12, and Debian 13."""
PYTHON = (3, 13)
HOME = "gosudacon"
"""The directory of the root that has the checkout."""
CACHE = ".test-cache"
AS_HERE = ("/etc/hosts", "/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""Files of the machine's without which its package registries may be out of reach."""

# Process 1 of the root stays a shell, which reaps what the tests leave. /tmp is the machine's, since its filesystem is
# one that tests can use.
_ENTER = """
mount --bind "$1" "$1" && cd "$1"
mount --rbind --make-rslave /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount --rbind --make-rslave /sys sys
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount --bind /tmp tmp
mkdir -p run/outer && pivot_root . run/outer
umount -l /run/outer && rmdir /run/outer
cd "/$2" && shift 2
"$@"
"""


def is_this() -> bool:
    """Whether this machine is Debian 13, or a later one."""
    here = platform.freedesktop_os_release()
    return here["ID"] == "debian" and int(here.get("VERSION_ID", "0")) >= 13


def mirror() -> str:
    """The mirror of Debian's packages that apt uses here; raises Failure if it knows none."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(words, capture_output=True, text=True).stdout.split()
    for uri in found:
        if "security" not in uri:
            return uri
    raise Failure("apt knows no mirror of Debian's packages: run apt-get update")


def make(job: Job, root: Path) -> Path:
    """Unpack the root unless that has been done, and put the checkout into it as it is now; the root.

    Raises Failure, which names the mirror, if that cannot be reached.
    """
    unpack(job, root, SUITE, ["ca-certificates", "python3"])
    for name in AS_HERE:
        if Path(name).exists():
            shutil.copy(name, root / name[1:])
    home = root / HOME
    home.mkdir(exist_ok=True)
    for path in home.iterdir():
        if path.name != CACHE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    copy_checkout(job.directory, home)
    return root


def unpack(job: Job, root: Path, suite: str, packages: Sequence[str]) -> None:
    """Unpack a minimal root of ``suite`` with these packages, unless that has been done.

    Raises Failure, which names the mirror, if that cannot be reached.
    """
    complete = root.with_name(f"{root.name}.complete")
    if complete.exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    words = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    where = mirror()
    try:
        job.run([*words, suite, str(root), where])
    except Failure as error:
        raise Failure(f"cannot get Debian's {suite} from {where}: {error}") from None
    complete.touch()


def dependencies() -> list[str]:
    """The names of the packages that our own depends on; a root with them and no other shows that it names all."""
    text = (Path(__file__).with_name("debian") / "control").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("Depends: "))
    return [word.split()[0] for word in line.removeprefix("Depends: ").split(", ")]


def reports(root: Path) -> Path:
    """Where the test run in the root leaves its reports."""
    return root / HOME / CACHE / "reports"


def inside(root: Path, words: list[str], home: str = HOME) -> list[str]:
    """The command that runs ``words`` in the root's directory ``home``, by default its copy of the checkout.

    All processes end with it. The network is the machine's, since packages are installed from it; tests leave it.
    """
    apart = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--propagation=private"]
    return ["unshare", *apart, "sh", "-ec", _ENTER, "sh", str(root), home, *words]
