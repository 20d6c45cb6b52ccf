"""What workers do with CRIU: save a container, and bring one back (docs/checkpoint.md).

A container that is to come from images has only its root filesystem until it is started: its processes go on at once.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.container import bundle as bundles
from gosudacon.shim import jobs, remains, rootfs
from gosudacon.wire import containerd as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.container.criu.request import CriuOptions
    from gosudacon.shim.task import Container
    from gosudacon.shim.worker import Reporter
    from gosudacon.wire.protobuf import Message

_OPTIONS = "containerd.runc.v1.CheckpointOptions"
_DUMP_LOG = "criu-dump.log"  # in the bundle: where containerd's shim for runc leaves it
_WORK = "criu-work"


def prepare(container: Container, mounts: Sequence[Mapping[str, object]], _reporter: Reporter) -> jobs.Result:
    """Mount the root filesystem of a container that comes from images."""
    rootfs.mount_all(mounts, jobs.rootfs_of(container))
    return {}


def restore(container: Container, reporter: Reporter) -> jobs.Result:
    """Have the processes of the images go on."""
    from gosudacon.container.criu import service
    from gosudacon.container.criu.request import CriuOptions
    from gosudacon.container.criu.restore import Restoration

    chosen = container.options
    service.choose(chosen.criu_path)
    config = bundles.parse(bundles.read(container.bundle))
    linux = jobs.mappings(config)
    options = CriuOptions(
        image_path=container.checkpoint,
        work_path=chosen.criu_work_path or _work(container),
        systemd_cgroup=chosen.systemd_cgroup or jobs.is_of_systemd(config),
    )
    remains.note(container.bundle, container.root, container.id)
    caller = jobs.caller_of(container.init, config.get("process") or {}, linux, reporter)
    work = Restoration(container.root, container.id, container.bundle, options, caller, container.init.terminal)
    jobs.carry_out(work, reporter)
    return {**jobs.facts(work), "linux": linux}


def save(container: Container, path: str, packed: Message | None, reporter: Reporter) -> jobs.Result:
    """Save the container's processes in the directory ``path``; they go on, unless the options say ``exit``.

    Without a directory for work files in the options CRIU's log is kept only of what fails.
    """
    from gosudacon.container.criu import checkpoint, service

    service.choose(container.options.criu_path)
    options = decode(path, packed)
    kept = options.work_path
    options.work_path = kept or f"{_work(container)}/{_WORK}"
    try:
        for warning in checkpoint.checkpoint(container.root, container.id, options):
            reporter.warning(warning.message)
    except Error as error:
        log = f"{container.bundle}/{_DUMP_LOG}"
        if _copy(f"{options.work_path}/{checkpoint.LOG}", log):
            error.message += f" path= {log}"
        raise
    finally:
        if not kept:
            _remove(options.work_path)
    return {}


def decode(path: str, packed: Message | None) -> CriuOptions:
    """The options of a request for a checkpoint; without any all are off. Raises `Error` for what cannot be."""
    from gosudacon.container.criu import rpc
    from gosudacon.container.criu.request import CriuOptions

    given = wire.unpack(packed, _OPTIONS) or wire.unpack({"type_url": _OPTIONS, "value": b""}, _OPTIONS)
    assert given is not None
    images = path or given["image_path"]
    if not images.startswith("/"):
        raise Error(f"the directory of images must be absolute: {images!r}")
    mode = given["cgroups_mode"] or CriuOptions.manage_cgroups_mode
    if mode not in rpc.CGROUP_MODES:
        raise Error(f"cgroups mode {mode!r} is not one of {', '.join(rpc.CGROUP_MODES)}")
    return CriuOptions(
        image_path=images,
        work_path=given["work_path"],
        leave_running=not given["exit"],
        tcp_established=given["open_tcp"],
        ext_unix_sk=given["external_unix_sockets"],
        shell_job=given["terminal"],
        file_locks=given["file_locks"],
        empty_ns=given["empty_namespaces"],
        manage_cgroups_mode=mode,
    )


def _work(container: Container) -> str:
    """A directory of the container on disk: the bundle's link to it, which containerd makes."""
    work = f"{container.bundle}/work"
    return work if posix.path.isdir(work) else container.bundle


def _copy(source: str, target: str) -> bool:
    """Whether there was something to copy."""
    try:
        fd = posix.open(source, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return False
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
    with open(fd, "rb") as file, open(posix.open(target, flags, 0o600), "wb") as copy:
        copy.write(file.read())
    return True


def _remove(directory: str) -> None:
    """Remove a directory of files."""
    try:
        for name in posix.listdir(directory):
            posix.unlink(f"{directory}/{name}")
        posix.rmdir(directory)
    except OSError:  # never made, or CRIU has left more than files
        return
