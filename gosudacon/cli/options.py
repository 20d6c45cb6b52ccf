"""The one table of the command line: parsing, ``--help``, man pages and shell completions come from it.

An option is a tuple ``(name, short, kind, metavar, default, help, hidden)``. The kinds are

``flag``      bare, or ``=true`` / ``=false``; False unless given
``str``       a string, as it came
``int``       a non-negative decimal integer
``list``      strings; the option may be repeated
``str-bool``  ``true``, ``false`` or ``auto``, as a string
``choice``    one of the words that the metavar lists with ``|`` between them

Everything here is constants, so that a hot command pays for reading them and for nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    Option = tuple[str, str, str, str, Any, str, bool]

    class Command(TypedDict):
        """One command of the table."""

        summary: str  # one line, no full stop
        usage: str  # the positional arguments
        positionals: tuple[int, int]  # fewest and most; -1 for any number
        stop: bool  # options end at the first positional argument
        prefix: str  # what the message of a failure begins with
        failure: int  # the exit status of a failure
        options: tuple[Option, ...]
        text: str  # description, plain paragraphs
        example: str  # one command line a line, without the program's name


PROGRAM = "gosudacon"

GLOBALS: tuple[Option, ...] = (
    ("root", "", "str", "DIR", "", "directory of the containers' state", False),
    ("log", "", "str", "FILE", "", "append the error, if any, to FILE as well (default: stderr only)", False),
    ("log-format", "", "str", "text|json", "text", "format of the records in the log", False),
    ("debug", "", "flag", "", False, "log what is being done, too", False),
    ("systemd-cgroup", "", "flag", "", False, "let systemd make the cgroup (cgroupsPath: slice:prefix:name)", False),
    (
        "cgroup-manager",
        "",
        "choice",
        "cgroupfs|systemd|disabled",
        "cgroupfs",
        "who makes the container's cgroup",
        False,
    ),
    ("rootless", "", "str-bool", "true|false|auto", "auto", "ignore missing permission on cgroups", False),
    ("config", "", "str", "FILE", "/etc/gosudacon/config.toml", "the administrator's configuration", False),
    ("criu", "", "str", "PATH", "", "accepted for old callers", True),
    ("help", "h", "flag", "", False, "show help", False),
    ("version", "v", "flag", "", False, "print the version", False),
)

_HELP: Option = ("help", "h", "flag", "", False, "show help", False)
_BUNDLE: Option = ("bundle", "b", "str", "DIR", ".", "the bundle: the directory of config.json", False)
_PID_FILE: Option = ("pid-file", "", "str", "FILE", "", "write the process's pid to FILE", False)
_CONSOLE: Option = (
    "console-socket",
    "",
    "str",
    "SOCKET",
    "",
    "send the terminal's master descriptor to this AF_UNIX socket",
    False,
)
_PIDFD: Option = ("pidfd-socket", "", "str", "SOCKET", "", "send a pidfd of the process to this AF_UNIX socket", False)
_PRESERVE: Option = (
    "preserve-fds",
    "",
    "int",
    "N",
    0,
    "pass N more descriptors on, from 3 (or after LISTEN_FDS)",
    False,
)
_DETACH: Option = ("detach", "d", "flag", "", False, "return when the process runs; do not wait for it", False)
_NO_SUBREAPER: Option = ("no-subreaper", "", "flag", "", False, "do not reap the container's orphans", False)
_NO_PIVOT: Option = ("no-pivot", "", "flag", "", False, "move the root instead of pivot_root (root on a ramdisk)", False)
_NO_KEYRING: Option = ("no-new-keyring", "", "flag", "", False, "keep the caller's session keyring", False)
_FORMAT: Option = ("format", "f", "choice", "table|json", "table", "format of the output", False)
_CREATE = (_BUNDLE, _PID_FILE, _CONSOLE, _PIDFD, _NO_PIVOT, _NO_KEYRING, _PRESERVE)
_CRIU: tuple[Option, ...] = (
    ("image-path", "", "str", "DIR", "", "directory of the images (default: ./checkpoint)", False),
    ("work-path", "", "str", "DIR", "", "directory of the work files and logs", False),
    ("tcp-established", "", "flag", "", False, "allow established TCP connections", False),
    ("ext-unix-sk", "", "flag", "", False, "allow external unix sockets", False),
    ("shell-job", "", "flag", "", False, "allow shell jobs", False),
    ("file-locks", "", "flag", "", False, "allow file locks", False),
    ("auto-dedup", "", "flag", "", False, "remove duplicate memory pages from the images", False),
    ("lazy-pages", "", "flag", "", False, "move memory pages when they are needed (userfaultfd)", False),
    ("manage-cgroups-mode", "", "choice", "soft|full|strict|ignore", "soft", "how CRIU treats cgroups", False),
    ("empty-ns", "", "list", "network", "", "make this namespace anew, without what it held", False),
)
_PREFIX: Option = ("prefix", "", "str", "DIR", "/usr/local", "where to install: DIR/bin, DIR/share", False)

COMMANDS: dict[str, Command] = {
    "create": {
        "summary": "create a container",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "gosudacon create failed: ",
        "failure": 1,
        "options": (*_CREATE, _HELP),
        "text": "Carries out the plan of the bundle (see `gosudacon explain`) and leaves the container waiting "
        "for `gosudacon start`. The id is letters, digits and `_+.-`; no other container may have it.",
        "example": "create --bundle /srv/web --pid-file /run/web.pid web",
    },
    "start": {
        "summary": "start the process of a created container",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "Lets the waiting container execute the process of its config.json.",
        "example": "start web",
    },
    "run": {
        "summary": "create and start a container",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "gosudacon run failed: ",
        "failure": 1,
        "options": (
            *_CREATE,
            _DETACH,
            ("keep", "", "flag", "", False, "keep the container when its process has ended", False),
            _NO_SUBREAPER,
            _HELP,
        ),
        "text": "In the foreground, passes signals and the terminal on, waits, deletes the container and "
        "returns its exit status (128 + N when signal N ended it).",
        "example": "run --bundle /srv/web web\nrun --detach -b /srv/web web",
    },
    "exec": {
        "summary": "run another process in a container",
        "usage": "<container-id> [<command> [<argument> ...]]",
        "positionals": (1, -1),
        "stop": True,
        "prefix": "exec failed: ",
        "failure": 255,
        "options": (
            ("process", "p", "str", "FILE", "", "the process as OCI JSON; other process options are ignored", False),
            _DETACH,
            _PID_FILE,
            _CONSOLE,
            _PIDFD,
            ("tty", "t", "flag", "", False, "give the process a terminal", False),
            ("cwd", "", "str", "DIR", "", "working directory in the container", False),
            ("env", "e", "list", "NAME=VALUE", "", "add to the environment; repeatable", False),
            ("user", "u", "str", "UID[:GID]", "", "user and group, as numbers", False),
            ("additional-gids", "g", "list", "GID", "", "additional group; repeatable", False),
            ("cap", "c", "list", "CAP", "", "add a capability; repeatable", False),
            ("no-new-privs", "", "flag", "", False, "set no_new_privs", False),
            ("process-label", "", "str", "LABEL", "", "SELinux label of the process", False),
            ("apparmor", "", "str", "PROFILE", "", "AppArmor profile of the process", False),
            ("cgroup", "", "list", "[CTRL:]PATH", "", "existing cgroup below the container's", False),
            ("ignore-paused", "", "flag", "", False, "join a paused container, too", False),
            _PRESERVE,
            _HELP,
        ),
        "text": "Options end at the container id; what follows the id is the command.",
        "example": "exec web ps -ef\nexec --process process.json --detach web",
    },
    "state": {
        "summary": "print the state of a container as JSON",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "The status is created, running, paused or stopped.",
        "example": "state web",
    },
    "list": {
        "summary": "list the containers",
        "usage": "",
        "positionals": (0, 0),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_FORMAT, ("quiet", "q", "flag", "", False, "print ids only", False), _HELP),
        "text": "Lists the containers below --root. A directory there that is not a container's, or is damaged, is left out.",
        "example": "list --format json",
    },
    "ps": {
        "summary": "list the processes of a container",
        "usage": "<container-id> [<ps option> ...]",
        "positionals": (1, -1),
        "stop": True,
        "prefix": "",
        "failure": 1,
        "options": (_FORMAT, _HELP),
        "text": "As a table, what ps(1) prints of the container's processes (default: ps -ef); as JSON, their pids.",
        "example": "ps web aux\nps --format json web",
    },
    "kill": {
        "summary": "send a signal to a container's first process",
        "usage": "<container-id> [<signal>]",
        "positionals": (1, 2),
        "stop": True,
        "prefix": "",
        "failure": 1,
        "options": (("all", "a", "flag", "", False, "send the signal to all processes of the container", False), _HELP),
        "text": "The signal is a number or a name, with or without SIG; SIGTERM if none is given.",
        "example": "kill web HUP\nkill web 9",
    },
    "delete": {
        "summary": "delete a stopped container and all it holds",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (("force", "f", "flag", "", False, "kill it first; no error if there is none", False), _HELP),
        "text": "Undoes what the plan did on the host: cgroups, mounts, network, the state directory. A container "
        "that was created and not started is deleted without --force.",
        "example": "delete --force web",
    },
    "pause": {
        "summary": "freeze all processes of a container",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "The processes stand still until `gosudacon resume`.",
        "example": "pause web",
    },
    "resume": {
        "summary": "let the processes of a paused container go on",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "The container must be paused.",
        "example": "resume web",
    },
    "update": {
        "summary": "change the resource limits of a container",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            ("resources", "r", "str", "FILE", "", "limits as OCI JSON (- is stdin); other options are ignored", False),
            ("blkio-weight", "", "int", "N", 0, "block I/O weight, 10 to 1000", False),
            ("cpu-period", "", "str", "USEC", "", "CFS period", False),
            ("cpu-quota", "", "str", "USEC", "", "CPU time within a period", False),
            ("cpu-burst", "", "str", "USEC", "", "CPU time saved up for bursts", False),
            ("cpu-share", "", "str", "N", "", "CPU shares relative to other containers", False),
            ("cpu-rt-period", "", "str", "USEC", "", "realtime period", False),
            ("cpu-rt-runtime", "", "str", "USEC", "", "realtime CPU time within a period", False),
            ("cpu-idle", "", "str", "0|1", "", "use idle CPU time only", False),
            ("cpuset-cpus", "", "str", "LIST", "", "CPUs, such as 0-2,7", False),
            ("cpuset-mems", "", "str", "LIST", "", "memory nodes", False),
            ("memory", "", "str", "BYTES", "", "memory limit, such as 512m; -1 is none", False),
            ("memory-reservation", "", "str", "BYTES", "", "memory to keep under pressure (soft limit)", False),
            ("memory-swap", "", "str", "BYTES", "", "memory and swap together; -1 is no limit", False),
            ("pids-limit", "", "str", "N", "", "number of processes; -1 is no limit", False),
            ("l3-cache-schema", "", "str", "SCHEMA", "", "Intel RDT cache schema", False),
            ("mem-bw-schema", "", "str", "SCHEMA", "", "Intel RDT memory bandwidth schema", False),
            ("kernel-memory", "", "str", "BYTES", "", "obsolete", True),
            ("kernel-memory-tcp", "", "str", "BYTES", "", "obsolete", True),
            _HELP,
        ),
        "text": "Limits that are not given stay as they are.",
        "example": "update --memory 512m --pids-limit 100 web\nupdate --resources limits.json web",
    },
    "events": {
        "summary": "print statistics and out-of-memory events",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            ("interval", "", "str", "DURATION", "5s", "time between statistics", False),
            ("stats", "", "flag", "", False, "print the statistics once and exit", False),
            _HELP,
        ),
        "text": "One JSON object a line.",
        "example": "events --stats web",
    },
    "features": {
        "summary": "print what this runtime supports, as JSON",
        "usage": "",
        "positionals": (0, 0),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "The features structure of the OCI runtime specification, for this host and this build.",
        "example": "features",
    },
    "checkpoint": {
        "summary": "save a running container to disk",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            *_CRIU,
            ("parent-path", "", "str", "DIR", "", "images of an earlier --pre-dump, relative to --image-path", False),
            ("leave-running", "", "flag", "", False, "let the container go on", False),
            ("pre-dump", "", "flag", "", False, "save the memory only, and let the container go on", False),
            ("tcp-skip-in-flight", "", "flag", "", False, "skip TCP connections that are being made", False),
            ("link-remap", "", "flag", "", False, "remap files that have been unlinked", False),
            ("status-fd", "", "int", "N", -1, "descriptor on which CRIU says that lazy pages are ready", False),
            ("page-server", "", "str", "ADDRESS:PORT", "", "address of the page server", False),
            _HELP,
        ),
        "text": "Uses CRIU.",
        "example": "checkpoint --image-path /var/lib/web web",
    },
    "restore": {
        "summary": "restore a container from a checkpoint",
        "usage": "<container-id>",
        "positionals": (1, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            _BUNDLE,
            _PID_FILE,
            _CONSOLE,
            _DETACH,
            _NO_SUBREAPER,
            _NO_PIVOT,
            *_CRIU,
            ("lsm-profile", "", "str", "TYPE:NAME", "", "LSM profile of the restored processes", False),
            ("lsm-mount-context", "", "str", "CONTEXT", "", "LSM context of the restored mounts", False),
            _HELP,
        ),
        "text": "Uses CRIU.",
        "example": "restore --image-path /var/lib/web --bundle /srv/web web",
    },
    "spec": {
        "summary": "write a config.json to begin with",
        "usage": "",
        "positionals": (0, 0),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            ("bundle", "b", "str", "DIR", ".", "where to write it", False),
            ("rootless", "", "flag", "", False, "for a container of the calling user, without root", False),
            _HELP,
        ),
        "text": "The container runs `sh` on the directory `rootfs`, read-only, in namespaces of its own.",
        "example": "spec --bundle /srv/web",
    },
    "explain": {
        "summary": "print what create would do, step by step",
        "usage": "[<bundle>]",
        "positionals": (0, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (
            _FORMAT,
            ("stage", "", "str", "NAME", "", "the steps of this stage only", False),
            _HELP,
        ),
        "text": "Plans the bundle (default: the current directory) as `create` does, and prints the plan in place "
        "of carrying it out. Needs no root. Lists every error of an invalid config.json.",
        "example": "explain /srv/web\nexplain --stage seccomp --format json /srv/web",
    },
    "install": {
        "summary": "install the launcher for container engines",
        "usage": "",
        "positionals": (0, 0),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_PREFIX, _HELP),
        "text": "Puts the launcher for this interpreter into the prefix, and prints what makes containerd, Docker "
        "and Podman use it.",
        "example": "install --prefix /usr/local",
    },
    "uninstall": {
        "summary": "remove what install has installed",
        "usage": "",
        "positionals": (0, 0),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_PREFIX, _HELP),
        "text": "Removes the files that `gosudacon install` put into the prefix.",
        "example": "uninstall --prefix /usr/local",
    },
    "help": {
        "summary": "show help of the program or of a command",
        "usage": "[<command>]",
        "positionals": (0, 1),
        "stop": False,
        "prefix": "",
        "failure": 1,
        "options": (_HELP,),
        "text": "`h` is short for `help`.",
        "example": "help create",
    },
}

# Not finished. Commands here are refused, whatever follows them; a line goes when the command works.
PENDING_COMMANDS = (
    "exec",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "features",
    "checkpoint",
    "restore",
)

# Callers take `CMD --help` with exit status 0 for the promise that CMD works: refused while it does not.
PROBED_BY_HELP = ("checkpoint", "restore")

# Options (and values of options) that are refused, and the commands that refuse them. A command on a
# container that exists goes by what was saved with it, and lets a global option of this list pass.
PENDING_OPTIONS: dict[str, tuple[str, ...]] = {
    "pidfd-socket": ("create", "run"),
    "keep": ("run",),
    "no-subreaper": ("run",),
    "systemd-cgroup": ("create", "run", "explain"),
    "cgroup-manager=systemd": ("create", "run", "explain"),
    "cgroup-manager=disabled": ("create", "run", "explain"),
}
