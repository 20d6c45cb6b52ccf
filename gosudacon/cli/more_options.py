"""The part of the command line's table that no engine needs: see `options`."""

from __future__ import annotations

from gosudacon.cli.options import (
    BUNDLE,
    CONFIG,
    CONSOLE,
    CREATE,
    DETACH,
    DEVICE,
    FORMAT,
    HELP,
    NETWORK,
    NO_PIVOT,
    NO_SUBREAPER,
    PID_FILE,
    PIDFD,
    PUBLISH,
    TRACE,
    Option,
    entry,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.options import Command

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
    HELP,
)

COMMANDS: dict[str, Command] = {
    "learn": entry(
        summary="run a container and write the seccomp profile that it needs",
        usage="[<container-id>]",
        positionals=(0, 1),
        prefix="gosudacon learn failed: ",
        options=(
            Option("profile", "the profile to write, or to add to (default: seccomp.json)", metavar="FILE", short="o"),
            Option("anew", "write the profile anew: do not add to what FILE has"),
            Option("show", "print the report in FILE, and run nothing", metavar="FILE"),
            Option("format", "format of the report", kind="choice", metavar="table|json", default="table"),
            *CREATE,
            DETACH,
            Option("keep", "keep the container when its process has ended"),
            NO_SUBREAPER,
            HELP,
        ),
        text="Runs the bundle as `run` does, under its own seccomp profile if it has one, and records every system "
        "call. When it has ended, the least profile for it is in FILE, and a report is printed on standard error and "
        "kept next to it: the calls that were made, those that were refused, and those that were not used. The exit "
        "status is the container's. For recording, not for protection.",
        example="learn --bundle /srv/web --profile web.json web\nlearn --show web.report.json",
    ),
    "trace": entry(
        summary="show what a command did and when",
        usage="<file> [<file>]",
        positionals=(1, 2),
        options=(
            Option("all", "a line for every span, however short", short="a"),
            Option("width", "columns (default: the terminal's)", kind="int", metavar="N", default=0),
            HELP,
        ),
        text="Shows a trace that --trace has written as .json or .jsonl: both sides, processor time and waiting, the "
        "critical path. With two files, what differs between them.",
        example="trace web.json\ntrace before.json after.json",
    ),
    "audit": entry(
        summary="compare a running container with its configuration",
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
            Option("all-properties", "also show the properties that are as configured"),
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
            HELP,
        ),
        text="Plans the container anew and compares what each step expects with what the kernel shows: from outside, "
        "and without trusting anything that the container can write. Knows the containers of gosudacon, runc and crun "
        "by their directories of state. The exit status is 0 if all holds, 1 if something does not, 2 if a container "
        "could not be audited.",
        example="audit web\naudit --all --format prometheus\naudit --pid 4711 --bundle /srv/web --seccomp=program",
    ),
    "pause": entry(
        summary="freeze all processes of a container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(HELP,),
        text="The processes are frozen until `gosudacon resume`.",
        example="pause web",
    ),
    "resume": entry(
        summary="resume the processes of a paused container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(HELP,),
        text="The container must be paused.",
        example="resume web",
    ),
    "update": entry(
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
            TRACE,
            HELP,
        ),
        text="Limits that are not given stay as they are.",
        example="update --memory 512m --pids-limit 100 web\nupdate --resources limits.json web",
    ),
    "mounts": entry(
        summary="add mounts to a running container, or remove them",
        usage="add|remove <container-id> <file>",
        positionals=(3, 3),
        options=(TRACE, HELP),
        text="The file (- is stdin) has a JSON array of mounts, or an object with one as `mounts`, in the form of "
        "config.json. `add` mounts all of them or none; `remove` unmounts what is at their destinations, the last "
        "first. `gosudacon explain --mounts FILE` prints the plan of `add`.",
        example="mounts add web mounts.json\nmounts remove web mounts.json",
    ),
    "events": entry(
        summary="print statistics and out-of-memory events",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            Option("interval", "time between statistics", metavar="DURATION", default="5s"),
            Option("stats", "print the statistics once and exit"),
            HELP,
        ),
        text="One JSON object a line, until the container has stopped. An interval is written as 5s, 500ms or 1m30s.",
        example="events --stats web",
    ),
    "features": entry(
        summary="print what this runtime supports, as JSON",
        usage="",
        positionals=(0, 0),
        options=(HELP,),
        text="The features structure of the OCI runtime specification, for this host and this build.",
        example="features",
    ),
    "doctor": entry(
        summary="say what this host lacks, and what to do",
        usage="",
        positionals=(0, 0),
        options=(
            Option("format", "format of the output", kind="choice", metavar="table|json", default="table"),
            HELP,
        ),
        text="Looks at kernel, cgroups, ids of the calling user, the program and the configuration of engines, as the "
        "calling user, and changes nothing. Each row is marked as good, as missing but not needed by every user, or as "
        "what keeps containers from working; one of the last kind makes the exit status 1.",
        example="doctor\ndoctor --format json",
    ),
    "plugin": entry(
        summary="list, check, enable, disable or create plugins",
        usage="<list|check|enable|disable|new> [<name> ...]",
        positionals=(1, -1),
        options=(
            Option("format", "format of the output", kind="choice", metavar="table|json", default="table"),
            Option("bundle", "check: with this bundle, too; repeatable", kind="list", metavar="DIR", short="b"),
            Option("directory", "new: where to write the package (default: ./NAME)", metavar="DIR"),
            HELP,
        ),
        text="`list` shows what is installed, what is enabled and in which order, who can change the files, and the "
        "milliseconds that the imports add to each create (median of five starts of an interpreter). `enable` and "
        "`disable` edit --config-file. `check` plans bundles with a plugin, and looks for what no plugin may do. "
        "`new` writes a package as a starting point.",
        example="plugin list\nplugin enable network\nplugin new my-plugin\nplugin check --bundle /srv/web my-plugin",
    ),
    "shim": entry(
        summary="list gosudacon's shims for containerd",
        usage="ps",
        positionals=(1, 1),
        options=(FORMAT, HELP),
        text="Shows each shim's memory in KiB (private; its share of shared pages), its containers, and the templates.",
        example="shim ps",
    ),
    "checkpoint": entry(
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
            HELP,
        ),
        text="Uses CRIU.",
        example="checkpoint --image-path /var/lib/web web",
    ),
    "restore": entry(
        summary="restore a container from a checkpoint",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            BUNDLE,
            PID_FILE,
            CONSOLE,
            DETACH,
            NO_SUBREAPER,
            NO_PIVOT,
            DEVICE,
            *_CRIU,
            Option("tcp-close", "restore TCP connections as closed"),
            Option("lsm-profile", "LSM profile of the restored processes", metavar="TYPE:NAME"),
            Option("lsm-mount-context", "LSM context of the restored mounts", metavar="CONTEXT"),
            TRACE,
            HELP,
        ),
        text="Uses CRIU.",
        example="restore --image-path /var/lib/web --bundle /srv/web web",
    ),
    "spec": entry(
        summary="write an example config.json",
        usage="",
        positionals=(0, 0),
        options=(
            Option("bundle", "where to write it", metavar="DIR", short="b", default="."),
            Option("rootless", "for a container of the calling user, without root"),
            HELP,
        ),
        text="The container runs `sh` on the directory `rootfs`, read-only, in namespaces of its own.",
        example="spec --bundle /srv/web",
    ),
    "demo": entry(
        summary="write a bundle that runs on the host's own /usr",
        usage="<directory> [<command> [<argument> ...]]",
        positionals=(1, -1),
        options=(
            Option("terminal", "with a terminal; a shell, if no command is given", short="t"),
            HELP,
        ),
        text="The root filesystem is the host's /usr, mounted read-only, and a few small files; "
        "writable directories are in memory. The default command prints what it sees.",
        example="demo /tmp/demo\ndemo --terminal /tmp/shell",
        stop=True,
    ),
    "explain": entry(
        summary="print what create would do, step by step",
        usage="[<bundle-or-id>] [<bundle-or-id>]",
        positionals=(0, 2),
        options=(
            CONFIG,
            DEVICE,
            PUBLISH,
            NETWORK,
            Option("format", "format of the output", kind="choice", metavar="table|json|html|svg", default="table"),
            Option("id", "the id that will be used (default: the name of the directory)", metavar="ID"),
            Option("stage", "the steps of this stage only", metavar="NAME"),
            Option("long", "below each step why it is done, what would be missing, and where to read on"),
            Option("host", "plan for the machine whose facts are in FILE; twice: compare", kind="list", metavar="FILE"),
            Option("timings", "how long each step took, from a trace that --trace wrote to FILE", metavar="FILE"),
            Option("audit", "with html and svg: the verdicts of `audit --format json`, in FILE", metavar="FILE"),
            Option("no-check", "do not look at host and image for what create would fail at"),
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
            CONSOLE,
            PIDFD,
            HELP,
        ),
        text="Plans the bundle (default: the current directory) as `create` does, and prints the plan "
        "instead of carrying it out. Needs no root. Lists every error of an invalid config.json. Looks at host and "
        "image, too, and lists as findings what create would fail at, with its place and what to do. Ends with what "
        "is shared with the host. The html is a page without scripts that shows the plan next to the file, the svg a "
        "picture. A word without a slash that is not a directory is the id of a container that "
        "exists: its plan is made from what is saved of it. With two of them, or two hosts, prints what differs, "
        "and exits with 0 if nothing does, 1 if something does, and 2 in trouble.",
        example="explain /srv/web\nexplain --id web --strict /srv/web\n"
        "explain --stage seccomp --format json /srv/web\nexplain --exec ps.json /srv/web\n"
        "explain --format html --timings web.json /srv/web\n"
        "explain /srv/web /srv/web-new\nexplain --host old.json --host new.json /srv/web",
    ),
    "host": entry(
        summary="print the facts about this machine that plans are made with",
        usage="",
        positionals=(0, 0),
        options=(HELP,),
        text="JSON for `gosudacon explain --host FILE`, on any machine: kernel, cgroups, user, security modules.",
        example="host",
    ),
    "install": entry(
        summary="install the launcher for container engines",
        usage="",
        positionals=(0, 0),
        options=(
            *_INSTALL[:-1],
            Option("programs-only", "no man pages, completions and unit of systemd: for packages that have them"),
            HELP,
        ),
        text="Puts the launcher for this interpreter into the prefix, with man pages and completions for bash, zsh "
        "and fish, and prints the configuration for containerd, Docker and Podman.",
        example="install --prefix /usr/local",
    ),
    "uninstall": entry(
        summary="remove what install has installed",
        usage="",
        positionals=(0, 0),
        options=_INSTALL,
        text="Removes what `gosudacon install` put into the prefix, and the directory of states if it is empty.",
        example="uninstall --prefix /usr/local",
    ),
    "completion": entry(
        summary="print the completion for a shell",
        usage="<bash|zsh|fish>",
        positionals=(1, 1),
        options=(
            Option("name", "name of the command that is completed", metavar="NAME", default="gosudacon"),
            HELP,
        ),
        text="Completes commands, options, their values, and ids of containers. `gosudacon install` puts it where "
        "the shells look for it.",
        example="completion bash",
    ),
    "man": entry(
        summary="print a page of the manual",
        usage="[<command>]",
        positionals=(0, 1),
        options=(
            Option("name", "name of the command that is described", metavar="NAME", default="gosudacon"),
            HELP,
        ),
        text="For man(1) to format: `gosudacon man create | man -l -`. `gosudacon install` puts all pages where "
        "man(1) finds them.",
        example="man\nman create",
    ),
    "help": entry(
        summary="show help of the program or of a command",
        usage="[<command>]",
        positionals=(0, 1),
        options=(HELP,),
        text="`h` is short for `help`.",
        example="help create",
    ),
}
