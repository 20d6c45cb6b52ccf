"""What checkpoint and restore ask of CRIU alike: directories, log, and the options that both have."""

from __future__ import annotations

from gosudacon.container.criu import rpc
from gosudacon.linux import namespace
from gosudacon.linux import system as os
from gosudacon.linux.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: CRIU's settings by the administrator, where those for runc are; criu reads its own /etc/criu/default.conf besides.
CONFIG = "/etc/criu/runc.conf"
_LOG_LEVEL = 4
_SAME = ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup", "lazy_pages")
_NETWORK_LOCK = 31700
_USUAL_LOCK = "iptables"


class Directories:
    """The directories of images and of work files (absolute paths in the options), open.

    ``log`` is the path of the log that is written there. Both are made if ``create``; the directory for work files is
    always made. Raises `Error` or OSError.
    """

    def __init__(self, options: dict[str, Any], log: str, create: bool) -> None:
        self.images: str = options["image_path"]
        work = options.get("work_path")
        self.work: str = work or self.images
        if create:
            os.makedirs(self.images, 0o700, exist_ok=True)
        self.images_fd = _open(self.images)
        if work:
            os.makedirs(self.work, 0o700, exist_ok=True)
        self.work_fd = _open(self.work)
        self.log_name = log
        self.log = f"{self.work}/{log}"

    def close(self) -> None:
        """Give up the descriptors."""
        os.close(self.images_fd)
        os.close(self.work_fd)


def common(options: dict[str, Any], directories: Directories, version: int) -> dict[str, Any]:
    """The options for a request, from those of the command line (names as in Python)."""
    from gosudacon.container.criu import service

    method = options.get("network_lock") or _USUAL_LOCK
    if method != _USUAL_LOCK:
        service.require(version, _NETWORK_LOCK, "--network-lock")
    wanted: dict[str, Any] = {
        "images_dir_fd": directories.images_fd,
        "work_dir_fd": directories.work_fd,
        "log_level": _LOG_LEVEL,
        "log_file": directories.log_name,
        "notify_scripts": True,
        "orphan_pts_master": True,
        "manage_cgroups": True,
        "manage_cgroups_mode": rpc.CGROUP_MODES[options.get("manage_cgroups_mode") or "soft"],
        "network_lock": rpc.NETWORK_LOCKS[method] if method != _USUAL_LOCK else None,
        "empty_ns": _empty(options.get("empty_ns") or []),
        "config_file": CONFIG,
    }
    wanted.update((name, True) for name in _SAME if options.get(name))
    return wanted


def _empty(kinds: list[str]) -> int | None:
    """The flags CLONE_NEW* of ``--empty-ns``; CRIU can do without the contents of network namespaces alone."""
    for kind in kinds:
        if kind != "network":
            raise Error(f"namespace {kind} is not supported")
    return namespace.CLONE_NEWNET if kinds else None


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise Error(f"open {path}: {text}", call="open", errno=error.errno or 0) from None
