"""What strace(1) has seen of a command with the plugin `marks`: which step made which system call."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path

#: Everything that changes something outside of the calling process's memory and table of descriptors.
CALLS = (
    "mount umount2 pivot_root chroot open_tree move_mount mount_setattr fsopen fsconfig fsmount fspick "
    "open openat openat2 creat write pwrite64 writev truncate ftruncate fallocate mkdir mkdirat mknod "
    "mknodat symlink symlinkat link linkat unlink unlinkat rmdir rename renameat renameat2 chmod fchmod "
    "fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr setns unshare clone clone3 fork "
    "vfork prctl capset setgroups setuid setgid setreuid setregid setresuid setresgid sethostname "
    "setdomainname chdir fchdir keyctl add_key prlimit64 setrlimit sched_setaffinity sched_setattr "
    "sched_setscheduler sched_setparam setpriority ioprio_set set_mempolicy personality seccomp umask "
    "setsid setpgid ioctl kill tkill tgkill pidfd_send_signal execve execveat bpf bind dup2 dup3 access "
    "faccessat faccessat2"
).replace(" ", ",")

#: What only looks, of the calls that may do either.
_LOOKS = re.compile(
    r"prctl:PR_(GET_|CAPBSET_READ|CAP_AMBIENT:PR_CAP_AMBIENT_IS_SET)|keyctl:KEYCTL_(DESCRIBE|GET)|personality:0xffffffff"
    r"|ioctl:(TCGETS|TIOCGWINSZ|TIOCGPTN|TIOCGPTPEER|FIO|NS_GET|SIOCGIF)|prlimit64:get|seccomp:SECCOMP_GET_|\w*access"
)
_BY_FIRST_WORD = re.compile(r"(prctl|ioctl|keyctl|personality|seccomp)$")
_BY_PATH = re.compile(r"(mkdir|mknod|symlink|link|unlink|rmdir|rename|f?chmod|f?chown|lchown|truncate)(at2?)?$")
_NEW_PROCESS = ("clone", "clone3", "fork", "vfork")
_MARK = re.compile(r'access\w*\([^"]*"/gosudacon-step/(begin|end)/(\w+)/((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)$")
_WHOLE = re.compile(r"(\w+)\((.*)\) += (-?\w+)", re.DOTALL)
_AT = re.compile(r'(?:AT_FDCWD|\d+)<([^>]*)>, "((?:[^"\\]|\\.)*)"')


class Call:
    """A call that changes something: as strace prints it, and in short, as `_what` says.

    ``when`` is for calls of no step: ``COMMAND begin``, before the first step, ``COMMAND runtime`` or
    ``COMMAND container``.
    """

    def __init__(self, when: str, what: str, text: str, failed: bool) -> None:
        self.when = when
        self.what = what
        self.text = text
        self.failed = failed

    def is_one_of(self, patterns: str) -> bool:
        """Whether one of the words is its name, or matches all of it as in a shell."""
        return any(fnmatch(self.what, word) or self.what.split(":")[0] == word for word in patterns.split())


class Ran:
    """One run of a step: its class, its line, and the calls between its marks, those of its helpers too."""

    def __init__(self, name: str, line: str) -> None:
        self.name = name
        self.line = line
        self.calls: list[Call] = []


class Trace:
    """``steps`` in the order in which they began, and ``outside``, the calls between no step's marks."""

    def __init__(self, path: Path, command: str) -> None:
        self.command = command
        self.steps: list[Ran] = []
        self.outside: list[Call] = []
        self._now: dict[str, Ran | None] = {}  # process -> the step it is in
        self._contained: set[str] = set()  # processes of the container's side
        self._others: set[str] = set()  # processes that have become another program
        self._unborn: list[tuple[str, Ran | None]] = []  # of processes not seen yet: the parent, and the step it was in
        self._begun: dict[str, str] = {}
        for line in path.read_text(errors="replace").splitlines():
            self._read(line)

    def _read(self, line: str) -> None:
        found = _LINE.match(line)
        assert found, line
        pid, resumed, text = found.groups()
        self._meet(pid)
        if text.endswith("<unfinished ...>"):
            self._begun[pid] = text.removesuffix("<unfinished ...>")
            if text.split("(")[0] in _NEW_PROCESS:
                self._unborn.append((pid, self._now[pid]))
            return
        if resumed:
            text = self._begun.pop(pid) + text
        whole = _WHOLE.match(text)
        if whole and pid not in self._others:
            self._take(pid, whole, text, bool(resumed))

    def _meet(self, pid: str) -> None:
        if pid in self._now:
            return
        parent, step = self._unborn.pop(0) if self._unborn else ("", None)
        spawned = step is not None and step.name.startswith("Spawn")
        if spawned or parent in self._contained:
            self._contained.add(pid)
        self._now[pid] = None if spawned else step  # what that does before its first step is the engine's
        if parent in self._others:
            self._others.add(pid)

    def _take(self, pid: str, whole: re.Match[str], text: str, resumed: bool) -> None:
        name, arguments, result = whole.groups()
        failed = result.startswith("-")
        if name in _NEW_PROCESS:
            if failed and resumed:
                self._unborn.remove((pid, self._now[pid]))
            elif not failed and not resumed:
                self._unborn.append((pid, self._now[pid]))
        mark = _MARK.match(text)
        if mark:
            self._mark(pid, *mark.groups())
            return
        step = self._now[pid]
        what = _what(name, arguments)
        if what and not _LOOKS.match(what):
            side = "container" if pid in self._contained else "runtime" if self.steps else "begin"
            (self.outside if step is None else step.calls).append(Call(f"{self.command} {side}", what, text, failed))
        if name == "execve" and not failed and step is not None:
            self._others.add(pid)

    def _mark(self, pid: str, word: str, name: str, line: str) -> None:
        step = self._now[pid]
        if word == "begin":
            assert step is None, f"{name} begins within {step.name}"
            self._now[pid] = begun = Ran(name, line)
            self.steps.append(begun)
        else:
            assert step is not None and step.name == name, f"{name} ends, and has not begun"
            self._now[pid] = None


def _what(name: str, arguments: str) -> str:
    """``NAME`` or ``NAME:ARGUMENT``; for files ``create:PATH`` and ``write:PATH``; empty where one is only opened."""
    if name in ("open", "openat", "openat2", "creat"):
        return f"create:{_path(arguments)}" if name == "creat" or re.search("O_(CREAT|TRUNC)", arguments) else ""
    if name in ("write", "pwrite64", "writev"):
        path = re.match(r"\d+<([^>]*)>", arguments)
        return f"write:{path[1]}" if path and path[1].startswith("/") and "/memfd:" not in path[1] else ""
    if _BY_PATH.match(name):
        return f"{name}:{_path(arguments)}"
    if name == "prlimit64":
        return "prlimit64:get" if re.search(r"NULL, (\{|0x|NULL)", arguments) else name
    if _BY_FIRST_WORD.match(name):
        words = re.sub(r"\d+<[^>]*>", "", arguments).strip(", ").split(", ")
        return ":".join([name, *(words[:2] if words[0] == "PR_CAP_AMBIENT" else words[:1])])
    return name


def _path(arguments: str) -> str:
    found = _AT.match(arguments)
    if found:
        return found[2] if found[2].startswith("/") else f"{found[1]}/{found[2]}".replace("//", "/")
    return arguments.split('"')[1] if '"' in arguments else arguments.split(",")[0]
