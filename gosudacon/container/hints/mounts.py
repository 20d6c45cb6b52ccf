"""Mounts, devices and kernel parameters."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ELOOP, ENODEV, ENOENT, ENOSPC, ENOTBLK, ENOTDIR, EOPNOTSUPP, EPERM, EROFS

from gosudacon.base import posix
from gosudacon.container.hints import facts, image, spelling
from gosudacon.container.hints.kinds import Failure, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.spec import Spec

# The beginnings of sysctls that are there once a module is loaded
_MODULES = {"net.bridge.": "br_netfilter", "net.netfilter.": "nf_conntrack", "net.nf_conntrack": "nf_conntrack"}
_BINDS = {"bind", "rbind"}


def _at(failure: Failure) -> str:
    return failure.where.partition("]")[0] + "]"


def _is_bind(entry: dict[str, object]) -> bool:
    options = entry.get("options")
    return entry.get("type") == "bind" or bool(isinstance(options, list) and _BINDS & set(options))


def source_of(failure: Failure, entry: dict[str, object]) -> str:
    """The path on the host that a bind mount shows; empty for other mounts."""
    source = str(entry.get("source") or "")
    if not source or not _is_bind(entry) or failure.spec is None:
        return ""
    return source if source.startswith("/") else posix.path.join(failure.spec.bundle, source)


def missing_source(source: str, written: str = "") -> str:
    """Why nothing is at the source of a bind mount, and what to do; empty if there is something."""
    if not source or posix.path.exists(source):
        return ""
    if facts.exists(source):
        return f"{source} is a link to {posix.readlink(source)}, which is not there"
    relative = "" if written.startswith("/") else f" ({written} is relative to the bundle)"
    return f"make it on the host: nothing is at {source}{relative}"


def _source(failure: Failure) -> str:
    entry = failure.mount()
    text = missing_source(source_of(failure, entry), str(entry.get("source") or ""))
    if failure.errno != ENOENT or not text:
        return ""
    failure.error.where = f"{_at(failure)}.source"
    return f"{failure.error.where}: {text}"


def _source_denied(failure: Failure) -> str:
    source = source_of(failure, failure.mount())
    if (
        failure.errno not in (EACCES, EPERM)
        or not source
        or failure.call not in ("open_tree", "openat", "openat2", "open")
    ):
        return ""
    return f"user {posix.geteuid()} cannot reach {source}: look at the modes of the directories that lead there"


def _kinds_differ(failure: Failure) -> str:
    entry = failure.mount()
    source = source_of(failure, entry)
    if failure.errno != ENOTDIR or not entry:
        return ""
    destination = str(entry.get("destination"))
    what, there = shapes(failure.spec, source, destination) if failure.spec is not None else ("", "")
    if what != there:
        return f"{source} is a {what}, and {destination} in the image a {there}: mount a {what} onto a {what}"
    return f"the image has a file where {destination} needs a directory: choose another destination"


def shapes(spec: Spec, source: str, destination: str) -> tuple[str, str]:
    """What source and destination of a bind mount are, ``directory`` or ``file``; empty if one of them is not there."""
    there = image.kind_of(spec, destination)
    if not there or not source or not posix.path.exists(source):
        return "", ""
    return "directory" if posix.path.isdir(source) else "file", there


def _filesystem(failure: Failure) -> str:
    entry = failure.mount()
    fstype = str(entry.get("type") or "")
    if failure.errno != ENODEV or not fstype:
        return ""
    if fstype == "none":
        options = entry.get("options")
        return _misspelt(options if isinstance(options, list) else []) or 'add "bind" to its options, or name a type'
    return lacks_filesystem(fstype) or f"modprobe {fstype}"


def lacks_filesystem(fstype: str) -> str:
    """What to do about a type of filesystem that this kernel does not know now; empty if it does."""
    known = facts.filesystems()
    if not known or fstype in known:
        return ""
    guess = spelling.did_you_mean(fstype, known)
    return (
        guess or f"this kernel has no filesystem {fstype} (/proc/filesystems): modprobe {fstype}, or remove the mount"
    )


def _option(failure: Failure) -> str:
    _, words, rest = failure.message.partition("Unknown parameter '")
    word = rest.partition("'")[0]
    if not words:
        _, words, word = failure.message.partition("filesystem-specific options applied: ")
    if not words:
        return ""
    failure.error.where = f"{_at(failure)}.options"
    return _misspelt(word.split(",")) or f"{failure.mount().get('type')} has no option {word}: remove it"


def _misspelt(words: list[str]) -> str:
    """What the first unknown one of these options was probably meant to be."""
    from gosudacon.container import features

    known = features.features().get("mountOptions") or []
    guesses = (spelling.did_you_mean(word, known) for word in words if word not in known)
    return next(filter(None, guesses), "")


def _untyped(failure: Failure) -> str:
    if "a mount needs a type, or the option bind" not in failure.message:
        return ""
    return f'{_at(failure)}: add "type": "tmpfs", say, or "options": ["rbind"] for a directory of the host'


def _value(failure: Failure) -> str:
    _, words, rest = failure.message.partition("Bad value for '")
    if not words:
        return ""
    name = rest.partition("'")[0]
    failure.error.where = f"{_at(failure)}.options"
    forms = {"size": "bytes, with k, m or g, or a percentage such as 50%", "mode": "octal digits such as 1777"}
    forms.update(uid="a number, not a name", gid="a number, not a name", nr_inodes="a number, with k, m or g")
    return f"{name} takes {forms.get(name, 'another kind of value')}"


def _overlay(failure: Failure) -> str:
    entry = failure.mount()
    options = entry.get("options")
    if entry.get("type") != "overlay" or not isinstance(options, list):
        return ""
    for option in options:
        name, _, value = str(option).partition("=")
        if name in ("lowerdir", "upperdir", "workdir"):
            for path in value.split(":"):
                if path and not posix.path.isdir(path):
                    return f"{_at(failure)}.options: {name} {path} is not a directory on the host: make it"
    if failure.errno == EINVAL:
        return (
            "upperdir and workdir must be on one filesystem, and not on an overlay; the kernel's log says more (dmesg)"
        )
    return ""


def _read_only(failure: Failure) -> str:
    entry = failure.mount()
    if failure.errno != EROFS or not entry:
        return ""
    text = f"{entry.get('destination')} is not in the image, and cannot be made there, where all is read-only"
    return f"{text}: make it when the image is built, or mount a tmpfs above it first"


def _loop(failure: Failure) -> str:
    if failure.errno != ELOOP or not failure.mount():
        return ""
    return "links in the image lead in a circle, or through /proc: look at each name of the destination"


def _many(failure: Failure) -> str:
    if failure.errno != ENOSPC or failure.stage != "rootfs-mount":
        return ""
    most = facts.text("/proc/sys/fs/mount-max")
    return f"a mount namespace may have {most} mounts (sysctl fs.mount-max), and each copy counts"


def _busy(failure: Failure) -> str:
    if failure.errno != EBUSY or not failure.mount():
        return ""
    return "the source is mounted elsewhere with other options, or is in use: look at /proc/self/mountinfo"


def _block(failure: Failure) -> str:
    if failure.errno != ENOTBLK or not failure.mount():
        return ""
    return f"{failure.mount().get('source')} is not a block device: losetup makes one from a file"


def _idmap(failure: Failure) -> str:
    entry = failure.mount()
    options = entry.get("options")
    mapped = "uidMappings" in entry or bool({"idmap", "ridmap"} & set(options if isinstance(options, list) else ()))
    if failure.call != "mount_setattr" or failure.errno not in (EINVAL, EOPNOTSUPP, EPERM) or not mapped:
        return ""
    return "the source's filesystem does not support id-mapped mounts on this kernel: use another, or chown its files"


def _privileged(failure: Failure) -> str:
    entry = failure.mount()
    if failure.errno != EPERM or not entry or failure.spec is None or "user" not in failure.spec.namespaces():
        return ""
    if _is_bind(entry):
        return "in a user namespace a mount keeps what the host locked: nosuid, nodev, noexec, ro; ask for these, too"
    return f"a user namespace may not mount {entry.get('type')}: mount it on the host, and bind it"


def _fuse(failure: Failure) -> str:
    if failure.mount().get("type") not in ("fuse", "nfs", "nfs4", "cifs") or failure.errno not in (
        EINVAL,
        ENODEV,
        ENOENT,
    ):
        return ""
    return "a filesystem with a helper of its own (mount(8)): mount it on the host, and bind it"


def _sysctl_unknown(failure: Failure) -> str:
    if not failure.where.startswith("linux.sysctl") or failure.errno != ENOENT:
        return ""
    return lacks_sysctl(failure.where[len("linux.sysctl") :].strip("[].")) or "this kernel does not have it: remove it"


def lacks_sysctl(name: str) -> str:
    """What to do about a kernel parameter that this host does not have; empty if it has it."""
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    if posix.path.exists(path):
        return ""
    for beginning, module in _MODULES.items():
        if name.startswith(beginning):
            return f"{name} comes with a module: modprobe {module}"
    directory, last = posix.path.split(path)
    guess = spelling.closest(last, posix.listdir(directory)) if posix.path.isdir(directory) else ""
    if guess:
        return f"did you mean {name[: len(name) - len(last)]}{guess}?"
    return f"this kernel has no {name} (sysctl -a): remove it"


def _sysctl_value(failure: Failure) -> str:
    if not failure.where.startswith("linux.sysctl") or failure.errno not in (EINVAL, 34):
        return ""
    name = failure.where[len("linux.sysctl") :].strip("[].")
    now = " ".join(facts.text(f"/proc/sys/{name.replace('.', '/')}").split())
    return (
        f"the kernel does not take this value; the host's is {now!r}" if now else "the kernel does not take this value"
    )


def _sysctl_host(failure: Failure) -> str:
    if "is not in a separate kernel namespace" not in failure.message and " of the host" not in failure.message:
        return ""
    if not failure.where.startswith("linux.sysctl"):
        return ""
    name = failure.where[len("linux.sysctl") :].strip("[].")
    if name.startswith("net."):
        return 'it belongs to the network namespace: add {"type": "network"} to linux.namespaces, or set it on the host'
    for beginning, kind in (("fs.mqueue.", "ipc"), ("kernel.", "ipc"), ("kernel.domainname", "uts")):
        names = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.", "kernel.domainname")
        if name.startswith(beginning) and name.startswith(names):
            return f'it belongs to a namespace: add {{"type": "{kind}"}} to linux.namespaces, or set it on the host'
    return "it is one for the whole host: set it there (sysctl -w), and remove it here"


def _in_proc(failure: Failure) -> str:
    if "cannot be mounted because it is inside /proc" not in failure.message:
        return ""
    return "mount it elsewhere; to hide a file of /proc, use linux.maskedPaths or linux.readonlyPaths"


def _device(failure: Failure) -> str:
    if not failure.where.startswith("linux.devices") or failure.errno not in (EPERM, ENOENT):
        return ""
    return (
        "in a user namespace a device is bound from the host: it must be there (mknod), with the numbers in config.json"
    )


KINDS = (
    Kind("source-missing", "a bind mount whose source is not on the host", _source),
    Kind("filesystem-helper", "a filesystem that mount(8) mounts with a helper", _fuse),
    Kind("filesystem-unknown", "a filesystem that this kernel does not have", _filesystem),
    Kind("option-unknown", "an option that neither we nor the filesystem know", _option),
    Kind("option-value", "an option with a value that the filesystem does not take", _value),
    Kind("mount-without-type", "a mount with neither a type nor the option bind", _untyped),
    Kind("overlay", "an overlay whose directories are missing, or do not fit", _overlay),
    Kind("idmap-unsupported", "an id-mapped mount of a filesystem that cannot be", _idmap),
    Kind("directory-onto-file", "a directory mounted onto a file, or the other way round", _kinds_differ),
    Kind("destination-read-only", "a destination that is missing in a read-only image", _read_only),
    Kind("source-denied", "a source that the caller cannot reach", _source_denied),
    Kind("mount-not-permitted", "a mount that a user namespace may not make", _privileged),
    Kind("links-in-a-circle", "too many levels of symbolic links", _loop),
    Kind("too-many-mounts", "more mounts than the kernel allows", _many),
    Kind("mount-busy", "a filesystem that is in use", _busy),
    Kind("not-a-block-device", "a file where a block device is needed", _block),
    Kind("destination-in-proc", "a mount below /proc", _in_proc),
    Kind("device-missing", "a device that cannot be made in a user namespace", _device),
    Kind("sysctl-of-the-host", "a kernel parameter that no namespace of the container has", _sysctl_host),
    Kind("sysctl-unknown", "a kernel parameter that this host does not have", _sysctl_unknown),
    Kind("sysctl-value", "a kernel parameter with a value that the kernel does not take", _sysctl_value),
)
