"""The one table of the command line: parsing, ``--help``, man pages and shell completions come from it.

An option is a tuple ``(name, short, kind, metavar, default, help)``. The short name may be empty; an option
whose help is empty is not shown. The kinds are

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

    Option = tuple[str, str, str, str, Any, str]

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
    ("root", "", "str", "DIR", "", "directory of the containers' state"),
    ("log", "", "str", "FILE", "", "append the error, if any, to FILE as well (default: stderr only)"),
    ("log-format", "", "str", "text|json", "text", "format of the records in the log"),
    ("debug", "", "flag", "", False, "log what the runtime does, step by step, too"),
    ("systemd-cgroup", "", "flag", "", False, "let systemd make the cgroup (cgroupsPath: slice:prefix:name)"),
    ("cgroup-manager", "", "choice", "cgroupfs|systemd|disabled", "cgroupfs", "who makes the cgroup"),
    ("rootless", "", "str-bool", "true|false|auto", "auto", "ignore missing permission on cgroups"),
    ("config", "", "str", "FILE", "/etc/gosudacon/config.toml", "the administrator's configuration"),
    ("no-snapshot", "", "flag", "", False, ""),  # look for stages anew; for tests, and to find out what is slow
    ("criu", "", "str", "PATH", "", ""),
    ("help", "h", "flag", "", False, "show help"),
    ("version", "v", "flag", "", False, "print the version"),
)

_HELP: Option = ("help", "h", "flag", "", False, "show help")
_BUNDLE: Option = ("bundle", "b", "str", "DIR", ".", "the bundle: the directory of config.json")
_PID_FILE: Option = ("pid-file", "", "str", "FILE", "", "write the process's pid to FILE")
_CONSOLE: Option = ("console-socket", "", "str", "SOCKET", "", "send the terminal to this AF_UNIX socket")
_PIDFD: Option = ("pidfd-socket", "", "str", "SOCKET", "", "send a pidfd to this AF_UNIX socket")
_PRESERVE: Option = ("preserve-fds", "", "int", "N", 0, "pass on N more descriptors (after LISTEN_FDS)")
_DETACH: Option = ("detach", "d", "flag", "", False, "return when the process runs; do not wait for it")
_NO_SUBREAPER: Option = ("no-subreaper", "", "flag", "", False, "do not reap the container's orphans")
_NO_PIVOT: Option = ("no-pivot", "", "flag", "", False, "do not use pivot_root (for a root on a ramdisk)")
_NO_KEYRING: Option = ("no-new-keyring", "", "flag", "", False, "keep the caller's session keyring")
_FORMAT: Option = ("format", "f", "choice", "table|json", "table", "format of the output")
_CREATE = (_BUNDLE, _PID_FILE, _CONSOLE, _PIDFD, _NO_PIVOT, _NO_KEYRING, _PRESERVE)
_CRIU: tuple[Option, ...] = (
    ("image-path", "", "str", "DIR", "", "directory of the images (default: ./checkpoint)"),
    ("work-path", "", "str", "DIR", "", "directory of the work files and logs"),
    ("tcp-established", "", "flag", "", False, "allow established TCP connections"),
    ("ext-unix-sk", "", "flag", "", False, "allow external unix sockets"),
    ("shell-job", "", "flag", "", False, "allow shell jobs"),
    ("file-locks", "", "flag", "", False, "allow file locks"),
    ("auto-dedup", "", "flag", "", False, "remove duplicate memory pages from the images"),
    ("lazy-pages", "", "flag", "", False, "move memory pages when they are needed (userfaultfd)"),
    ("manage-cgroups-mode", "", "choice", "soft|full|strict|ignore", "soft", "how CRIU treats cgroups"),
    ("network-lock", "", "choice", "iptables|nftables|skip", "iptables", "how CRIU holds network traffic back"),
    ("empty-ns", "", "list", "network", "", "make this namespace anew, without what it held"),
)
_INSTALL: tuple[Option, ...] = (
    ("prefix", "", "str", "DIR", "/usr/local", "where to install: DIR/bin, DIR/lib/gosudacon, DIR/share"),
    ("name", "", "str", "NAME", "gosudacon", "name of the command in DIR/bin"),
    _HELP,
)


def _command(
    summary: str,
    usage: str,
    positionals: tuple[int, int],
    options: tuple[Option, ...],
    text: str,
    example: str,
    stop: bool = False,
    prefix: str = "",
    failure: int = 1,
) -> Command:
    return {
        "summary": summary,
        "usage": usage,
        "positionals": positionals,
        "stop": stop,
        "prefix": prefix,
        "failure": failure,
        "options": options,
        "text": text,
        "example": example,
    }


COMMANDS: dict[str, Command] = {
    "create": _command(
        summary="create a container",
        usage="<container-id>",
        positionals=(1, 1),
        prefix="gosudacon create failed: ",
        options=(*_CREATE, _HELP),
        text="Carries out the plan of the bundle (see `gosudacon explain`) and leaves the container "
        "waiting for `gosudacon start`. The id is letters, digits and `_+.-`.",
        example="create --bundle /srv/web --pid-file /run/web.pid web",
    ),
    "start": _command(
        summary="start the process of a created container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(_HELP,),
        text="Lets the waiting container execute the process of its config.json.",
        example="start web",
    ),
    "run": _command(
        summary="create and start a container",
        usage="<container-id>",
        positionals=(1, 1),
        prefix="gosudacon run failed: ",
        options=(
            *_CREATE,
            _DETACH,
            ("keep", "", "flag", "", False, "keep the container when its process has ended"),
            _NO_SUBREAPER,
            _HELP,
        ),
        text="In the foreground, passes signals and the terminal on, waits, deletes the container and "
        "returns its exit status (128 + N when signal N ended it).",
        example="run --bundle /srv/web web\nrun --detach -b /srv/web web",
    ),
    "exec": _command(
        summary="run another process in a container",
        usage="<container-id> [<command> [<argument> ...]]",
        positionals=(1, -1),
        stop=True,
        prefix="exec failed: ",
        failure=255,
        options=(
            ("process", "p", "str", "FILE", "", "the process as OCI JSON; other process options are ignored"),
            _DETACH,
            _PID_FILE,
            _CONSOLE,
            _PIDFD,
            ("tty", "t", "flag", "", False, "give the process a terminal"),
            ("cwd", "", "str", "DIR", "", "working directory in the container"),
            ("env", "e", "list", "NAME=VALUE", "", "add to the environment; repeatable"),
            ("user", "u", "str", "UID[:GID]", "", "user and group, as numbers"),
            ("additional-gids", "g", "list", "GID", "", "additional group; repeatable"),
            ("cap", "c", "list", "CAP", "", "add a capability; repeatable"),
            ("no-new-privs", "", "flag", "", False, "set no_new_privs"),
            ("process-label", "", "str", "LABEL", "", "SELinux label of the process"),
            ("apparmor", "", "str", "PROFILE", "", "AppArmor profile of the process"),
            ("cgroup", "", "list", "[CTRL:]PATH", "", "existing cgroup below the container's"),
            ("ignore-paused", "", "flag", "", False, "join a paused container, too"),
            _PRESERVE,
            _HELP,
        ),
        text="Options end at the container id; what follows the id is the command.",
        example="exec web ps -ef\nexec --process process.json --detach web",
    ),
    "state": _command(
        summary="print the state of a container as JSON",
        usage="<container-id>",
        positionals=(1, 1),
        options=(_HELP,),
        text="The status is created, running, paused or stopped.",
        example="state web",
    ),
    "list": _command(
        summary="list the containers",
        usage="",
        positionals=(0, 0),
        options=(_FORMAT, ("quiet", "q", "flag", "", False, "print ids only"), _HELP),
        text="Lists the containers below --root. Where the state of one cannot be read, its status is unknown.",
        example="list --format json",
    ),
    "ps": _command(
        summary="list the processes of a container",
        usage="<container-id> [<ps option> ...]",
        positionals=(1, -1),
        stop=True,
        options=(_FORMAT, _HELP),
        text="As a table, what ps(1) prints of the processes (default: ps -ef); as JSON, their pids.",
        example="ps web aux\nps --format json web",
    ),
    "kill": _command(
        summary="send a signal to a container's first process",
        usage="<container-id> [<signal>]",
        positionals=(1, 2),
        stop=True,
        options=(
            ("all", "a", "flag", "", False, "send the signal to all processes of the container"),
            _HELP,
        ),
        text="The signal is a number or a name, with or without SIG; SIGTERM if none is given.",
        example="kill web HUP\nkill web 9",
    ),
    "delete": _command(
        summary="delete a stopped container and all it holds",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            ("force", "f", "flag", "", False, "kill it first; no error if there is none"),
            _HELP,
        ),
        text="Undoes what the plan did on the host: cgroups, mounts, network, the state directory. A "
        "container that was created and not started is deleted without --force. What cannot be undone keeps "
        "the container, and the exit status is 1: try again when the cause is gone.",
        example="delete --force web",
    ),
    "pause": _command(
        summary="freeze all processes of a container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(_HELP,),
        text="The processes stand still until `gosudacon resume`.",
        example="pause web",
    ),
    "resume": _command(
        summary="let the processes of a paused container go on",
        usage="<container-id>",
        positionals=(1, 1),
        options=(_HELP,),
        text="The container must be paused.",
        example="resume web",
    ),
    "update": _command(
        summary="change the resource limits of a container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            ("resources", "r", "str", "FILE", "", "limits as OCI JSON (- is stdin); no other option counts"),
            ("blkio-weight", "", "int", "N", 0, "block I/O weight, 10 to 1000"),
            ("cpu-period", "", "str", "USEC", "", "CFS period"),
            ("cpu-quota", "", "str", "USEC", "", "CPU time within a period"),
            ("cpu-burst", "", "str", "USEC", "", "CPU time saved up for bursts"),
            ("cpu-share", "", "str", "N", "", "CPU shares relative to other containers"),
            ("cpu-rt-period", "", "str", "USEC", "", "realtime period"),
            ("cpu-rt-runtime", "", "str", "USEC", "", "realtime CPU time within a period"),
            ("cpu-idle", "", "str", "0|1", "", "use idle CPU time only"),
            ("cpuset-cpus", "", "str", "LIST", "", "CPUs, such as 0-2,7"),
            ("cpuset-mems", "", "str", "LIST", "", "memory nodes"),
            ("memory", "", "str", "BYTES", "", "memory limit, such as 512m; -1 is none"),
            ("memory-reservation", "", "str", "BYTES", "", "memory to keep under pressure (soft limit)"),
            ("memory-swap", "", "str", "BYTES", "", "memory and swap together; -1 is no limit"),
            ("pids-limit", "", "str", "N", "", "number of processes; -1 is no limit"),
            ("l3-cache-schema", "", "str", "SCHEMA", "", "Intel RDT cache schema"),
            ("mem-bw-schema", "", "str", "SCHEMA", "", "Intel RDT memory bandwidth schema"),
            ("kernel-memory", "", "str", "BYTES", "", ""),
            ("kernel-memory-tcp", "", "str", "BYTES", "", ""),
            _HELP,
        ),
        text="Limits that are not given stay as they are.",
        example="update --memory 512m --pids-limit 100 web\nupdate --resources limits.json web",
    ),
    "events": _command(
        summary="print statistics and out-of-memory events",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            ("interval", "", "str", "DURATION", "5s", "time between statistics"),
            ("stats", "", "flag", "", False, "print the statistics once and exit"),
            _HELP,
        ),
        text="One JSON object a line, until the container has stopped. An interval is written as 5s, 500ms or 1m30s.",
        example="events --stats web",
    ),
    "features": _command(
        summary="print what this runtime supports, as JSON",
        usage="",
        positionals=(0, 0),
        options=(_HELP,),
        text="The features structure of the OCI runtime specification, for this host and this build.",
        example="features",
    ),
    "checkpoint": _command(
        summary="save a running container to disk",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            *_CRIU,
            ("parent-path", "", "str", "DIR", "", "images of a --pre-dump, relative to --image-path"),
            ("leave-running", "", "flag", "", False, "let the container go on"),
            ("pre-dump", "", "flag", "", False, "save the memory only, and let the container go on"),
            ("tcp-skip-in-flight", "", "flag", "", False, "skip TCP connections that are being made"),
            ("link-remap", "", "flag", "", False, "remap files that have been unlinked"),
            ("status-fd", "", "int", "N", -1, "descriptor on which CRIU says that lazy pages are ready"),
            ("page-server", "", "str", "ADDRESS:PORT", "", "address of the page server"),
            _HELP,
        ),
        text="Uses CRIU.",
        example="checkpoint --image-path /var/lib/web web",
    ),
    "restore": _command(
        summary="restore a container from a checkpoint",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            _BUNDLE,
            _PID_FILE,
            _CONSOLE,
            _DETACH,
            _NO_SUBREAPER,
            _NO_PIVOT,
            *_CRIU,
            ("tcp-close", "", "flag", "", False, "restore TCP connections as closed ones"),
            ("lsm-profile", "", "str", "TYPE:NAME", "", "LSM profile of the restored processes"),
            ("lsm-mount-context", "", "str", "CONTEXT", "", "LSM context of the restored mounts"),
            _HELP,
        ),
        text="Uses CRIU.",
        example="restore --image-path /var/lib/web --bundle /srv/web web",
    ),
    "spec": _command(
        summary="write a config.json to begin with",
        usage="",
        positionals=(0, 0),
        options=(
            ("bundle", "b", "str", "DIR", ".", "where to write it"),
            ("rootless", "", "flag", "", False, "for a container of the calling user, without root"),
            _HELP,
        ),
        text="The container runs `sh` on the directory `rootfs`, read-only, in namespaces of its own.",
        example="spec --bundle /srv/web",
    ),
    "demo": _command(
        summary="write a bundle that runs on the host's own /usr",
        usage="<directory> [<command> [<argument> ...]]",
        positionals=(1, -1),
        options=(
            ("terminal", "t", "flag", "", False, "with a terminal; a shell, if no command is given"),
            _HELP,
        ),
        text="The root filesystem is the host's /usr, mounted read-only, and a few small files; what can be "
        "written to is in memory. The default command prints what it sees.",
        example="demo /tmp/demo\ndemo --terminal /tmp/shell",
        stop=True,
    ),
    "explain": _command(
        summary="print what create would do, step by step",
        usage="[<bundle>]",
        positionals=(0, 1),
        options=(
            _FORMAT,
            ("stage", "", "str", "NAME", "", "the steps of this stage only"),
            ("exec", "", "str", "FILE", "", "the plan for `exec --process FILE` in the bundle's container"),
            _CONSOLE,
            _PIDFD,
            _HELP,
        ),
        text="Plans the bundle (default: the current directory) as `create` does, and prints the plan in "
        "place of carrying it out. Needs no root. Lists every error of an invalid config.json.",
        example="explain /srv/web\nexplain --stage seccomp --format json /srv/web\nexplain --exec ps.json /srv/web",
    ),
    "install": _command(
        summary="install the launcher for container engines",
        usage="",
        positionals=(0, 0),
        options=_INSTALL,
        text="Puts the launcher for this interpreter into the prefix, with man pages and completions for bash, zsh "
        "and fish, and prints what makes containerd, Docker and Podman use it.",
        example="install --prefix /usr/local",
    ),
    "uninstall": _command(
        summary="remove what install has installed",
        usage="",
        positionals=(0, 0),
        options=_INSTALL,
        text="Removes what `gosudacon install` put into the prefix, and the directory of states if it is empty.",
        example="uninstall --prefix /usr/local",
    ),
    "completion": _command(
        summary="print the completion for a shell",
        usage="<bash|zsh|fish>",
        positionals=(1, 1),
        options=(("name", "", "str", "NAME", "gosudacon", "name of the command that is completed"), _HELP),
        text="Completes commands, options, their values, and ids of containers. `gosudacon install` puts it where "
        "the shells look for it.",
        example="completion bash",
    ),
    "man": _command(
        summary="print a page of the manual",
        usage="[<command>]",
        positionals=(0, 1),
        options=(("name", "", "str", "NAME", "gosudacon", "name of the command that is described"), _HELP),
        text="For man(1) to format: `gosudacon man create | man -l -`. `gosudacon install` puts all pages where "
        "man(1) finds them.",
        example="man\nman create",
    ),
    "help": _command(
        summary="show help of the program or of a command",
        usage="[<command>]",
        positionals=(0, 1),
        options=(_HELP,),
        text="`h` is short for `help`.",
        example="help create",
    ),
}

# Callers take `CMD --help` with exit status 0 for the promise that CMD works here: where it does not, the status is 1.
PROBED_BY_HELP = ("checkpoint", "restore")
