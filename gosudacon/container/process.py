"""The process that ``exec`` runs: read from a file, or the container's own with the caller's changes."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.pipeline.spec import Options
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.schema.types import Capabilities, Process, User

_MOST_ID = (1 << 32) - 2  # (uid_t)-1 means "unchanged" to the kernel
_OF_THE_CONTAINER = (
    "capabilities",
    "rlimits",
    "apparmorProfile",
    "selinuxLabel",
    "oomScoreAdj",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
)


class ExecOptions(Options):
    """What the caller of ``exec`` chose; what is None was not given, and stays as it is in the container."""

    process: str = ""  # path of the file that it is in; the others below then count for nothing
    given: Process | None = None  # what is in such a file, without nulls, for a caller that has read it
    tty: bool = False
    cwd: str | None = None
    env: Sequence[str] = ()
    user: str | None = None
    additional_gids: Sequence[str] = ()
    cap: Sequence[str] = ()
    no_new_privs: bool = False
    process_label: str | None = None
    apparmor: str | None = None
    cgroup: Sequence[str] = ()
    ignore_paused: bool = False


def build(own: Process, args: list[str], options: ExecOptions) -> Process:
    """The process for ``options``, given the container's ``own``.

    Raises `ConfigError` for a file that holds no process, `Error` for options that make none.
    """
    if options.given is not None:
        verdict.normal(options.given, "process")
        process = inherit(options.given, own)
    elif options.process:
        process = inherit(load(options.process), own)
    else:
        if not args:
            raise Error("exec args cannot be empty")
        process = change(own, args, options)
    if options.tty:
        process["terminal"] = True
    if not process.get("terminal"):
        process.pop("terminal", None)  # absent and false are the same, and has() looks for absent
    return process


def load(path: str) -> Process:
    """The process in a file. Raises `Error` if it cannot be read, `ConfigError` if it is not a JSON object."""
    try:
        text = posix.read_file(path, jsonio.SIZE_LIMIT + 1)
    except OSError as error:
        message = error.strerror or posix.strerror(error.errno or 0)
        raise Error(f"open {path}: {message[:1].lower()}{message[1:]}", call="open", errno=error.errno or 0) from None
    if len(text) > jsonio.SIZE_LIMIT:
        raise ConfigError(f"{path}: larger than 16 MiB")
    try:
        process = jsonio.loads(text)
    except jsonio.JSONError as error:
        refusal = ConfigError(f"invalid process file {path}: {error}")
        refusal.problems = [{"line": error.line, "column": error.column, "message": error.message}]
        raise refusal from error
    if b"null" in text:
        process = jsonio.without_nulls(process)
    if not isinstance(process, dict):
        raise ConfigError(f"invalid process file {path}: not a JSON object")
    verdict.normal(process, "process")
    return process  # type: ignore[return-value]  # for the validator to say


def inherit(process: Process, own: Process) -> Process:
    """A process from a file, with what the container says wherever the file says nothing.

    ``noNewPrivileges`` is the file's alone: callers written in Go leave false out.
    """
    inherited: Process = {key: own[key] for key in _OF_THE_CONTAINER if key in own}  # type: ignore
    result: Process = {**inherited, **process}
    if not process.get("rlimits") and own.get("rlimits"):
        result["rlimits"] = own["rlimits"]
    return _with_umask(result, own)


def change(own: Process, args: list[str], options: ExecOptions) -> Process:
    """The container's process with other arguments, and with what the options change."""
    process: Process = {**own, "args": args}
    process.pop("terminal", None)
    user: User = {**(own.get("user") or {})}
    process["user"] = user
    if options.user:
        uid, colon, gid = options.user.partition(":")
        user["uid"] = _id(uid, options.user)
        if colon:
            user["gid"] = _id(gid, options.user)
    if options.additional_gids:
        more = [_id(gid, gid) for gid in options.additional_gids]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *more]
    if options.env:
        process["env"] = [*(own.get("env") or ()), *options.env]
    if options.cwd:
        process["cwd"] = options.cwd
    if options.process_label:
        process["selinuxLabel"] = options.process_label
    if options.apparmor:
        process["apparmorProfile"] = options.apparmor
    if options.no_new_privs:
        process["noNewPrivileges"] = True
    if options.cap and own.get("capabilities") is not None:
        process["capabilities"] = _with_capabilities(own["capabilities"], options.cap)
    return process


def _with_umask(process: Process, own: Process) -> Process:
    user = process.setdefault("user", {"uid": 0, "gid": 0})
    umask = (own.get("user") or {}).get("umask")
    if umask is not None and isinstance(user, dict) and user.get("umask") is None:
        process["user"] = {**user, "umask": umask}
    return process


def _with_capabilities(own: Capabilities, more: Sequence[str]) -> Capabilities:
    """More of them in the bounding, effective and permitted sets, and in the ambient if there is an inheritable one.

    The inheritable set stays what it is: no process may gain from files' inheritable capabilities (CVE-2022-29162).
    """
    sets: Capabilities = {
        **own,
        "bounding": _joined(own.get("bounding"), more),
        "effective": _joined(own.get("effective"), more),
        "permitted": _joined(own.get("permitted"), more),
    }
    if own.get("inheritable"):
        sets["ambient"] = _joined(own.get("ambient"), more)
    return sets


def _joined(names: list[str] | None, more: Sequence[str]) -> list[str]:
    return [*(names or ()), *(name for name in more if name not in (names or ()))]


def _id(text: str, whole: str) -> int:
    """A user or group id in plain decimal digits; not what int() takes besides (``+1``, `` 1``, ``1_0``)."""
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MOST_ID:
        return int(text)
    raise Error(f"invalid user or group id in {whole!r}", hint="ids are numbers from 0 to 4294967294")


def sub_cgroups(arguments: Sequence[str]) -> dict[str, str]:
    """``--cgroup [CTRL[,CTRL]:]PATH``: controller -> path below the container's cgroup; ``*`` for all.

    Raises `Error`.
    """
    below: dict[str, str] = {}
    for argument in arguments:
        controllers, colon, path = argument.partition(":")
        if not colon:
            if len(arguments) != 1:
                raise Error(f"invalid --cgroup argument: {argument} (missing <controller>: prefix)")
            return {"*": argument}
        for controller in controllers.split(","):
            if not controller:
                raise Error(f"invalid --cgroup argument: {argument} (empty <controller> prefix)")
            if controller in below:
                raise Error(f"invalid --cgroup argument(s): controller {controller} specified multiple times")
            below[controller] = path
    return below
