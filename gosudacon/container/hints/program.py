"""Why a program cannot be executed."""

from __future__ import annotations

from errno import E2BIG, EACCES, EPERM, ETXTBSY

from gosudacon.base import posix
from gosudacon.container.hints import spelling
from gosudacon.container.hints.image import Dangling, Found, Image, Unseen
from gosudacon.container.hints.kinds import Failure, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.spec import Spec

_USUAL = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SHELLS = ("sh", "bash", "ash", "dash", "/bin/sh", "/bin/bash", "/bin/ash", "/usr/bin/sh", "/usr/bin/bash")
# e_machine of elf(5) -> name, and the names that uname(2) gives to machines that run it
_MACHINES = {
    3: ("x86", ("i386", "i486", "i586", "i686", "x86_64")),
    8: ("MIPS", ("mips", "mips64")),
    20: ("PowerPC", ("ppc", "ppc64")),
    21: ("ppc64", ("ppc64", "ppc64le")),
    22: ("s390x", ("s390", "s390x")),
    40: ("arm", ("armv6l", "armv7l", "armv8l", "aarch64")),
    62: ("x86-64", ("x86_64",)),
    183: ("arm64", ("aarch64",)),
    243: ("riscv", ("riscv32", "riscv64")),
    258: ("loongarch", ("loongarch64",)),
}
_FOREIGN = {
    b"MZ": "a program for Windows",
    b"\xcf\xfa\xed\xfe": "a program for macOS",
    b"\xca\xfe\xba\xbe": "a program for macOS, or a Java class",
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive",
}


class Verdict:
    """What keeps a program from being executed: the name of a kind, and what to say about it."""

    def __init__(self, kind: str = "", text: str = "") -> None:
        self.kind, self.text = kind, text


def examine(spec: Spec, noexec: bool = True) -> Verdict:
    """Look for the program of ``spec`` in its image; an empty verdict if nothing is wrong, or it cannot be seen.

    ``noexec``: whether it matters that the filesystem is mounted so on the host.
    """
    try:
        image = Image(spec)
    except OSError:
        return Verdict()
    try:
        return _examine(spec, image, noexec)
    except Dangling as dangling:
        return Verdict("program-link", f"{dangling.link} is a link to {dangling.text}, which the image does not have")
    except (Unseen, OSError, ValueError):
        return Verdict()
    finally:
        image.close()


def _examine(spec: Spec, image: Image, noexec: bool) -> Verdict:
    process = spec.process
    name = (process.get("args") or [""])[0]
    if "/" in name:
        path = name if name.startswith("/") else posix.path.join(process.get("cwd") or "/", name)
        found = image.look(path)
        return _absent(spec, image, path) if found is None else _runnable(spec, image, found, noexec)
    directories = _path(process.get("env") or [])
    passed: Verdict | None = None
    for directory in directories or ():
        found = _quiet(image, posix.path.join(process.get("cwd") or "/", directory, name))
        if found is None or found.is_directory():
            continue
        verdict = _runnable(spec, image, found, noexec)
        if verdict.kind not in ("program-mode", "program-parent"):
            return verdict
        passed = passed or verdict
    return passed or _not_on_path(spec, image, name, directories)


def _path(environment: list[str]) -> list[str] | None:
    for entry in environment:
        if entry.startswith("PATH="):
            return entry[5:].split(":") if entry[5:] else None
    return None


def _quiet(image: Image, path: str) -> Found | None:
    try:
        return image.look(path)
    except (Dangling, Unseen, OSError):
        return None


def _not_on_path(spec: Spec, image: Image, name: str, directories: list[str] | None) -> Verdict:
    root = image.look("/")
    if root is not None and not root.names() and not spec.config.get("mounts"):
        return Verdict("image-empty", f"the root filesystem {spec.rootfs} is empty")
    if not name:
        return Verdict("program-unnamed", "process.args[0] is an empty string: name the program there")
    first = name.split(None, 1)
    if len(first) > 1 and any(_quiet(image, f"{where}/{first[0]}") for where in [*(directories or ()), *_USUAL]):
        words = ", ".join(f'"{word}"' for word in name.split())
        return Verdict("program-words", f"process.args[0] is one name, spaces included: did you mean [{words}]?")
    elsewhere = [f"{where}/{name}" for where in _USUAL if _quiet(image, f"{where}/{name}")]
    if directories is None:
        text = f'process.env has no PATH: add "PATH={":".join(_USUAL)}"'
        return Verdict("no-path", f"{text}, or write {elsewhere[0]}" if elsewhere else text)
    if elsewhere:
        return Verdict("program-elsewhere", f"the image has {elsewhere[0]}, but PATH is {':'.join(directories)}")
    if name in _SHELLS:
        return Verdict("no-shell", "the image has no shell: write the program and its arguments as process.args")
    known: set[str] = set()
    for where in directories:
        found = _quiet(image, where)
        if found is not None and found.is_directory():
            known.update(found.names())
    guess = spelling.closest(name, known)
    if guess:
        return Verdict("program-misspelt", f"did you mean {guess}?")
    return Verdict("program-missing", f"the image has no {name} in {':'.join(directories)}")


def _absent(spec: Spec, image: Image, path: str) -> Verdict:
    root = image.look("/")
    if root is not None and not root.names():
        return Verdict("image-empty", f"the root filesystem {spec.rootfs} is empty")
    if path in _SHELLS:
        return Verdict("no-shell", "the image has no shell: write the program and its arguments as process.args")
    first = path.split(None, 1)
    if len(first) > 1 and _quiet(image, first[0]):
        words = ", ".join(f'"{word}"' for word in path.split())
        return Verdict("program-words", f"process.args[0] is one name, spaces included: did you mean [{words}]?")
    directory, name = posix.path.split(path)
    above = _quiet(image, directory)
    if above is None:
        return Verdict("program-missing", f"the image has no directory {directory}")
    guess = spelling.closest(name, above.names()) if above.is_directory() else ""
    if guess:
        return Verdict("program-misspelt", f"did you mean {posix.path.join(directory, guess)}?")
    return Verdict("program-missing", f"the image has no {path}")


def _runnable(spec: Spec, image: Image, found: Found, noexec: bool) -> Verdict:
    if found.is_directory():
        return Verdict("program-directory", f"{found.path} is a directory: name a program in it")
    if not found.is_file():
        return Verdict("program-special", f"{found.path} is not a regular file")
    user = spec.process.get("user") or {}
    ids = (_outside(spec, "uidMappings", user.get("uid") or 0), _outside(spec, "gidMappings", user.get("gid") or 0))
    groups = [_outside(spec, "gidMappings", gid) for gid in user.get("additionalGids") or ()]
    for path, mode, uid, gid in found.parents:
        if ids[0] and not _may_execute(mode, uid, gid, ids, groups):
            text = f"{path} is mode {mode & 0o7777:04o} and belongs to {uid}: user {user.get('uid')} cannot enter it"
            return Verdict("program-parent", text)
    if not found.mode & 0o111:
        return Verdict("program-mode", f"{found.path} is mode {found.mode & 0o7777:04o}: chmod +x it in the image")
    if ids[0] and not _may_execute(found.mode, found.uid, found.gid, ids, groups):
        text = f"{found.path} is mode {found.mode & 0o7777:04o} and belongs to {found.uid}:{found.gid}: "
        return Verdict("program-owner", f"{text}user {user.get('uid') or 0} may not execute it")
    if noexec and found.noexec:
        return Verdict("noexec", f"{found.path} is on a filesystem mounted noexec: mount it without")
    return _contents(image, found)


def _may_execute(mode: int, uid: int, gid: int, ids: tuple[int, int], groups: list[int]) -> bool:
    if uid == ids[0]:
        return bool(mode & 0o100)
    if gid in (ids[1], *groups):
        return bool(mode & 0o010)
    return bool(mode & 0o001)


def _outside(spec: Spec, mappings: str, number: int) -> int:
    """The host's number of an id in the container."""
    ranges: object = spec.linux.get(mappings)
    for each in ranges if isinstance(ranges, list) else ():
        if 0 <= number - each["containerID"] < each["size"]:
            return int(each["hostID"] + number - each["containerID"])
    return number


def _contents(image: Image, found: Found) -> Verdict:
    head = found.head()
    if not head:
        return Verdict("program-empty", f"{found.path} is an empty file: was the image built or copied whole?")
    if head.startswith(b"#!"):
        return _script(image, found.path, head)
    if head.startswith(b"\x7fELF"):
        return _elf(image, found.path, head)
    if head.startswith(b"\xef\xbb\xbf#!"):
        return Verdict("script-bom", f"{found.path} begins with a byte order mark: save it as UTF-8 without one")
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            return Verdict("program-foreign", f"{found.path} is {what}")
    if b"\0" not in head:
        return Verdict("script-first-line", f"{found.path} is text that does not begin with #!: add, say, #!/bin/sh")
    return Verdict("program-foreign", f"{found.path} is not a program that Linux knows")


def _script(image: Image, path: str, head: bytes) -> Verdict:
    line = head[2:].split(b"\n", 1)[0].decode(errors="replace")
    interpreter = line.split(None, 1)[0] if line.strip() else ""
    if line.endswith("\r"):
        text = "the first line ends in CR, as Windows writes lines: save it with LF (dos2unix, or .gitattributes)"
        return Verdict("script-carriage-return", f"{path}: {text}")
    if not interpreter:
        return Verdict("script-first-line", f"{path}: the first line names no interpreter: write, say, #!/bin/sh")
    if not interpreter.startswith("/"):
        return Verdict("script-interpreter", f"{path}: the interpreter {interpreter} is not an absolute path")
    try:
        found = image.look(interpreter)
    except Dangling as dangling:
        text = (
            f"{path}: its interpreter is {interpreter}, and {dangling.link} a link to {dangling.text}, which is missing"
        )
        return Verdict("script-interpreter", text)
    if found is None:
        text = f"{path} needs the interpreter {interpreter}, which the image does not have"
        other = next((each for each in ("/bin/sh", "/usr/bin/env") if _quiet(image, each)), "")
        return Verdict("script-interpreter", f"{text}: install it, or use {other}" if other else text)
    if not found.mode & 0o111 or not found.is_file():
        return Verdict("script-interpreter", f"{path}: its interpreter {interpreter} is not executable")
    return Verdict()


def _elf(image: Image, path: str, head: bytes) -> Verdict:
    if len(head) < 64:
        return Verdict("program-foreign", f"{path} is an ELF file that was cut short")
    wide, order = head[4] == 2, "little" if head[5] == 1 else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(head[at : at + size], order)  # type: ignore[arg-type]

    name, machines = _MACHINES.get(number(18, 2), (f"machine {number(18, 2)}", ()))
    host = posix.uname().machine
    if host not in machines:
        text = f"{path} is for {name}, this host is {host}: use an image for {host}, or install qemu-user's binfmt"
        return Verdict("architecture", text)
    header = (number(32, 8), number(54, 2), number(56, 2)) if wide else (number(28, 4), number(42, 2), number(44, 2))
    start, size, count = header
    for at in range(start, start + size * count, size or 1):
        if number(at, 4) == 3:  # PT_INTERP
            offset, length = (
                (number(at + 8, 8), number(at + 32, 8)) if wide else (number(at + 4, 4), number(at + 16, 4))
            )
            loader = head[offset : offset + length].rstrip(b"\0").decode(errors="replace")
            if loader and image.look(loader) is None:
                return Verdict("loader", f"{path} needs the loader {loader}, {_of_loader(loader)}")
    return Verdict()


def _of_loader(loader: str) -> str:
    if "musl" in loader:
        return "which the image does not have: the program was built for musl (Alpine), or link it statically"
    if "ld-linux" in loader:
        return "which the image does not have: the program was built for glibc; install that, or link it statically"
    return "which the image does not have"


def denies_execve(spec: Spec) -> str:
    """The action by which the seccomp profile of ``spec`` stops execve(2); empty if it lets it pass, as far as seen."""
    profile = spec.linux.get("seccomp")
    if not profile:
        return ""
    action = str(profile.get("defaultAction") or "")
    for rule in profile.get("syscalls") or ():
        if "execve" in (rule.get("names") or ()) and not rule.get("args"):
            action = rule["action"]
            break
    passing = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "")
    return "" if action in passing else action


def _found(failure: Failure, kind: str) -> str:
    if failure.call != "execve" or failure.spec is None:
        return ""
    if failure.errno == EPERM and denies_execve(failure.spec):
        return ""
    verdict = failure.cached("program", lambda: examine(failure.spec))  # type: ignore[arg-type]
    return verdict.text if verdict.kind == kind else ""


def _kind(name: str, sees: str) -> Kind:
    return Kind(name, sees, lambda failure: _found(failure, name))


def _seccomp(failure: Failure) -> str:
    action = denies_execve(failure.spec) if failure.spec is not None else ""
    stopped = failure.call == "execve" or "killed before it" in failure.message
    if not stopped or not action:
        return ""
    return f"the seccomp profile answers execve with {action}: allow it, as without it no program can be executed"


def _too_long(failure: Failure) -> str:
    if (failure.call, failure.errno) != ("execve", E2BIG):
        return ""
    return "arguments and environment are too long: one string may have 128 KiB, all a quarter of the stack limit"


def _written(failure: Failure) -> str:
    if (failure.call, failure.errno) != ("execve", ETXTBSY):
        return ""
    return "a process has the program open for writing: wait until the image is unpacked, or copy it aside"


def _label(failure: Failure) -> str:
    if failure.call != "execve" or failure.errno not in (EACCES, EPERM) or failure.spec is None:
        return ""
    for key in ("apparmorProfile", "selinuxLabel"):
        value = failure.spec.process.get(key)
        if value:
            return f"process.{key} is {value}: it may forbid this program (see the audit log)"
    return ""


KINDS = (
    Kind("arguments-too-long", "arguments and environment longer than the kernel takes", _too_long),
    Kind("program-written", "a program that is being written to", _written),
    Kind("seccomp-execve", "a seccomp profile that denies execve(2)", _seccomp),
    _kind("script-interpreter", "a script whose interpreter the image does not have"),
    _kind("script-carriage-return", "a script that was saved with the line ends of Windows"),
    _kind("script-first-line", "a script without `#!`"),
    _kind("script-bom", "a script that begins with a byte order mark"),
    _kind("loader", "an ELF file whose loader the image does not have"),
    _kind("architecture", "a program for another architecture"),
    _kind("program-foreign", "a file that Linux cannot execute: for Windows or macOS, an archive, cut short"),
    _kind("program-empty", "a program that is an empty file"),
    _kind("program-mode", "a program without the x bit (mode 0644)"),
    _kind("program-owner", "a program that the container's user may not execute"),
    _kind("program-parent", "a program in a directory that the container's user cannot enter"),
    _kind("noexec", "a program on a filesystem mounted noexec"),
    _kind("program-directory", "a directory instead of the program"),
    _kind("program-special", "a device, FIFO or socket instead of the program"),
    _kind("program-link", "a link to a program that the image does not have"),
    _kind("program-words", "a whole command line as the program's name"),
    _kind("program-unnamed", "an empty string as the program's name"),
    _kind("no-path", "a program without a slash, and no PATH in process.env"),
    _kind("program-elsewhere", "a program in a directory that PATH does not name"),
    _kind("no-shell", "an image without a shell"),
    _kind("image-empty", "a root filesystem with nothing in it"),
    _kind("program-misspelt", "a program with a name like another's"),
    _kind("program-missing", "a program that the image does not have"),
    Kind("label-denies", "an AppArmor profile or SELinux label that forbids the program", _label),
)
