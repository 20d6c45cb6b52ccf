"""The profile and its report on disk: read, merged and replaced in one piece, by one recorder at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from stat import S_ISREG

from gosudacon.api import Error
from gosudacon.base import ownership
from gosudacon.plugins.learn import profile as profiles
from gosudacon.plugins.learn import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from gosudacon.api import Seccomp
    from gosudacon.plugins.learn.record import Record, ReportData

    Kind = TypeVar("Kind")

_MOST = 16 << 20  # bytes
_PATIENCE = 5.0  # seconds for another recorder to have written


def report_path(profile: str) -> str:
    """The report's file: ``web.report.json`` for ``web.json``."""
    return profile.removesuffix(".json") + ".report.json"


def check(path: str, anew: bool) -> None:
    """Raise `Error` unless the profile can be written to ``path``, and what is there be merged with."""
    directory, name = os.path.split(path)
    try:
        status = os.stat(directory)
    except OSError as error:
        raise Error(f"cannot write {path}: {error.strerror}") from error
    if not ownership.is_safe(directory, status) and not _is_sticky(status):
        raise Error(f"{directory}: others can write to it", hint="profiles go to a directory of root's, mode 0755")
    if not name or not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise Error(f"cannot write {path}: permission denied")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each, reader in ((name, profiles.check), (os.path.basename(report_path(path)), records.check)):
            _check_file(fd, f"{directory}/{each}", reader, anew)
    finally:
        os.close(fd)


def _check_file(directory: int, path: str, reader: Callable[[object], object], anew: bool) -> None:
    """Raise `Error` if a file is there that cannot be replaced (a device, a link), or merged with."""
    name = os.path.basename(path)
    try:
        if not S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise Error(f"cannot write {path}: not a regular file")
        if not anew:
            _read(directory, name, reader)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise Error(f"cannot merge with {path}: {_text(error)}", hint="--anew writes it anew") from error


def _is_sticky(status: os.stat_result) -> bool:
    """A directory as /tmp: others cannot replace files that are not theirs (inode(7))."""
    return bool(status.st_mode & 0o1000)


class Output:
    """Where one recorder writes, again and again: `write` merges with what is there."""

    def __init__(self, path: str, anew: bool, source: Seccomp | None) -> None:
        directory, self._name = os.path.split(path)
        self._path = path
        self._report = os.path.basename(report_path(path))
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._source = source
        self._anew = anew
        self._runs = 1  # what this one adds

    def close(self) -> None:
        """For the process that has handed it over."""
        os.close(self.directory)

    def write(self, record: Record, notes: Iterable[str], patience: float = _PATIENCE) -> None:
        """Merge the record into both files. Raises OSError and ValueError; BlockingIOError if another one writes."""
        self._lock(patience)
        try:
            self._write(record, notes)
        finally:
            fcntl.flock(self.directory, fcntl.LOCK_UN)
        self._runs, self._anew = 0, False

    def _write(self, record: Record, notes: Iterable[str]) -> None:
        old = None if self._anew else _read(self.directory, self._report, records.check)
        former = None if self._anew else _read(self.directory, self._name, profiles.check)
        report = self._merged(old, record, notes)
        new = self._learned(record)
        profile, lost = profiles.merged(former, new[0]) if former else new[0], new[1]
        report["warnings"] = records.merged_names(report["warnings"], lost, 100)
        report["unused"] = profiles.unused(self._source, {call["name"] for call in report["calls"]})
        self._replace(self._name, profile)
        self._replace(self._report, report)

    def _learned(self, record: Record) -> tuple[Seccomp, list[str]]:
        calls, refused = record.call_data(), record.refused.values()
        architectures = {call["architecture"] for call in calls} | {each["architecture"] for each in refused}
        return profiles.learned(
            self._source,
            {call["name"] for call in calls if call["name"]},
            {each["name"] for each in refused if each["name"]},
            {name for name in architectures if name.startswith("SCMP_ARCH_")},
        )

    def _merged(self, old: ReportData | None, record: Record, notes: Iterable[str]) -> ReportData:
        refused, more = records.merged_refusals(old["refused"] if old else [], list(record.refused.values()))
        return {
            "version": records.VERSION,
            "profile": self._path,
            "runs": (old["runs"] if old else 0) + self._runs,
            "containers": records.merged_names(old["containers"] if old else [], [record.container]),
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "calls": records.merged_calls(old["calls"] if old else [], record.call_data()),
            "refused": refused,
            "refused_more": (old["refused_more"] if old else 0) + record.more + more,
            "unused": None,
            "warnings": records.merged_names(old["warnings"] if old else [], [*notes, *record.warnings], 100),
        }

    def _lock(self, patience: float) -> None:
        """The lock on the directory, which others can take who may read it: so not for ever."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return fcntl.flock(self.directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.05)

    def _replace(self, name: str, value: object) -> None:
        """Write a new file and rename it, so that a reader sees one whole version."""
        temporary = f".{name}.new"
        try:
            os.unlink(temporary, dir_fd=self.directory)  # of a recorder that was killed here: this one has the lock
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        data = (json.dumps(value, indent=2) + "\n").encode()
        fd = os.open(temporary, flags, 0o644, dir_fd=self.directory)
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        except BaseException:
            os.unlink(temporary, dir_fd=self.directory)
            raise


def _read(directory: int, name: str, reader: Callable[[object], Kind]) -> Kind | None:
    """What a file has in it; None if it is not there, or empty. Raises OSError and ValueError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        if not S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a regular file")
        if not ownership.is_safe(f"/proc/self/fd/{fd}", os.fstat(fd)):
            raise ValueError("others can write to it")
        text = file.read(_MOST)
    return reader(json.loads(text)) if text.strip() else None


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
