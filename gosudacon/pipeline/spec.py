"""What planning may know: the bundle, the caller's options, the container that is entered, facts about the host."""

from __future__ import annotations

from gosudacon.pipeline.step import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from gosudacon.schema.types import Config, Linux, Process

#: What a plan is made for: ``Spec.operation``. ``run`` is `CREATE`, too.
CREATE, EXEC, RESTORE, UPDATE = "create", "exec", "restore", "update"
ADD_MOUNTS, REMOVE_MOUNTS = "mounts add", "mounts remove"


class Target:
    """The running container that ``exec`` enters: what its state and /proc say about it.

    ``pid`` and ``start_time`` are init's (0 where a plan is only explained); ``namespaces`` the kinds in which
    it differs from the caller; ``cgroups`` its cgroups, controller -> directory; ``below`` the cgroup below each of
    them that the caller chose, under the controller's name or, for all, under ``*``; ``process`` what init was made
    from, as plugins edited it.
    """

    def __init__(
        self,
        pid: int = 0,
        start_time: int = 0,
        namespaces: list[str] | None = None,
        cgroups: dict[str, str] | None = None,
        below: dict[str, str] | None = None,
        process: Process | None = None,
    ) -> None:
        self.pid = pid
        self.start_time = start_time
        self.namespaces = namespaces or []
        self.cgroups = cgroups or {}
        self.below = below or {}
        self.process: Process = process or {}


class Options(Fields):
    """What the caller chose for a command: the options on its command line, and what the command adds to them.

    What was not chosen has its default from the class. Paths are absolute.
    """

    root: str = ""  # directory of the containers' state
    config_file: str = ""  # the administrator's configuration; empty: the usual file
    config: str = ""  # of the bundle, instead of config.json; may be relative to the bundle
    no_snapshot: bool = False  # look for stages anew
    cgroup_manager: str = ""  # cgroupfs, systemd or disabled
    systemd_cgroup: bool = False
    rootless: str = ""  # true, false or auto: ignore missing permission on cgroups
    pid_file: str = ""
    console_socket: str = ""  # takes the terminal
    pidfd_socket: str = ""  # takes a pidfd
    preserve_fds: int = 0  # descriptors passed on after stderr, those of listen_fds among them
    listen_fds: int = 0  # of the descriptors passed on, those that the caller got itself (sd_listen_fds(3))
    no_pivot: bool = False
    no_new_keyring: bool = False
    run: bool = False  # start follows without another command
    foreground: bool = False  # the command waits for the process
    device: Sequence[str] = ()  # names of devices, for the plugin that knows them
    publish: Sequence[str] = ()  # ports, for the plugin that connects the container
    network: Sequence[str] = ()  # names of networks, for the same
    notify_directory: str = ""  # of the socket on which the container says that it is ready; empty: none asks
    plugins: tuple[str, ...] = ()  # that ship with us, enabled for this command in addition to the administrator's
    learn: str = ""  # for the plugin learn: the profile to write
    learn_anew: bool = False  # and not to merge with what is in that file

    @classmethod
    def among(cls, values: Mapping[str, object]) -> Self:
        """Those of ``values`` that are options of this class."""
        options = cls()
        vars(options).update((name, value) for name, value in values.items() if hasattr(cls, name))
        return options


class Spec:
    """The bundle as planning sees it.

    ``config`` is the parsed config.json; ``id`` the container's; ``bundle`` the absolute path of its
    directory; ``options`` what the caller chose; ``text`` the file's bytes, for errors that name line and column.

    ``operation`` is what the plan is for: `CREATE`, `EXEC`, `RESTORE`, `UPDATE`, `ADD_MOUNTS` or `REMOVE_MOUNTS`.
    For ``exec``, ``target`` is the container to enter and ``config`` the one it was made from, with the process to be
    executed in it as ``process``; for ``mounts``, with those to be added or removed as ``mounts``.

    ``renamed`` has each name that was written in other letters than the specification's: (place, as written).
    """

    def __init__(
        self,
        config: Config,
        id: str,
        bundle: str,
        options: Options | None = None,
        text: bytes | None = None,
        target: Target | None = None,
        operation: str = "",
        renamed: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.config = config
        self.id = id
        self.bundle = bundle
        self.options = options or Options()
        self.text = text
        self.target = target
        self.operation = operation or (CREATE if target is None else EXEC)
        self.renamed = renamed

    def replace(self, **changes: object) -> Spec:
        """A spec with other attributes, named as the constructor names them; this one stays as it is."""
        return Spec(**{**vars(self), **changes})

    def plain(self) -> Config:
        """The configuration in plain dicts and lists, for what does not take subclasses of them: see frozen.py."""
        return self.config

    @property
    def process(self) -> Process:
        """``process`` of the configuration; empty when absent."""
        return self.config.get("process") or {}

    @property
    def linux(self) -> Linux:
        """``linux`` of the configuration; empty when absent."""
        return self.config.get("linux") or {}

    @property
    def rootfs(self) -> str:
        """Absolute path of the root filesystem: ``root.path``, relative to the bundle."""
        path = (self.config.get("root") or {}).get("path", "")
        return path.rstrip("/") or "/" if path.startswith("/") else f"{self.bundle}/{path}".rstrip("/")

    def namespaces(self) -> dict[str, str]:
        """Kind -> path to join, or an empty string for a new one; kinds not listed are shared with the host."""
        return {entry["type"]: entry.get("path") or "" for entry in self.linux.get("namespaces") or ()}

    @property
    def joins_pid_namespace(self) -> bool:
        """Whether the process is to live in a pid namespace that others live in already, and may look at it."""
        if self.target is not None:
            return "pid" in self.target.namespaces
        return bool(self.namespaces().get("pid"))

    def has(self, key: str) -> bool:
        """Whether the configuration says anything at a dotted key such as ``linux.seccomp``."""
        value: object = self.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
            if value is None or value == [] or value == {}:
                return False
        return True


class Host:
    """What planning may know about the machine: a plain value, so that a test or `explain` can pass any.

    ``kernel`` is (major, minor); ``euid`` the caller's; ``initial_userns`` whether it is in the host's own
    user namespace; ``clone3`` whether clone3(2) can be called, which a seccomp filter may hide; ``cgroup_mode`` one of
    ``v1``, ``hybrid``, ``v2``; ``cgroup_mounts`` maps a v1 controller (or ``name=systemd``, or ``""`` for the unified
    hierarchy) to its mount point; ``cgroup_roots`` the same keys to the cgroup that is mounted there, where it is not
    the root; ``own_cgroups`` the same keys to the caller's cgroup; ``systemd`` whether it is PID 1;
    ``apparmor`` and ``selinux`` whether they are enabled;
    ``assumed`` lists what could not be found out and was assumed; ``facts`` has what plugins have gathered, each under
    its name.
    """

    def __init__(
        self,
        kernel: tuple[int, int] = (6, 1),
        euid: int = 0,
        initial_userns: bool = True,
        clone3: bool = True,
        cgroup_mode: str = "v2",
        cgroup_mounts: dict[str, str] | None = None,
        own_cgroups: dict[str, str] | None = None,
        cgroup_roots: dict[str, str] | None = None,
        systemd: bool = False,
        apparmor: bool = False,
        selinux: bool = False,
        assumed: tuple[str, ...] = (),
        facts: dict[str, object] | None = None,
    ) -> None:
        self.kernel = kernel
        self.euid = euid
        self.initial_userns = initial_userns
        self.clone3 = clone3
        self.cgroup_mode = cgroup_mode
        self.cgroup_mounts = {"": "/sys/fs/cgroup"} if cgroup_mounts is None else cgroup_mounts
        self.own_cgroups = {"": "/"} if own_cgroups is None else own_cgroups
        self.cgroup_roots = cgroup_roots or {}
        self.systemd = systemd
        self.apparmor = apparmor
        self.selinux = selinux
        self.assumed = assumed
        self.facts: dict[str, object] = {} if facts is None else facts

    def known(self) -> dict[str, object]:
        """The facts about the machine itself, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("assumed", "facts")}

    def clones_into_cgroup(self) -> bool:
        """Whether a process can be created in a cgroup of the unified hierarchy: CLONE_INTO_CGROUP, Linux 5.7."""
        return self.clone3 and self.kernel >= (5, 7)
