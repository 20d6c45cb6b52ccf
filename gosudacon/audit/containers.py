"""Finding containers: in the directories where gosudacon, runc and crun keep their state, told apart by their files."""

from __future__ import annotations

from errno import ENOENT, ENOTDIR

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import bundle as bundles
from gosudacon.container.state import AbsentError, Container, Store
from gosudacon.linux import proc
from gosudacon.pipeline.spec import Options, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where runtimes keep state by default; with ``*``, a directory for each namespace of an engine.
ROOTS = (
    layout.STATE_ROOT,
    "/run/runc",
    "/run/crun",
    "/run/containerd/runc/*",
    "/run/docker/runtime-runc/*",
)
_RUNC, _CRUN = "state.json", "status"
#: What ``runc update`` changes in libcontainer's configuration -> the files of version 1 and 2 that it is written to.
_LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "memory_reservation": ("memory.soft_limit_in_bytes", "memory.low"),
    "cpu_shares": ("cpu.shares",),
    "cpu_quota": ("cpu.cfs_quota_us",),
    "cpu_period": ("cpu.cfs_period_us",),
    "cpuset_cpus": ("cpuset.cpus",),
    "cpuset_mems": ("cpuset.mems",),
    "pids_limit": ("pids.max",),
}
_FIFO = "exec.fifo"  # of runc and crun, until start


class Found:
    """A container: what was asked of it, and which process is its init.

    ``lost`` says what of its plan cannot be made again from what is saved.
    """

    def __init__(self, id: str, runtime: str, spec: Spec, pid: int, start_time: int) -> None:
        self.id = id
        self.runtime = runtime
        self.spec = spec
        self.pid = pid
        self.start_time = start_time
        self.cgroups: dict[str, str] | None = None
        self.started = True
        self.lost: list[str] = []
        self.updated: dict[str, str] = {}  # file of a cgroup -> what the runtime's state says is asked for now

    def runs(self) -> bool:
        """Whether its process is there, and still the same."""
        now = proc.start_time(self.pid) if self.pid else 0
        return bool(now) and self.start_time in (0, now)


def by_pid(pid: int, bundle: str) -> Found:
    """A container of any runtime, by the process and the bundle that it was made from. Raises `Error`."""
    name = posix.path.basename(bundle) or "container"
    return Found(name, "", bundles.load(name, bundle), pid, 0)


def by_id(id: str, roots: list[str]) -> Found:
    """The container of that name in the first of the roots that has it. Raises `AbsentError`, `Error`."""
    if not id or "/" in id or id in (".", ".."):
        raise Error("invalid container ID format")
    for root in _expanded(roots):
        if posix.path.isdir(f"{root}/{id}"):
            return load(root, id)
    raise AbsentError("container does not exist", hint=f"no {id} in {', '.join(_expanded(roots))}")


def everything(roots: list[str]) -> Iterator[Found | tuple[str, Error]]:
    """Each container in the roots that runs, and the names of those that cannot be read, with the reason."""
    for root in _expanded(roots):
        try:
            names = sorted(posix.listdir(root))
        except OSError:
            continue
        for name in names:
            if not posix.path.isdir(f"{root}/{name}"):
                continue
            try:
                found = load(root, name)
            except AbsentError:
                continue
            except (Error, OSError) as error:
                yield name, error if isinstance(error, Error) else Error(reason(error))
                continue
            if found.runs():
                yield found


def _expanded(roots: list[str]) -> list[str]:
    found: list[str] = []
    for root in roots:
        if not root.endswith("/*"):
            found.append(root)
            continue
        try:
            found += [f"{root[:-2]}/{name}" for name in sorted(posix.listdir(root[:-2]))]
        except OSError:
            continue
    return found


def load(root: str, id: str) -> Found:
    """The container in ``root/id``, of any runtime. Raises `Error` for any other directory."""
    directory = f"{root}/{id}"
    status = _json(f"{directory}/{_CRUN}")
    if status is not None:
        return _crun(directory, id, status)
    state = _json(f"{directory}/{_RUNC}")
    if state is None:
        raise AbsentError("container does not exist", hint=f"no {_RUNC} in {directory}")
    if "init_process_pid" in state:
        return _runc(directory, id, state)
    return _own(root, id)


def _own(root: str, id: str) -> Found:
    store = Store(root, id)
    store.open()
    try:
        container = Container.load(store)
        data = container.data
        options = Options.among(data.get("cgroup_options") or {})
        vars(options).update(data.get("network_options") or {})
        options.no_new_keyring = bool(data.get("no_new_keyring"))
        options.root = root
        config = bundles.saved(store)
        if "resources" in data:  # what `update` has set counts
            config = {**config, "linux": {**(config.get("linux") or {}), "resources": data["resources"]}}
        found = Found(id, "gosudacon", Spec(config, id, data["bundle"], options), data["pid"], data["start_time"])
        found.cgroups = data["cgroups"]
        found.started = container.status() != "created"
        if data.get("edited"):
            names = data["edited"]
            text = ", ".join(map(str, names)) if isinstance(names, list) else str(names)
            found.lost.append(
                f"the configuration is the one that {text} has edited; who edited which place is not saved, and the"
                " plan's amendments are those of today's plugins"
            )
        return found
    finally:
        store.close()


def _runc(directory: str, id: str, state: dict[str, object]) -> Found:
    """libcontainer's state: the bundle is among the labels of its own configuration."""
    config = state.get("config")
    labels = config.get("labels") if isinstance(config, dict) else None
    bundle = next((str(each)[7:] for each in labels or () if str(each).startswith("bundle=")), "")
    if not bundle:
        raise Error(f"{directory}/{_RUNC} names no bundle", hint="audit --pid PID --bundle DIR")
    pid, start = state.get("init_process_pid"), state.get("init_process_start")
    found = Found(id, "runc", bundles.load(id, bundle), _whole(pid), _whole(start))
    paths = state.get("cgroup_paths")
    if isinstance(paths, dict):
        found.cgroups = {str(name): str(path) for name, path in paths.items()}
    found.started = not posix.path.exists(f"{directory}/{_FIFO}")
    found.lost.append("config.json is the bundle's of today, which may have been edited since")
    limits = config.get("cgroups") if isinstance(config, dict) else None
    if isinstance(limits, dict):
        found.updated = {
            file: str(limits[name]) for name, files in _LIMITS.items() if limits.get(name) for file in files
        }
    return found


def _crun(directory: str, id: str, status: dict[str, object]) -> Found:
    bundle = str(status.get("bundle") or "")
    copy = f"{directory}/{layout.CONFIG}"
    options = Options()
    options.config = copy if posix.path.exists(copy) else ""
    spec = bundles.load(id, bundle, options)
    options.config = ""
    found = Found(id, "crun", spec, _whole(status.get("pid")), _whole(status.get("process-start-time")))
    found.started = not posix.path.exists(f"{directory}/{_FIFO}")
    if not posix.path.exists(copy):
        found.lost.append("config.json is the bundle's of today, which may have been edited since")
    return found


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _json(path: str) -> dict[str, object] | None:
    """A JSON object in a file; None if there is no such file. Raises `Error`."""
    try:
        data: object = jsonio.loads(posix.read_file(path, jsonio.SIZE_LIMIT))
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return None
        raise Error(f"{path}: {reason(error)}") from error
    except jsonio.JSONError as error:
        raise Error(f"{path}: invalid JSON: {error}") from error
    return data if isinstance(data, dict) else None
