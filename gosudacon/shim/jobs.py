"""What workers do: the operations of the command line, for descriptors and values instead of options and files."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error
from gosudacon.container import bundle as bundles
from gosudacon.container import delete as deletion
from gosudacon.container import exec as execution
from gosudacon.container import kill, pause, start, update
from gosudacon.container.caller import Caller, Options
from gosudacon.container.create import Creation
from gosudacon.container.operation import Operation
from gosudacon.container.process import ExecOptions
from gosudacon.container.state import AbsentError
from gosudacon.linux import process
from gosudacon.pipeline.alone import Handover
from gosudacon.shim import remains, rootfs
from gosudacon.shim.stdio import Streams

_MAPPINGS = ("uidMappings", "gidMappings")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.container.operation import Work
    from gosudacon.schema.types import Config, Resources
    from gosudacon.schema.types import Process as OciProcess
    from gosudacon.shim.task import Container, Process
    from gosudacon.shim.worker import Reporter

    Result = Mapping[str, object]


def create(container: Container, mounts: Sequence[Mapping[str, object]], reporter: Reporter) -> Result:
    """Make the container up to where it waits for `begin`; undo all of it if that fails."""
    place = rootfs_of(container)
    remains.note(container.bundle, container.root, container.id)
    rootfs.mount_all(mounts, place)
    try:
        chosen = container.options
        options = Options(no_pivot=chosen.no_pivot_root, no_new_keyring=chosen.no_new_keyring)
        spec = bundles.load(container.id, container.bundle, options)
        options.systemd_cgroup = chosen.systemd_cgroup or is_of_systemd(spec.config)
        linux = mappings(spec.config)
        caller = caller_of(container.init, spec.process, linux, reporter)
        work = Creation(container.root, container.id, container.bundle, options, caller, spec)
        carry_out(work, reporter)
    except BaseException:
        rootfs.unmount(place)
        raise
    return {**facts(work), "linux": linux}


def facts(work: Work) -> dict[str, object]:
    """What the shim has to know of a container that has been made."""
    data = work.container.data
    return {
        "pid": data["pid"],
        "start_time": data["start_time"],
        "cgroups": data["cgroups"],
        "shares_pid_namespace": data["shares_pid_namespace"],
        "annotations": data["annotations"] if work.told else {},  # for those that are told, only
        "told": work.told,
    }


def mappings(config: Config) -> dict[str, object]:
    """The id mappings of the configuration."""
    return {name: value for name, value in config.get("linux", {}).items() if name in _MAPPINGS}


def begin(container: Container, _reporter: Reporter) -> Result:
    """Have the container's process executed."""
    start.start(container.root, container.id)
    return {}


def execute(process: Process, reporter: Reporter) -> Result:
    """Run another process in the container, up to its execve(2); or become it, see `gosudacon.shim.alone`."""
    container = process.container
    spec = jsonio.loads(process.spec)
    if not isinstance(spec, dict):
        raise Error("the process is not a JSON object")
    caller = caller_of(process, spec, container.linux, reporter)
    given: OciProcess = jsonio.without_nulls(spec) if b"null" in process.spec else spec  # type: ignore[assignment]  # for the validator
    options = ExecOptions(given=given, tty=process.terminal)
    work = execution.Execution(container.root, container.id, [], options, caller, Handover(reporter.hand_over))
    carry_out(work, reporter)
    return {"pid": work.context.pid}


def delete(container: Container, _reporter: Reporter) -> Result:
    """Remove the container, whose process has ended or was never executed, and unmount its root filesystem."""
    warnings: list[Error] = []
    try:
        warnings = deletion.delete(container.root, container.id)
    except AbsentError:  # a checkpoint has removed it
        pass
    rootfs.unmount(rootfs_of(container))
    return {"poststop": [warning.message for warning in warnings]}


def clean(container: Container, _reporter: Reporter) -> Result:
    """Remove what a killed worker has left of the container."""
    deletion.delete(container.root, container.id, force=True)
    rootfs.unmount(rootfs_of(container))
    return {}


def send(container: Container, signal: int, every: bool, _reporter: Reporter) -> Result:
    """Signal init, or all processes."""
    kill.kill(container.root, container.id, signal, every)
    return {}


def freeze(container: Container, _reporter: Reporter) -> Result:
    """Pause."""
    pause.pause(container.root, container.id)
    return {}


def thaw(container: Container, _reporter: Reporter) -> Result:
    """Resume."""
    pause.resume(container.root, container.id)
    return {}


def change(container: Container, resources: bytes, _reporter: Reporter) -> Result:
    """Set limits, given as JSON."""
    given = jsonio.loads(resources)
    if not isinstance(given, dict):
        raise Error("the resources are not a JSON object")
    wanted: Resources = jsonio.without_nulls(given)  # type: ignore[assignment]  # for the validator to say
    update.update(container.root, container.id, wanted)
    return {}


def carry_out(work: Work, reporter: Reporter) -> None:
    """Carry the operation out; its process's terminal goes to the shim."""

    def hand_over(master: int) -> None:
        reporter.send({"terminal": True}, [master])
        posix.close(master)

    Operation(work, take_terminal=hand_over).run()


def caller_of(process: Process, spec: Mapping[str, object], linux: Mapping[str, object], reporter: Reporter) -> Caller:
    """The caller that has the process's streams as 0 to 2; what the shim keeps of them is handed over first."""
    container = process.container
    streams = Streams(_owner(process, spec, linux), _needs_pipes(spec), container.id, container.shim.namespace)
    (streams.open_terminal if process.terminal else streams.open)(process.names)
    reporter.send(streams.note(), streams.descriptors())
    streams.close_kept()
    place(streams.own)
    return Caller((0, 1, 2), reporter, private=[reporter.fd])


def place(streams: Sequence[int]) -> None:
    """Have these descriptors as 0, 1 and 2 only."""
    process.place(streams)
    for fd in {*streams}:
        if fd > 2:
            posix.close(fd)


def _owner(process: Process, spec: Mapping[str, object], linux: Mapping[str, object]) -> tuple[int, int] | None:
    """The ids on the host of the process's user, who is to own its streams; None: what the container does suffices."""
    options = process.container.options
    if options.io_uid or options.io_gid:
        return options.io_uid, options.io_gid
    user = spec.get("user")
    if not linux.get("uidMappings") or not isinstance(user, dict):
        return None
    return _mapped(linux["uidMappings"], user.get("uid")), _mapped(linux.get("gidMappings"), user.get("gid"))


def _mapped(mappings: object, inside: object) -> int:
    """The id on the host; -1, which changes nothing, where there is none."""
    for entry in mappings if isinstance(mappings, list) else ():
        first, count = entry["containerID"], entry["size"]
        if isinstance(inside, int) and first <= inside < first + count:
            return int(entry["hostID"] + inside - first)
    return -1


def _needs_pipes(spec: Mapping[str, object]) -> bool:
    """Whether a security module may take a FIFO of the host away at execve(2); an anonymous pipe stays."""
    return bool(spec.get("apparmorProfile") or spec.get("selinuxLabel"))


def is_of_systemd(config: Config) -> bool:
    """Whether cgroupsPath is ``slice:prefix:name``, as for systemd's driver, whatever the options say."""
    path = (config.get("linux") or {}).get("cgroupsPath") or ""
    return not path.startswith("/") and path.count(":") == 2


def rootfs_of(container: Container) -> str:
    """Where its root filesystem is mounted, if containerd wants it mounted."""
    return f"{container.bundle}/rootfs"
