"""What requests for checkpoint and for restore have in common: directories, log, shared options."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.container.criu import rpc
from gosudacon.linux import namespace
from gosudacon.pipeline.spec import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: CRIU's settings by the administrator, where those for runc are; criu reads its own /etc/criu/default.conf besides.
CONFIG = "/etc/criu/runc.conf"
_LOG_LEVEL = 4
_SAME = ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup", "lazy_pages")
_NETWORK_LOCK = 31700
_USUAL_LOCK = "iptables"


class CriuOptions(Options):
    """What the caller of ``checkpoint`` or ``restore`` chose; each has some that the other has not."""

    image_path: str = ""
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    auto_dedup: bool = False
    lazy_pages: bool = False
    manage_cgroups_mode: str = "soft"
    network_lock: str = _USUAL_LOCK
    empty_ns: Sequence[str] = ()

    parent_path: str = ""
    leave_running: bool = False
    pre_dump: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    status_fd: int = -1
    page_server: str = ""

    tcp_close: bool = False
    lsm_profile: str = ""
    lsm_mount_context: str = ""


class Directories:
    """The directories of images and of work files (absolute paths in the options), open.

    ``log`` is the path of the log that is written there. Both are made if ``create``; the directory for work files is
    always made. Raises `Error` or OSError.
    """

    def __init__(self, options: CriuOptions, log: str, create: bool) -> None:
        self.images = options.image_path
        work = options.work_path
        self.work = work or self.images
        if create:
            posix.makedirs(self.images, 0o700, exist_ok=True)
        self.images_fd = _open(self.images)
        if work:
            posix.makedirs(self.work, 0o700, exist_ok=True)
        self.work_fd = _open(self.work)
        self.log_name = log
        self.log = f"{self.work}/{log}"

    def close(self) -> None:
        """Give up the descriptors."""
        posix.close(self.images_fd)
        posix.close(self.work_fd)


def common(options: CriuOptions, directories: Directories, version: int) -> dict[str, Any]:
    """The options for a request, from those of the command line."""
    from gosudacon.container.criu import service

    method = options.network_lock
    if method != _USUAL_LOCK:
        service.require(version, _NETWORK_LOCK, "--network-lock")
    wanted: dict[str, object] = {
        "images_dir_fd": directories.images_fd,
        "work_dir_fd": directories.work_fd,
        "log_level": _LOG_LEVEL,
        "log_file": directories.log_name,
        "notify_scripts": True,
        "orphan_pts_master": True,
        "manage_cgroups": True,
        "manage_cgroups_mode": rpc.CGROUP_MODES[options.manage_cgroups_mode],
        "network_lock": rpc.NETWORK_LOCKS[method] if method != _USUAL_LOCK else None,
        "empty_ns": _empty(options.empty_ns),
        "config_file": CONFIG,
    }
    wanted.update((name, True) for name in _SAME if getattr(options, name))
    return wanted


def _empty(kinds: Sequence[str]) -> int | None:
    """The flags CLONE_NEW* of ``--empty-ns``; CRIU can do without the contents of network namespaces alone."""
    for kind in kinds:
        if kind != "network":
            raise Error(f"namespace {kind} is not supported")
    return namespace.CLONE_NEWNET if kinds else None


def _open(path: str) -> int:
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        text = posix.strerror(error.errno or 0).lower()
        raise Error(f"open {path}: {text}", call="open", errno=error.errno or 0) from None
