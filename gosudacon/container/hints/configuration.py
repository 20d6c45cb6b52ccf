"""What is wrong with config.json itself."""

from __future__ import annotations

from gosudacon.container.hints import facts, spelling
from gosudacon.container.hints.kinds import Failure, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.base.errors import ProblemRow

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time")
# What a word of the message says is missing -> the type of the namespace
_PRIVATE = {"UTS": "uts", "MNT": "mount", "mount namespace": "mount", "time namespace": "time", "id mappings": "user"}


def _first(failure: Failure) -> ProblemRow:
    return failure.error.problems[0] if failure.error.problems else {}


def _misspelt(failure: Failure) -> str:
    problem = _first(failure)
    found, allowed = str(problem.get("found") or ""), str(problem.get("allowed") or "")
    if not (found.startswith('"') and "one of " in allowed):
        return ""
    return spelling.did_you_mean(found.strip('"'), allowed.partition("one of ")[2].split(", "))


def _capability(failure: Failure) -> str:
    if not failure.message.startswith("unknown capability "):
        return ""
    from gosudacon.linux import capability

    word = failure.message.split()[2]
    known = "names begin with CAP_, in capitals (capabilities(7))"
    return spelling.did_you_mean(word, capability.NUMBERS) or known


def _rlimit(failure: Failure) -> str:
    if not failure.message.startswith("unknown rlimit "):
        return ""
    from gosudacon.linux import sched

    return spelling.did_you_mean(failure.message.split()[2], sched.RLIMITS) or f"one of {', '.join(sched.RLIMITS)}"


def _policy(failure: Failure) -> str:
    from gosudacon.linux import sched

    for beginning, known in (
        ("unknown scheduling policy ", sched.POLICIES),
        ("unknown scheduling flag ", sched.SCHED_FLAGS),
        ("invalid memory policy: unknown memory policy flag ", sched.MEMORY_FLAGS),
        ("invalid memory policy: unknown memory policy ", sched.MEMORY_MODES),
    ):
        if failure.message.startswith(beginning):
            word = failure.message.removeprefix(beginning).split(" ")[0]
            return spelling.did_you_mean(word, known) or f"one of {', '.join(known)}"
    return ""


def _private(failure: Failure) -> str:
    message, where = failure.message, failure.where
    if " is not in a separate kernel namespace" in message or " of the host" in message:
        return ""
    for words, kind in _PRIVATE.items():
        if words in message and ("without a private" in message or " need" in message):
            entry = f'{{"type": "{kind}"}}'
            return f"add {entry} to linux.namespaces, or remove {where.partition('[')[0] or 'what needs it'}"
    return ""


def _mappings(failure: Failure) -> str:
    if "needs uidMappings and gidMappings" not in failure.message:
        return ""
    entry = '[{"containerID": 0, "hostID": 100000, "size": 65536}]'
    return f'add "uidMappings": {entry} to linux, and gidMappings alike; or remove the user namespace'


def _unmapped(failure: Failure) -> str:
    if " is not in linux." not in failure.message:
        return ""
    key = failure.message.rpartition("linux.")[2]
    ranges = failure.value(f"linux.{key}")
    ends = [
        f"{each['containerID']} to {each['containerID'] + each['size'] - 1}"
        for each in (ranges if isinstance(ranges, list) else ())
    ]
    return f"linux.{key} maps {', '.join(ends)}: choose one of these, or map more"


def _twice(failure: Failure) -> str:
    if (
        "that no entry before it has" not in str(_first(failure).get("allowed"))
        and "listed twice" not in failure.message
    ):
        return ""
    return f"remove {failure.where.partition(']')[0]}], or the entry before it that says the same"


def _json(failure: Failure) -> str:
    if not failure.message.startswith("invalid config.json: ") or failure.where:
        return ""
    message = str(_first(failure).get("message") or "")
    for words, hint in (
        ("trailing comma", "JSON allows no comma before } or ]"),  # Python 3.13 and later
        ("double quotes", "JSON needs names in double quotes, and no comma before } or ]"),
        (
            "delimiter",
            "a comma is missing, or JSON does not allow what is there: comments, hexadecimal or octal numbers",
        ),
        ("byte order mark", "save the file as UTF-8 without a byte order mark"),
        (
            "expecting a value",
            "JSON needs a value here: no comma before ] or }, and true, false, null in lower case",
        ),
    ):
        if words in message:
            return hint
    return ""


def _args(failure: Failure) -> str:
    if failure.where != "process.args" or not ("args must not be empty" in failure.message or failure.error.problems):
        return ""
    return 'name the program and its arguments, such as "args": ["sh", "-c", "echo hello"]'


def _cwd(failure: Failure) -> str:
    if failure.where != "process.cwd" or not failure.error.problems:
        return ""
    return 'process.cwd is an absolute path in the container, such as "/"'


def _root_missing(failure: Failure) -> str:
    if not failure.message.startswith("invalid rootfs") or failure.spec is None:
        return ""
    path = failure.spec.rootfs
    if "symbolic link" in failure.message:
        return "write the path that the link leads to as root.path"
    if "not a directory" in failure.message:
        return f"root.path must be a directory with the image's files: {path} is not a directory"
    if path == "/":
        return "the host's own root cannot be the container's: bind what is needed of it (see `gosudacon demo`)"
    if not facts.exists(path):
        return f"unpack or mount the image at {path}, or write another root.path (relative to the bundle)"
    return ""


def _absent(failure: Failure) -> str:
    if failure.message not in ("root must be specified", "process property must not be empty"):
        return ""
    return "`gosudacon spec` writes a config.json that has all that is needed"


KINDS = (
    Kind("json", "config.json is not JSON: a comma too many or too few, a comment, single quotes", _json),
    Kind("misspelt-word", "a word that is not among those allowed (`SCMP_ACT_ALLO`)", _misspelt),
    Kind("misspelt-capability", "a capability that does not exist (`CAP_NET_ADMN`)", _capability),
    Kind("misspelt-rlimit", "a resource limit that does not exist", _rlimit),
    Kind("misspelt-policy", "a scheduling or memory policy that does not exist", _policy),
    Kind("namespace-missing", "what needs a namespace of its own, without it (hostname without uts)", _private),
    Kind("mappings-missing", "a new user namespace without mappings", _mappings),
    Kind("id-unmapped", "a user or group that the mappings leave out", _unmapped),
    Kind("listed-twice", "an entry that is there twice", _twice),
    Kind("args-empty", "no program", _args),
    Kind("cwd-relative", "a working directory that is not absolute", _cwd),
    Kind("root-missing", "a root filesystem that is not there, or no directory", _root_missing),
    Kind("config-incomplete", "config.json without process or root", _absent),
)
