"""Whose a file is, seen from user namespaces: what their root runs, and what it refuses to run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gosudacon.base import ownership, posix
from gosudacon.linux import namespace
from tests.support.children import in_child

Map = list[tuple[int, int, int]]
ROOTLESS: Map = [(0, 4321, 1), (1, 500000, 65536)]
OUTSIDER, NOBODY = 1234, 65534


def judged(path: Path, uids: Map) -> tuple[int, bool]:
    """The owner that the root of a user namespace sees, and whether it trusts the file."""
    ready, written = os.pipe(), os.pipe()

    def inside() -> tuple[int, bool]:
        namespace.unshare(namespace.CLONE_NEWUSER)
        os.write(ready[1], b"1")
        os.read(written[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        status = posix.stat(str(path))
        return status.st_uid, ownership.is_safe(str(path), status)

    helper = os.fork()
    if helper == 0:  # maps the ids of our child, whose number it finds as the other child of our own
        os.close(written[0])
        os.read(ready[0], 1)
        child = next(pid for pid in _children(os.getppid()) if pid != os.getpid())
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("".join(f"{a} {b} {c}\n" for a, b, c in uids))
        os.write(written[1], b"1")
        os._exit(0)
    try:
        uid, trusted = in_child(inside)
    finally:
        os.waitpid(helper, 0)
        for fd in (*ready, *written):
            os.close(fd)
    return uid, trusted


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("uids", "owner", "seen", "trusted"),
    [
        (ROOTLESS, 0, 65534, True),  # installed for all by the host's root
        (ROOTLESS, 4321, 0, True),  # the user's own
        (ROOTLESS, 500000, 1, False),  # of a user in the namespace
        (ROOTLESS, 500000 + NOBODY - 1, NOBODY, False),  # and of the one who has the number of the unmapped
        ([(0, 0, 1)], 0, 0, True),
        ([(0, 0, 1)], OUTSIDER, 65534, False),  # the host's root again, and another user's file
        ([(0, 4321, 1), (7, 0, 1)], 0, 7, True),  # the host's root has a number in the namespace
        ([(0, 4321, 1), (7, 0, 1)], OUTSIDER, 65534, False),
        ([(0, 4321, 1), (NOBODY, 0, 1)], 0, NOBODY, True),
        ([(0, 4321, 1), (NOBODY, 0, 1)], OUTSIDER, NOBODY, False),
    ],
)
def test_owner(scratch: Path, uids: Map, owner: int, seen: int, trusted: bool) -> None:
    for path in (scratch / "file", scratch / "directory"):
        path.touch() if path.name == "file" else path.mkdir()
        os.chown(path, owner, owner)
        path.chmod(0o755)
        assert judged(path, uids) == (seen, trusted)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("owner", [0, 4321])
def test_mode(scratch: Path, mode: int, owner: int) -> None:
    path = scratch / "file"
    path.touch()
    os.chown(path, owner, owner)
    path.chmod(mode)
    assert judged(path, ROOTLESS)[1] is False


@pytest.mark.parametrize(("owner", "trusted"), [(0, True), (OUTSIDER, False), (NOBODY, False)])
def test_on_the_host(scratch: Path, owner: int, trusted: bool) -> None:
    path = scratch / "file"
    path.touch()
    os.chown(path, owner, owner)
    assert ownership.is_safe(str(path), posix.stat(str(path))) is trusted
