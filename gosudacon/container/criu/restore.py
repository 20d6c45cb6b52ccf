"""Restore a container from images: the plan of `create` for all but the processes, with CRIU in place of init."""

from __future__ import annotations

from _signal import SIGKILL

from gosudacon.base import layout, posix
from gosudacon.base.errors import Error, StateError
from gosudacon.container.create import NewContainer
from gosudacon.container.criu import external, rpc, service, steps
from gosudacon.container.criu.request import CriuOptions, Directories, common
from gosudacon.linux import console, mount, proc
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.executor import RuntimeSide
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.runner import run_step
from gosudacon.pipeline.spec import RESTORE
from gosudacon.pipeline.step import CREATE_RUNTIME, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.container.caller import Caller
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Registry
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.pipeline.step import Stage

LOG = "restore.log"
_LSM = 31600
#: The version with the new mount engine. It takes a mount's place among the slaves from another mount of the group,
#: which the kernel refuses if the root filesystem and the source of a bind mount lie side by side in one filesystem.
_MOUNT_V2 = 31700


class Restoration:
    """One container being restored: `run` brings its processes to where they were, and they go on at once.

    With ``takes_terminal`` the caller takes a terminal that comes from the images (`master`), in the foreground or not.
    """

    makes_container = True

    def __init__(
        self, root: str, id: str, bundle: str, options: CriuOptions, caller: Caller, takes_terminal: bool = False
    ) -> None:
        self._takes_terminal = takes_terminal or options.foreground
        self._path = service.find()
        self._version = service.version()
        for name in ("lsm_profile", "lsm_mount_context"):
            if getattr(options, name):
                service.require(self._version, _LSM, f"--{name.replace('_', '-')}")
        if options.lazy_pages:
            service.require_features(lazy_pages=True)
        self._options = options
        self._directories = Directories(options, LOG, create=False)
        self._joined: list[dict[str, str]] = []
        self._init = 0  # its pid, once CRIU has made it
        self._session: service.Session | None = None
        self._console = self._master = -1
        self._state = f"{root}/{id}"
        self._place = f"{self._state}/{layout.CRIU_ROOT}"
        self._new = new = NewContainer(root, id, bundle, options, caller, self._compile)
        self.caller = caller
        self.spec, self.context, self.container = new.spec, new.context, new.container
        self.told = new.told
        self._hooks = new.plan.of_phase(CREATE_RUNTIME)  # for later: when CRIU has made the namespaces
        before = plans.Plan([step for step in new.plan.steps if step not in self._hooks])
        self._engine = RuntimeSide(before, new.context, new.state, new.observers)
        self._engine.child = "criu"

    def run(self) -> None:
        """Restore."""
        try:
            self._new.create()
            self.caller.equip(self._engine)
            self._restore()
        finally:
            self._directories.close()

    def master(self) -> int:
        """The terminal that came from the images, for a caller in the foreground; -1 without a terminal."""
        master, self._master = self._master, -1
        return master

    def commit(self) -> None:
        """Nothing is left to be done: the processes go on by themselves."""

    def warnings(self) -> list[str]:
        """What stages and steps have to say about the configuration."""
        return self._new.warnings()

    def abort(self) -> list[Error]:
        """Kill what there is of the container and of CRIU, and undo every step that lasts."""
        if self._session is not None:
            self._session.kill()
            self._session = None
        for pid in {self.context.pid, self._init} - {0}:
            _end(pid)
        self.context.pid = 0
        self._engine.kill()
        return self._new.undo()

    def release(self) -> None:
        """Let others change the container, or delete it."""
        self._new.store.unlock()

    def close(self) -> None:
        """Give up what this process still holds of the container."""
        self._engine.close()
        self.context.forget()
        self._new.close()

    def _compile(self, spec: Spec, host: Host) -> tuple[Plan, Registry]:
        found = registry(self._options.config_file, not self._options.no_snapshot)
        spec.operation = RESTORE
        return found.compiled(spec, host, self._plan), found

    def _plan(self, stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
        plan = plans.make_restore(stages, spec, host)  # the configuration is valid
        inherited, self._joined = external.restore_namespaces(spec, self._version)
        own: list[Step] = [steps.SpawnCriu()]
        if inherited:
            own.append(steps.OpenNamespaces(namespaces=[list(each) for each in inherited]))
        own.append(steps.MountRoot(path=spec.rootfs, place=self._place))
        own.append(steps.OpenDirectories(images=self._directories.images, work=self._directories.work))
        own.append(steps.MakeMountPoints(places=_places(spec)))
        own.append(steps.Execute(path=self._path))
        whole = plans.Plan([*own, *plan.steps])
        whole.warnings = plan.warnings
        return whole

    def _restore(self) -> None:
        directories = self._directories
        if self._options.console_socket:
            self._console = console.connect(self._options.console_socket)
        held = self.context.own(steps.Held)
        held.environment = service.ENVIRONMENT
        held.directories = (directories.images_fd, directories.work_fd)
        self._session = session = service.Session(self._start(), 0, directories.log)
        session.pid, self.context.pid = self.context.pid, 0
        response = session.request(rpc.RESTORE, self._notified, opts=self._request())
        self._set_init((response.get("restore") or {}).get("pid", 0))
        status = session.finish()
        self._session = None
        if status:
            raise Error(f"criu failed: exit status {status}, log file: {directories.log}")
        if self.container.data.get("pid") != self._init:  # they go on already, and may have ended
            self._save()
        for fd in held.inherited.values():
            posix.close(fd)
        held.inherited = {}
        if self._console >= 0:
            posix.close(self._console)
            self._console = -1

    def _start(self) -> int:
        """Run the plan up to CRIU's start; returns our end of the connection to it."""
        held = self.context.own(steps.Held)
        peer, held.socket = console.socketpair()
        self._engine.private.append(peer)
        try:
            self._engine.run()
            self._engine.go()
            self._engine.await_exec()
            return console.receive(peer)
        finally:
            posix.close(peer)
            posix.close(held.socket)

    def _request(self) -> dict[str, object]:
        options, directories, cgroups = self._options, self._directories, self.context.cgroups
        wanted = common(options, directories, self._version)
        inherited = [{"key": name, "fd": fd} for name, fd in self.context.own(steps.Held).inherited.items()]
        wanted.update(
            root=self._place,
            rst_sibling=True,
            evasive_devices=True,
            tcp_close=options.tcp_close or None,
            lsm_profile=options.lsm_profile or None,
            lsm_mount_context=options.lsm_mount_context or None,
            mntns_compat_mode=True if self._version >= _MOUNT_V2 else None,
            ext_mnt=external.restore_mounts(self.spec, self._new.host, cgroups, self._state),
            join_ns=self._joined,
            inherit_fd=inherited + external.inherited(external.read_descriptors(directories.images_fd)),
            cg_root=_cgroup_roots(self.context.host.cgroup_mounts, cgroups),
        )
        return wanted

    def _notified(self, script: str, pid: int, fds: list[int]) -> None:
        if script == "orphan-pts-master" and fds:
            self._take_terminal(fds.pop(0))
        for fd in fds:
            posix.close(fd)
        if script == "setup-namespaces":
            self._set_init(pid)
            for step in self._hooks:
                run_step(step, self.context, self._new.observers)
        elif script == "post-restore":  # they do not run yet: whatever happens to us, what is known of them is on disk
            self._set_init(pid)
            self._save()

    def _take_terminal(self, master: int) -> None:
        if self._console >= 0:
            console.send(self._console, master, "/dev/ptmx")
            posix.close(master)
        elif self._takes_terminal:
            self._master = master
        else:
            posix.close(master)
            raise Error("the container has a terminal, but no console socket", hint="pass --console-socket")

    def _set_init(self, pid: int) -> None:
        if pid:
            self._init = self.context.pid = pid

    def _save(self) -> None:
        if not proc.start_time(self._init):
            raise StateError("the restored init has ended already")
        self._new.save()


def _places(spec: Spec) -> list[list[str]]:
    """Where something will be mounted, and from where; not what is on a tmpfs, which the images hold."""
    sources = dict(external.binds(spec))
    entries = spec.config.get("mounts") or ()
    memory = [mount.normal(each["destination"]) for each in entries if each.get("type") == "tmpfs"]
    places = []
    for entry in entries:
        place = mount.normal(entry["destination"])
        text = posix.path.normpath(place)
        if text == "/" or any(text.startswith(f"{above}/") for above in memory) or entry.get("type") == "cgroup":
            continue
        places.append([place, sources.get(place, "")])
    return places


def _cgroup_roots(points: dict[str, str], cgroups: dict[str, str]) -> list[dict[str, str]]:
    """Where the images' cgroups are to be: controller (an empty one: unified) and path in its hierarchy."""
    roots = []
    for controller, directory in cgroups.items():
        point = points.get(controller, "")
        if directory.startswith(f"{point}/"):
            roots.append({"ctrl": controller, "path": directory[len(point) :]})
    return roots


def _end(pid: int) -> None:
    try:
        posix.kill(pid, SIGKILL)
        posix.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return
