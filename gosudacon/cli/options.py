"""The one table of the command line: parsing, ``--help``, man pages and shell completions come from it.

An option with a metavar is a ``str`` and one without a ``flag``, unless it says otherwise. The kinds are

``flag``      bare, or ``=true`` / ``=false``; False unless given
``str``       a string, as it came
``int``       a non-negative decimal integer
``list``      strings; the option may be repeated
``str-bool``  ``true``, ``false`` or ``auto``, as a string
``choice``    one of the words that the metavar lists with ``|`` between them

Everything here is constants and small objects, since every command pays for all of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

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


class Option:
    """One option: its names, what value it takes, and what it does.

    ``short`` is a letter, or empty; ``default`` the value of one that is not given (False for a flag, an empty list
    for a list); ``metavar`` stands for the value in texts. ``former`` is a name that it had, taken with a warning.
    """

    __slots__ = ("default", "former", "help", "kind", "metavar", "name", "short")

    def __init__(
        self,
        name: str,
        help: str,
        metavar: str = "",
        kind: str = "",
        short: str = "",
        default: int | str = "",
        former: str = "",
    ) -> None:
        self.name = name
        self.former = former
        self.help = help
        self.kind = kind or ("str" if metavar else "flag")
        self.metavar = metavar
        self.short = short
        self.default = default if metavar else False


PROGRAM = "gosudacon"

GLOBALS: tuple[Option, ...] = (
    Option("root", "directory of the containers' state", metavar="DIR"),
    Option("log", "append the error, if any, to FILE as well (default: stderr only)", metavar="FILE"),
    Option("log-format", "format of the records in the log", metavar="text|json", default="text"),
    Option("debug", "log what the runtime does, step by step, too"),
    Option("systemd-cgroup", "let systemd make the cgroup (cgroupsPath: slice:prefix:name)"),
    Option(
        "cgroup-manager", "who makes the cgroup", kind="choice", metavar="cgroupfs|systemd|disabled", default="cgroupfs"
    ),
    Option(
        "rootless", "ignore missing permission on cgroups", kind="str-bool", metavar="true|false|auto", default="auto"
    ),
    Option(
        "config-file",
        "the administrator's configuration",
        metavar="FILE",
        default="/etc/gosudacon/config.toml",
        former="config",
    ),
    Option("no-snapshot", "look for stages and plugins anew, and keep nothing of what is found"),
    Option("criu", "ignored: CRIU is looked for in the directories of the system", metavar="PATH"),
    Option("help", "show help", short="h"),
    Option("version", "print the version", short="v"),
)

_HELP = Option("help", "show help", short="h")
_BUNDLE = Option("bundle", "the bundle: the directory of config.json", metavar="DIR", short="b", default=".")
_CONFIG = Option("config", "the bundle's configuration instead of config.json", metavar="FILE", short="f")
_PID_FILE = Option("pid-file", "write the process's pid to FILE", metavar="FILE")
_CONSOLE = Option("console-socket", "send the terminal to this AF_UNIX socket", metavar="SOCKET")
_PIDFD = Option("pidfd-socket", "send a pidfd to this AF_UNIX socket", metavar="SOCKET")
_PRESERVE = Option("preserve-fds", "pass on N more descriptors (after LISTEN_FDS)", kind="int", metavar="N", default=0)
_DETACH = Option("detach", "return when the process runs; do not wait for it", short="d")
_NO_SUBREAPER = Option("no-subreaper", "do not reap the container's orphans")
_NO_PIVOT = Option("no-pivot", "do not use pivot_root (for a root on a ramdisk)")
_NO_KEYRING = Option("no-new-keyring", "keep the caller's session keyring")
_FORMAT = Option("format", "format of the output", kind="choice", metavar="table|json", short="f", default="table")
_TRACE = Option("trace", "write what took how long to FILE (.json, .jsonl, .svg, .html)", metavar="FILE")
_DEVICE = Option("device", "a CDI device, for the plugin cdi; repeatable", kind="list", metavar="VENDOR/CLASS=NAME")
_CREATE = (_BUNDLE, _CONFIG, _PID_FILE, _CONSOLE, _PIDFD, _NO_PIVOT, _NO_KEYRING, _PRESERVE, _DEVICE, _TRACE)
_CRIU: tuple[Option, ...] = (
    Option("image-path", "directory of the images (default: ./checkpoint)", metavar="DIR"),
    Option("work-path", "directory of the work files and logs", metavar="DIR"),
    Option("tcp-established", "allow established TCP connections"),
    Option("ext-unix-sk", "allow external unix sockets"),
    Option("shell-job", "allow shell jobs"),
    Option("file-locks", "allow file locks"),
    Option("auto-dedup", "remove duplicate memory pages from the images"),
    Option("lazy-pages", "move memory pages when they are needed (userfaultfd)"),
    Option(
        "manage-cgroups-mode",
        "how CRIU treats cgroups",
        kind="choice",
        metavar="soft|full|strict|ignore",
        default="soft",
    ),
    Option(
        "network-lock",
        "how CRIU blocks network traffic",
        kind="choice",
        metavar="iptables|nftables|skip",
        default="iptables",
    ),
    Option("empty-ns", "create this namespace empty", kind="list", metavar="network"),
)
_INSTALL: tuple[Option, ...] = (
    Option("prefix", "where to install: DIR/bin, DIR/lib/gosudacon, DIR/share", metavar="DIR", default="/usr/local"),
    Option("name", "name of the command in DIR/bin", metavar="NAME", default="gosudacon"),
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
        options=(_TRACE, _HELP),
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
            Option("keep", "keep the container when its process has ended"),
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
            Option("process", "the process as OCI JSON; other process options are ignored", metavar="FILE", short="p"),
            _DETACH,
            _PID_FILE,
            _CONSOLE,
            _PIDFD,
            Option("tty", "give the process a terminal", short="t"),
            Option("cwd", "working directory in the container", metavar="DIR"),
            Option("env", "add to the environment; repeatable", kind="list", metavar="NAME=VALUE", short="e"),
            Option("user", "user and group, as numbers", metavar="UID[:GID]", short="u"),
            Option("additional-gids", "additional group; repeatable", kind="list", metavar="GID", short="g"),
            Option("cap", "add a capability; repeatable", kind="list", metavar="CAP", short="c"),
            Option("no-new-privs", "set no_new_privs"),
            Option("process-label", "SELinux label of the process", metavar="LABEL"),
            Option("apparmor", "AppArmor profile of the process", metavar="PROFILE"),
            Option("cgroup", "existing cgroup below the container's", kind="list", metavar="[CTRL:]PATH"),
            Option("ignore-paused", "join a paused container, too"),
            _PRESERVE,
            _TRACE,
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
        options=(_FORMAT, Option("quiet", "print ids only", short="q"), _HELP),
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
            Option("all", "send the signal to all processes of the container", short="a"),
            _HELP,
        ),
        text="The signal is a number or a name, with or without SIG; SIGTERM if none is given.",
        example="kill web HUP\nkill web 9",
    ),
    "delete": _command(
        summary="delete a stopped container and its resources",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            Option("force", "kill it first; no error if there is none", short="f"),
            Option("regex", "delete every container whose id matches this extended regular expression"),
            _TRACE,
            _HELP,
        ),
        text="Undoes what the plan did on the host: cgroups, mounts, network, the state directory. A "
        "container that was created and not started is deleted without --force. What cannot be undone keeps "
        "the container, and the exit status is 1: try again when the cause is gone. With --regex, <container-id> is "
        "an expression of regex(7) that may match anywhere in an id.",
        example="delete --force web\ndelete --force --regex '^web-[0-9]+$'",
    ),
    "learn": _command(
        summary="run a container and write the seccomp profile that it needs",
        usage="[<container-id>]",
        positionals=(0, 1),
        prefix="gosudacon learn failed: ",
        options=(
            Option("profile", "the profile to write, or to add to (default: seccomp.json)", metavar="FILE", short="o"),
            Option("anew", "write the profile anew: do not add to what FILE has"),
            Option("show", "print the report in FILE, and run nothing", metavar="FILE"),
            Option("format", "format of the report", kind="choice", metavar="table|json", default="table"),
            *_CREATE,
            _DETACH,
            Option("keep", "keep the container when its process has ended"),
            _NO_SUBREAPER,
            _HELP,
        ),
        text="Runs the bundle as `run` does, under its own seccomp profile if it has one, and records every system "
        "call. When it has ended, the least profile for it is in FILE, and a report is printed on standard error and "
        "kept beside it: the calls that were made, those that were refused, and those that nobody used. The exit "
        "status is the container's. For recording, not for protection.",
        example="learn --bundle /srv/web --profile web.json web\nlearn --show web.report.json",
    ),
    "trace": _command(
        summary="show what a command did and when",
        usage="<file> [<file>]",
        positionals=(1, 2),
        options=(
            Option("all", "a line for every span, however short", short="a"),
            Option("width", "columns (default: the terminal's)", kind="int", metavar="N", default=0),
            _HELP,
        ),
        text="Shows a trace that --trace has written as .json or .jsonl: both sides, processor time and waiting, the "
        "critical path. With two files, what differs between them.",
        example="trace web.json\ntrace before.json after.json",
    ),
    "audit": _command(
        summary="hold a running container against what was asked of it",
        usage="[<container-id>]",
        positionals=(0, 1),
        failure=2,
        options=(
            Option("all", "all containers (with --root: of that directory)", short="a"),
            Option(
                "pid",
                "the first process of a container, with --bundle",
                kind="int",
                metavar="PID",
                default=0,
            ),
            Option("bundle", "the bundle that it was made from", metavar="DIR", short="b"),
            Option("all-properties", "show what is as it was asked for, too"),
            Option("strict", "what the container itself has changed is a failure, too"),
            Option(
                "seccomp",
                "read the filter back and evaluate it, which stops the container for a moment",
                kind="choice",
                metavar="status|program",
                default="status",
            ),
            Option(
                "format",
                "format of the output",
                kind="choice",
                metavar="table|json|prometheus",
                short="f",
                default="table",
            ),
            _HELP,
        ),
        text="Plans the container anew and compares what each step expects with what the kernel shows: from outside, "
        "and without trusting anything that the container can write. Knows the containers of gosudacon, runc and crun "
        "by their directories of state. The exit status is 0 if all holds, 1 if something does not, 2 if a container "
        "could not be audited.",
        example="audit web\naudit --all --format prometheus\naudit --pid 4711 --bundle /srv/web --seccomp=program",
    ),
    "pause": _command(
        summary="freeze all processes of a container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(_HELP,),
        text="The processes are frozen until `gosudacon resume`.",
        example="pause web",
    ),
    "resume": _command(
        summary="resume the processes of a paused container",
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
            Option("resources", "limits as OCI JSON (- is stdin); overrides other options", metavar="FILE", short="r"),
            Option("blkio-weight", "block I/O weight, 10 to 1000", kind="int", metavar="N", default=0),
            Option("cpu-period", "CFS period", metavar="USEC"),
            Option("cpu-quota", "CPU time within a period", metavar="USEC"),
            Option("cpu-burst", "CPU time saved up for bursts", metavar="USEC"),
            Option("cpu-share", "CPU shares relative to other containers", metavar="N"),
            Option("cpu-rt-period", "realtime period", metavar="USEC"),
            Option("cpu-rt-runtime", "realtime CPU time within a period", metavar="USEC"),
            Option("cpu-idle", "use idle CPU time only", metavar="0|1"),
            Option("cpuset-cpus", "CPUs, such as 0-2,7", metavar="LIST"),
            Option("cpuset-mems", "memory nodes", metavar="LIST"),
            Option("memory", "memory limit, such as 512m; -1 for no limit", metavar="BYTES"),
            Option("memory-reservation", "memory to keep under pressure (soft limit)", metavar="BYTES"),
            Option("memory-swap", "memory and swap together; -1 for no limit", metavar="BYTES"),
            Option("pids-limit", "number of processes; -1 for no limit", metavar="N"),
            Option("l3-cache-schema", "Intel RDT cache schema", metavar="SCHEMA"),
            Option("mem-bw-schema", "Intel RDT memory bandwidth schema", metavar="SCHEMA"),
            Option("kernel-memory", "ignored: it is part of --memory", metavar="BYTES"),
            Option("kernel-memory-tcp", "ignored, as --kernel-memory", metavar="BYTES"),
            _TRACE,
            _HELP,
        ),
        text="Limits that are not given stay as they are.",
        example="update --memory 512m --pids-limit 100 web\nupdate --resources limits.json web",
    ),
    "mounts": _command(
        summary="add mounts to a running container, or remove them",
        usage="add|remove <container-id> <file>",
        positionals=(3, 3),
        options=(_TRACE, _HELP),
        text="The file (- is stdin) has a JSON array of mounts, or an object with one as `mounts`, in the form of "
        "config.json. `add` mounts all of them or none; `remove` unmounts what is at their destinations, the last "
        "first. `gosudacon explain --mounts FILE` prints the plan of `add`.",
        example="mounts add web mounts.json\nmounts remove web mounts.json",
    ),
    "events": _command(
        summary="print statistics and out-of-memory events",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            Option("interval", "time between statistics", metavar="DURATION", default="5s"),
            Option("stats", "print the statistics once and exit"),
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
    "doctor": _command(
        summary="say what this host lacks, and what to do",
        usage="",
        positionals=(0, 0),
        options=(
            Option("format", "format of the output", kind="choice", metavar="table|json", default="table"),
            _HELP,
        ),
        text="Looks at kernel, cgroups, ids of the calling user, the program and the configuration of engines, as the "
        "calling user, and changes nothing. A row is marked as good, as something that not everybody needs, or as what "
        "keeps containers from working; of these one makes the exit status 1.",
        example="doctor\ndoctor --format json",
    ),
    "plugin": _command(
        summary="list, check, enable, disable or begin plugins",
        usage="<list|check|enable|disable|new> [<name> ...]",
        positionals=(1, -1),
        options=(
            Option("format", "format of the output", kind="choice", metavar="table|json", default="table"),
            Option("bundle", "check: with this bundle, too; repeatable", kind="list", metavar="DIR", short="b"),
            Option("directory", "new: where to write the package (default: ./NAME)", metavar="DIR"),
            _HELP,
        ),
        text="`list` shows what is installed, what is enabled and in which order, who can change the files, and the "
        "milliseconds that the imports add to each create (median of five starts of an interpreter). `enable` and "
        "`disable` edit --config-file. `check` plans bundles with a plugin, and looks for what no plugin may do. "
        "`new` writes a package to begin with.",
        example="plugin list\nplugin enable network\nplugin new my-plugin\nplugin check --bundle /srv/web my-plugin",
    ),
    "shim": _command(
        summary="list containerd's shims that are gosudacon's",
        usage="ps",
        positionals=(1, 1),
        options=(_FORMAT, _HELP),
        text="With their memory in KiB (their own; their share of what is shared) and containers; and the templates.",
        example="shim ps",
    ),
    "checkpoint": _command(
        summary="save a running container to disk",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            *_CRIU,
            Option("parent-path", "images of a --pre-dump, relative to --image-path", metavar="DIR"),
            Option("leave-running", "leave the container running"),
            Option("pre-dump", "save the memory only, and leave the container running"),
            Option("tcp-skip-in-flight", "skip TCP connections that are being made"),
            Option("link-remap", "remap files that have been unlinked"),
            Option(
                "status-fd",
                "descriptor on which CRIU says that lazy pages are ready",
                kind="int",
                metavar="N",
                default=-1,
            ),
            Option("page-server", "address of the page server", metavar="ADDRESS:PORT"),
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
            _DEVICE,
            *_CRIU,
            Option("tcp-close", "restore TCP connections as closed"),
            Option("lsm-profile", "LSM profile of the restored processes", metavar="TYPE:NAME"),
            Option("lsm-mount-context", "LSM context of the restored mounts", metavar="CONTEXT"),
            _TRACE,
            _HELP,
        ),
        text="Uses CRIU.",
        example="restore --image-path /var/lib/web --bundle /srv/web web",
    ),
    "spec": _command(
        summary="write an example config.json",
        usage="",
        positionals=(0, 0),
        options=(
            Option("bundle", "where to write it", metavar="DIR", short="b", default="."),
            Option("rootless", "for a container of the calling user, without root"),
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
            Option("terminal", "with a terminal; a shell, if no command is given", short="t"),
            _HELP,
        ),
        text="The root filesystem is the host's /usr, mounted read-only, and a few small files; "
        "writable directories are in memory. The default command prints what it sees.",
        example="demo /tmp/demo\ndemo --terminal /tmp/shell",
        stop=True,
    ),
    "explain": _command(
        summary="print what create would do, step by step",
        usage="[<bundle-or-id>] [<bundle-or-id>]",
        positionals=(0, 2),
        options=(
            _CONFIG,
            _DEVICE,
            Option("format", "format of the output", kind="choice", metavar="table|json|html|svg", default="table"),
            Option("id", "the id that will be used (default: the name of the directory)", metavar="ID"),
            Option("stage", "the steps of this stage only", metavar="NAME"),
            Option("long", "below each step why it is done, what would be missing, and where to read on"),
            Option("host", "plan for the machine whose facts are in FILE; twice: compare", kind="list", metavar="FILE"),
            Option("timings", "how long each step took, from a trace that --trace wrote to FILE", metavar="FILE"),
            Option("no-check", "do not look at host and image for what create would trip over"),
            Option("strict", "exit with 2 if anything was found"),
            Option(
                "risk",
                "say why, and exit with 2, if what is shared with the host reaches this level",
                kind="choice",
                metavar="none|low|medium|high|critical",
                default="none",
            ),
            Option("exec", "the plan for `exec --process FILE` in the bundle's container", metavar="FILE"),
            Option("mounts", "the plan for `mounts add ID FILE` in the bundle's container", metavar="FILE"),
            _CONSOLE,
            _PIDFD,
            _HELP,
        ),
        text="Plans the bundle (default: the current directory) as `create` does, and prints the plan "
        "instead of carrying it out. Needs no root. Lists every error of an invalid config.json. Looks at host and "
        "image, too, and says as findings what create would trip over, with its place and what to do. Ends with what "
        "is shared with the host. The html is a page without scripts that shows the plan beside the file, the svg a "
        "picture. A word that has no slash and is no directory here is the id of a container that "
        "exists: its plan is made from what is saved of it. With two of them, or two hosts, prints what differs, "
        "and exits with 0 if nothing does, 1 if something does, and 2 in trouble.",
        example="explain /srv/web\nexplain --id web --strict /srv/web\n"
        "explain --stage seccomp --format json /srv/web\nexplain --exec ps.json /srv/web\n"
        "explain --format html --timings web.json /srv/web\n"
        "explain /srv/web /srv/web-new\nexplain --host old.json --host new.json /srv/web",
    ),
    "host": _command(
        summary="print the facts about this machine that plans are made with",
        usage="",
        positionals=(0, 0),
        options=(_HELP,),
        text="JSON for `gosudacon explain --host FILE`, on any machine: kernel, cgroups, user, security modules.",
        example="host",
    ),
    "install": _command(
        summary="install the launcher for container engines",
        usage="",
        positionals=(0, 0),
        options=_INSTALL,
        text="Puts the launcher for this interpreter into the prefix, with man pages and completions for bash, zsh "
        "and fish, and prints the configuration for containerd, Docker and Podman.",
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
        options=(
            Option("name", "name of the command that is completed", metavar="NAME", default="gosudacon"),
            _HELP,
        ),
        text="Completes commands, options, their values, and ids of containers. `gosudacon install` puts it where "
        "the shells look for it.",
        example="completion bash",
    ),
    "man": _command(
        summary="print a page of the manual",
        usage="[<command>]",
        positionals=(0, 1),
        options=(
            Option("name", "name of the command that is described", metavar="NAME", default="gosudacon"),
            _HELP,
        ),
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
