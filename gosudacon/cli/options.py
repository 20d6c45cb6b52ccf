"""The table of the command line: parsing, ``--help``, man pages and shell completions come from it.

The commands that engines call are here; all others are in `more_options`, which these commands do not import.

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
    for a list); ``metavar`` is the value's name in texts. ``former`` is a name that it had, taken with a warning.
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
    Option("no-snapshot", "look for stages and plugins again; neither read nor write the snapshot"),
    Option("criu", "ignored: CRIU is looked for in the directories of the system", metavar="PATH"),
    Option("help", "show help", short="h"),
    Option("version", "print the version", short="v"),
)

HELP = Option("help", "show help", short="h")
BUNDLE = Option("bundle", "the bundle: the directory of config.json", metavar="DIR", short="b", default=".")
CONFIG = Option("config", "the bundle's configuration instead of config.json", metavar="FILE", short="f")
PID_FILE = Option("pid-file", "write the process's pid to FILE", metavar="FILE")
CONSOLE = Option("console-socket", "send the terminal to this AF_UNIX socket", metavar="SOCKET")
PIDFD = Option("pidfd-socket", "send a pidfd to this AF_UNIX socket", metavar="SOCKET")
PRESERVE = Option("preserve-fds", "pass on N more descriptors (after LISTEN_FDS)", kind="int", metavar="N", default=0)
DETACH = Option("detach", "return when the process runs; do not wait for it", short="d")
NO_SUBREAPER = Option("no-subreaper", "do not reap the container's orphans")
NO_PIVOT = Option("no-pivot", "do not use pivot_root (for a root on a ramdisk)")
NO_KEYRING = Option("no-new-keyring", "keep the caller's session keyring")
FORMAT = Option("format", "format of the output", kind="choice", metavar="table|json", short="f", default="table")
TRACE = Option("trace", "write how long each step took to FILE (.json, .jsonl, .svg, .html)", metavar="FILE")
DEVICE = Option("device", "a CDI device, for the plugin cdi; repeatable", kind="list", metavar="VENDOR/CLASS=NAME")
PUBLISH = Option(
    "publish",
    "publish a port, for the plugins network and cni; repeatable",
    "[[IP:][PORT]:]PORT[/PROTOCOL]",
    "list",
    "p",
)
NETWORK = Option("network", "connect to this network, for the same plugins; repeatable", kind="list", metavar="NAME")
CREATE = (BUNDLE, CONFIG, PID_FILE, CONSOLE, PIDFD, NO_PIVOT, NO_KEYRING, PRESERVE, DEVICE, PUBLISH, NETWORK, TRACE)


def entry(
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


ENGINES: dict[str, Command] = {
    "create": entry(
        summary="create a container",
        usage="<container-id>",
        positionals=(1, 1),
        prefix="gosudacon create failed: ",
        options=(*CREATE, HELP),
        text="Carries out the plan of the bundle (see `gosudacon explain`) and leaves the container "
        "waiting for `gosudacon start`. The id is letters, digits and `_+.-`.",
        example="create --bundle /srv/web --pid-file /run/web.pid web",
    ),
    "start": entry(
        summary="start the process of a created container",
        usage="<container-id>",
        positionals=(1, 1),
        options=(TRACE, HELP),
        text="Lets the waiting container execute the process of its config.json.",
        example="start web",
    ),
    "run": entry(
        summary="create and start a container",
        usage="<container-id>",
        positionals=(1, 1),
        prefix="gosudacon run failed: ",
        options=(
            *CREATE,
            DETACH,
            Option("keep", "keep the container when its process has ended"),
            NO_SUBREAPER,
            HELP,
        ),
        text="In the foreground, passes signals and the terminal on, waits, deletes the container and "
        "returns its exit status (128 + N when signal N ended it).",
        example="run --bundle /srv/web web\nrun --detach -b /srv/web web",
    ),
    "exec": entry(
        summary="run another process in a container",
        usage="<container-id> [<command> [<argument> ...]]",
        positionals=(1, -1),
        stop=True,
        prefix="exec failed: ",
        failure=255,
        options=(
            Option("process", "the process as OCI JSON; other process options are ignored", metavar="FILE", short="p"),
            DETACH,
            PID_FILE,
            CONSOLE,
            PIDFD,
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
            PRESERVE,
            TRACE,
            HELP,
        ),
        text="Options end at the container id; what follows the id is the command.",
        example="exec web ps -ef\nexec --process process.json --detach web",
    ),
    "state": entry(
        summary="print the state of a container as JSON",
        usage="<container-id>",
        positionals=(1, 1),
        options=(HELP,),
        text="The status is created, running, paused or stopped.",
        example="state web",
    ),
    "list": entry(
        summary="list the containers",
        usage="",
        positionals=(0, 0),
        options=(FORMAT, Option("quiet", "print ids only", short="q"), HELP),
        text="Lists the containers below --root. Where the state of one cannot be read, its status is unknown.",
        example="list --format json",
    ),
    "ps": entry(
        summary="list the processes of a container",
        usage="<container-id> [<ps option> ...]",
        positionals=(1, -1),
        stop=True,
        options=(FORMAT, HELP),
        text="As a table, what ps(1) prints of the processes (default: ps -ef); as JSON, their pids.",
        example="ps web aux\nps --format json web",
    ),
    "kill": entry(
        summary="send a signal to a container's first process",
        usage="<container-id> [<signal>]",
        positionals=(1, 2),
        stop=True,
        options=(
            Option("all", "send the signal to all processes of the container", short="a"),
            HELP,
        ),
        text="The signal is a number or a name, with or without SIG; SIGTERM if none is given.",
        example="kill web HUP\nkill web 9",
    ),
    "delete": entry(
        summary="delete a stopped container and its resources",
        usage="<container-id>",
        positionals=(1, 1),
        options=(
            Option("force", "kill it first; no error if it does not exist", short="f"),
            Option("regex", "delete every container whose id matches this extended regular expression"),
            TRACE,
            HELP,
        ),
        text="Undoes what the plan did on the host: cgroups, mounts, network, the state directory. A "
        "container that was created and not started is deleted without --force. What cannot be undone keeps "
        "the container, and the exit status is 1: try again when the cause is gone. With --regex, <container-id> is "
        "an expression of regex(7) that may match anywhere in an id.",
        example="delete --force web\ndelete --force --regex '^web-[0-9]+$'",
    ),
}


def find(name: str) -> Command | None:
    """The command of this name; None if it does not exist."""
    return ENGINES.get(name) or every().get(name)


def every() -> dict[str, Command]:
    """All commands, in the order in which help lists them."""
    from gosudacon.cli import more_options

    return {**ENGINES, **more_options.COMMANDS}
