"""Mounts in a user namespace: what the host has locked, what belongs to whom, what only the runtime can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.scratch_root import Inside, mounts_inside, run_inside

OLD = (5, 10)
RDONLY, NOSUID, NODEV, NOEXEC, NOSYMFOLLOW, NOATIME, STRICTATIME = 1, 2, 4, 8, 0x100, 0x400, 1 << 24


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    bundle.config["mounts"] = []
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


@pytest.fixture
def mapped(bare: Bundle) -> Bundle:
    bare.add_mount("/dev", "tmpfs", "tmpfs", "mode=755")
    return bare.map_users()


@pytest.fixture
def sources(bare: Bundle) -> Iterator[Path]:
    """Tmpfs mounts with each kind of flag, and below each a plain one, and a plain one with each of them below."""
    made = []
    for name, flags in (
        ("plain", 0),
        ("ro", RDONLY),
        ("nosuid", NOSUID),
        ("nodev", NODEV),
        ("noexec", NOEXEC),
        ("nosymfollow", NOSYMFOLLOW),
        ("noatime", NOATIME),
        ("strictatime", STRICTATIME),
    ):
        path = bare.path / name
        path.mkdir()
        namespaces.mount(name, str(path), "tmpfs", flags & ~RDONLY)
        made.append(path)
        (path / "sub").mkdir()
        namespaces.mount("sub", str(path / "sub"), "tmpfs", flags)
        made.append(path / "sub")
        if flags & RDONLY:
            namespaces.mount(name, str(path), "tmpfs", flags | 0x20)
    yield bare.path
    for path in reversed(made):
        namespaces.unmount(str(path))


CLEARED = [
    ("ro", "rw", "rrw"),
    ("nosuid", "suid", "rsuid"),
    ("nodev", "dev", "rdev"),
    ("noexec", "exec", "rexec"),
    ("noatime", "atime", "ratime"),
    ("noatime", "relatime", "rrelatime"),
    ("strictatime", "nostrictatime", "rnostrictatime"),
]


@pytest.mark.parametrize("euid", [0, 1000], ids=["copied by the runtime", "copied by init"])
@pytest.mark.parametrize(("source", "word", "tree"), CLEARED)
def test_what_is_locked_stays(mapped: Bundle, sources: Path, source: str, word: str, tree: str, euid: int) -> None:
    """Asked away, it is an error; of all others, it stays without a word."""
    for words, name in (([word], source), ([tree], source), (["ro", tree], source)):
        mapped.add_mount("/mnt", "bind", str(sources / name), "rbind", *words)
        with pytest.raises(Error, match=r"locked|not permitted"):
            run_inside(mapped, euid=euid)
        del mapped.config["mounts"][-1]
    mapped.add_mount("/mnt", "bind", str(sources / source), "rbind", "nosymfollow", "rnosymfollow")
    found = mounts_inside(mapped, euid=euid)
    expected = {"strictatime": ""}.get(source, source)
    assert not expected or (found["/mnt"].has(expected) and found["/mnt/sub"].has(expected))
    assert found["/mnt/sub"].has("nosymfollow")


@pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
def test_a_remount_is_no_way_round(mapped: Bundle, sources: Path, kernel: tuple[int, int] | None) -> None:
    mapped.add_mount("/mnt", "bind", str(sources / "ro"), "rbind")
    mapped.add_mount("/mnt", "bind", "", "bind", "remount", "nosuid")
    found = mounts_inside(mapped, kernel=kernel)["/mnt"]
    assert found.has("ro", "nosuid")
    mapped.add_mount("/mnt", "bind", "", "bind", "remount", "rw")
    with pytest.raises(Error, match="locked"):
        run_inside(mapped, kernel=kernel)


@pytest.mark.parametrize("users", [False, True])
def test_nosymfollow_goes(bare: Bundle, mapped: Bundle, sources: Path, users: bool) -> None:
    """It is never locked."""
    for name, words in (("one", ["symfollow"]), ("tree", ["rsymfollow"]), ("more", ["symfollow", "nosuid"])):
        mapped.add_mount(f"/mnt/{name}", "bind", str(sources / "nosymfollow"), "rbind", *words)
    (mapped.rootfs / "mnt").chmod(0o777)
    for euid in (0, 1000):
        found = mounts_inside(mapped, euid=euid)
        assert not any(found[f"/mnt/{name}"].has("nosymfollow") for name in ("one", "tree", "more"))
        assert found["/mnt/one/sub"].has("nosymfollow") and not found["/mnt/tree/sub"].has("nosymfollow")


ATIME = [
    # the source, a word, what becomes of its kind of atime without a user namespace
    ("noatime", "atime", "relatime"),
    ("noatime", "norelatime", "noatime"),
    ("noatime", "nostrictatime", "noatime"),
    ("strictatime", "atime", ""),
    ("strictatime", "norelatime", ""),
    ("strictatime", "nostrictatime", "relatime"),
    ("plain", "atime", "relatime"),
    ("plain", "norelatime", "relatime"),
    ("plain", "nostrictatime", "relatime"),
]


@pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
@pytest.mark.parametrize(("source", "word", "kind"), ATIME)
def test_one_kind_of_atime_taken_away(
    bare: Bundle, sources: Path, source: str, word: str, kind: str, kernel: tuple[int, int] | None
) -> None:
    """The source keeps any other, each mount of a tree for itself."""
    bare.add_mount("/mnt/one", "bind", str(sources / source), "rbind", word)
    if kernel is None:
        bare.add_mount("/mnt/tree", "bind", str(sources / source), "rbind", f"r{word}")
    found = mounts_inside(bare, kernel=kernel)

    def atime(point: str) -> str:
        words = found[point].options.split(",")
        return "".join(each for each in words if each in ("noatime", "relatime"))

    assert atime("/mnt/one") == kind
    assert atime("/mnt/one/sub") == {"plain": "relatime", "noatime": "noatime", "strictatime": ""}[source]
    if kernel is None:
        assert (atime("/mnt/tree"), atime("/mnt/tree/sub")) == (kind, kind)


@pytest.mark.parametrize(("source", "word"), [(s, w) for s, w, k in ATIME if k == {"plain": "relatime"}.get(s, s)])
def test_words_that_change_nothing_are_no_error(mapped: Bundle, sources: Path, source: str, word: str) -> None:
    mapped.add_mount("/mnt", "bind", str(sources / source), "rbind", word, f"r{word}")
    for euid in (0, 1000):
        run_inside(mapped, euid=euid)


# What is made belongs to the namespace's root.


@pytest.mark.parametrize("fstype", ["mqueue", "tmpfs", "devpts", "ramfs", "proc"])
def test_owners_of_filesystems(mapped: Bundle, fstype: str) -> None:
    mapped.add_mount("/dev/x", fstype, fstype)
    (mapped.path / "file").touch()
    mapped.add_mount("/dev/deep/file", "bind", str(mapped.path / "file"), "bind")

    def look(_inside: Inside) -> Any:
        names = ("/dev/x", "/dev/deep", "/dev/null/..", "/dev/fd")
        return [[os.lstat(name).st_uid, os.lstat(name).st_gid] for name in names if name != "/dev/null/.."]

    expected = [[0, 0]] * 3
    if fstype == "proc":
        mapped.config["mounts"][-2]["destination"] = "/proc"
        expected[0] = [0, 0]
        mapped.add_mount("/dev/x", "tmpfs", "tmpfs")
    assert run_inside(mapped, look) == expected


def test_message_queues_can_be_made(mapped: Bundle) -> None:
    mapped.add_mount("/dev/mqueue", "mqueue", "mqueue")

    def look(_inside: Inside) -> Any:
        Path("/dev/mqueue/x").touch()
        return os.stat("/dev/mqueue/x").st_uid

    assert run_inside(mapped, look) == 0


@pytest.mark.parametrize("words", [["ro"], ["nosuid", "noexec", "nodev"]])
def test_sysfs_of_the_host(mapped: Bundle, words: list[str]) -> None:
    """Where the network namespace is the host's: its /sys, read-only whatever the words, and all that is in it."""
    mapped.drop_namespace("network")
    mapped.add_mount("/sys", "sysfs", "sysfs", *words)
    found = mounts_inside(mapped)
    below = [each for point, each in found.items() if f"{point}/".startswith("/sys/")]
    assert below[0].fstype == "sysfs" and all(each.has("ro") for each in below)
    assert "shared" not in below[0].propagation
    mapped.add_namespace("network")
    assert mounts_inside(mapped)["/sys"].has("ro") == ("ro" in words)


@pytest.mark.parametrize("word", ["ro", "nosuid", "nodev", "noexec", "noatime"])
def test_the_container_cannot_unlock(mapped: Bundle, sources: Path, word: str) -> None:
    """Its root has all rights in its user namespace, and still not those over the host's flags."""
    mapped.add_mount("/mnt", "bind", str(sources / word), "rbind")
    mapped.add_mount("/home", "bind", str(sources / word), "rbind", "ro", "nosuid")

    def look(_inside: Inside) -> Any:
        from gosudacon.linux import mount

        results = []
        for place in ("/mnt", "/mnt/sub", "/home"):
            try:
                mount.mount(None, place, None, 0x1000 | 0x20 | (1 << 21))
            except OSError as error:
                results.append(error.errno)
            else:
                results.append(0)
        return results

    assert run_inside(mapped, look) == [1, 1, 1]
