"""The process that ``exec`` runs: read from a file, or the container's own with what the caller wants changed."""

from __future__ import annotations

from gosudacon.linux import jsonio
from gosudacon.linux import system as os
from gosudacon.linux.errors import ConfigError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT = 16 << 20
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
_CAPABILITY_SETS = ("bounding", "effective", "permitted")


def build(own: dict[str, Any], args: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """The process for ``options`` (names as in Python), given the container's ``own``.

    Raises `ConfigError` for a file that holds no process, `Error` for options that make none.
    """
    if options.get("process"):
        process = inherit(load(options["process"]), own)
    else:
        if not args:
            raise Error("exec args cannot be empty")
        process = change(own, args, options)
    if options.get("tty"):
        process["terminal"] = True
    if not process.get("terminal"):
        process.pop("terminal", None)  # absent and false are the same, and has() looks for absent
    return process


def load(path: str) -> dict[str, Any]:
    """The process in a file. Raises `Error` if it cannot be read, `ConfigError` if it is no JSON object."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            text = file.read(_LIMIT + 1) or b""
    except OSError as error:
        message = os.strerror(error.errno or 0)
        raise Error(f"open {path}: {message[:1].lower()}{message[1:]}", call="open", errno=error.errno or 0) from None
    if len(text) > _LIMIT:
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
    return process


def inherit(process: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A process from a file, with what the container says wherever the file says nothing.

    ``noNewPrivileges`` is the file's alone: callers written in Go leave false out.
    """
    result = {key: own[key] for key in _OF_THE_CONTAINER if key in own}
    result.update(process)
    if not process.get("rlimits") and own.get("rlimits"):
        result["rlimits"] = own["rlimits"]
    return _with_umask(result, own)


def change(own: dict[str, Any], args: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """The container's process with other arguments, and with what the options change."""
    process = {**own, "args": args}
    process.pop("terminal", None)
    user = process["user"] = dict(own.get("user") or {})
    if "user" in options:
        uid, colon, gid = options["user"].partition(":")
        user["uid"] = _id(uid, options["user"])
        if colon:
            user["gid"] = _id(gid, options["user"])
    if "additional_gids" in options:
        more = [_id(gid, gid) for gid in options["additional_gids"]]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *more]
    if "env" in options:
        process["env"] = [*(own.get("env") or ()), *options["env"]]
    for option, key in (("cwd", "cwd"), ("process_label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
        if option in options:
            process[key] = options[option]
    if options.get("no_new_privs"):
        process["noNewPrivileges"] = True
    if "cap" in options and own.get("capabilities") is not None:
        process["capabilities"] = _with_capabilities(own["capabilities"], options["cap"])
    return process


def _with_umask(process: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    user = process.setdefault("user", {"uid": 0, "gid": 0})
    umask = (own.get("user") or {}).get("umask")
    if umask is not None and isinstance(user, dict) and user.get("umask") is None:
        process["user"] = {**user, "umask": umask}
    return process


def _with_capabilities(own: dict[str, list[str]], more: list[str]) -> dict[str, list[str]]:
    """More of them in the bounding, effective and permitted sets, and in the ambient if there is an inheritable one.

    The inheritable set stays what it is: nobody is to gain from files' inheritable capabilities (CVE-2022-29162).
    """
    sets = dict(own)
    for kind in _CAPABILITY_SETS + (("ambient",) if own.get("inheritable") else ()):
        sets[kind] = [*(own.get(kind) or ()), *(name for name in more if name not in (own.get(kind) or ()))]
    return sets


def _id(text: str, whole: str) -> int:
    """A user or group id in plain decimal digits; not what int() takes besides (``+1``, `` 1``, ``1_0``)."""
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MOST_ID:
        return int(text)
    raise Error(f"invalid user or group id in {whole!r}", hint="ids are numbers from 0 to 4294967294")


def sub_cgroups(arguments: list[str]) -> dict[str, str]:
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
