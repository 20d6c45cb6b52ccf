"""Option words of mounts, one by one and in combination."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import ConfigError
from gosudacon.linux import mount as m
from gosudacon.stages.rootfs_mount import tree
from gosudacon.stages.rootfs_mount.bind import reduce
from gosudacon.stages.rootfs_mount.options import FLAGS, PROPAGATION, RECURSIVE, Options, parse

R = m.MS_REC


def options(*words: str, **entry: Any) -> Options:
    entry["options"] = list(words)
    whole: Any = entry
    return parse(whole, "mounts[3]")


def test_flag_and_its_opposite() -> None:
    """A flag and its opposite cancel each other in order."""
    for word, (clear, flag) in FLAGS.items():
        opposite = next((each for each, what in FLAGS.items() if what == (not clear, flag)), None)
        if opposite is not None:
            both = options(opposite, word)
            assert (both.flags, both.cleared) == ((0, flag) if clear else (flag, 0))


@pytest.mark.parametrize(
    ("word", "attribute"),
    [
        ("ro", 1),
        ("nosuid", 2),
        ("nodev", 4),
        ("noexec", 8),
        ("noatime", 0x10),
        ("strictatime", 0x20),
        ("relatime", 0),
        ("nodiratime", 0x80),
        ("nosymfollow", 0x200000),
        ("sync", 0),
    ],
)
def test_flags_of_a_mount_become_attributes(word: str, attribute: int) -> None:
    assert options(word).attributes() == attribute


def test_strictatime_wins_over_noatime() -> None:
    assert options("strictatime", "noatime").attributes() == m.MOUNT_ATTR_STRICTATIME


def test_flags_of_the_superblock_become_words() -> None:
    assert options("ro", "sync", "dirsync", "mand", "lazytime", "nosuid").superblock() == [
        "ro",
        "sync",
        "dirsync",
        "mand",
        "lazytime",
    ]


def test_recursive_attributes() -> None:
    for word, (clear, attribute) in RECURSIVE.items():
        found = options(word).recursive
        if "atime" in word and "diratime" not in word:
            assert found == ([0, 0, attribute] if clear else [attribute, m.MOUNT_ATTR__ATIME, 0]), word
        else:
            assert found == ([0, attribute, 0] if clear else [attribute, 0, 0]), word
    assert options("rro", "rrw").recursive == [0, 1, 0]
    assert options("rnoatime", "rstrictatime", "rnosuid").recursive == [0x22, 0x70, 0]
    assert options("rnoatime", "ratime").recursive == [0, 0, 0x10]
    assert options("rnoatime", "rnostrictatime").recursive == [0x10, 0x70, 0x20]
    assert options("rnostrictatime", "ratime").recursive == [0, 0, 0x30]


def test_propagation_is_kept_in_order() -> None:
    assert options("rslave", "shared").propagation == [m.MS_SLAVE | R, m.MS_SHARED]
    assert options(*PROPAGATION).propagation == list(PROPAGATION.values())


def test_what_is_no_flag_is_data() -> None:
    found = options("size=64k", "defaults", "", "mode=755,uid=1", "nosuid", "hidepid=2", "rsync")
    assert found.data == ["size=64k", "mode=755,uid=1", "hidepid=2", "rsync"]
    assert found.flags == m.MS_NOSUID


def test_bind() -> None:
    assert options("bind").bind and options("rbind").bind and options(type="bind").bind
    assert not options("ro", type="tmpfs").bind
    assert options("rbind").flags == m.MS_BIND | R


@pytest.mark.parametrize(
    ("words", "replace", "result"),
    [
        (["rbind"], True, (0, 0, 0, 0)),
        (["rbind", "rprivate"], True, (0, 0, 0, 0)),
        (["bind", "ro"], True, (1, 0x20000E, 0, 0)),
        (["bind", "ro"], False, (1, 0, 0, 0)),
        (["bind", "rw"], True, (0, 0x20000F, 1, 0)),
        (["bind", "rw"], False, (0, 1, 1, 0)),
        (["bind", "nosuid", "nodev", "noexec", "noatime"], True, (0x1E, 0x200071, 0x70, 0)),
        (["bind", "strictatime"], False, (0x20, 0x70, 0x70, 0)),
        (["bind", "relatime"], False, (0, 0x70, 0x70, 0)),
        (["bind", "atime", "diratime"], False, (0, 0x80, 0x80, 0x10)),
        (["bind", "norelatime"], False, (0, 0, 0, 0)),
        (["bind", "nostrictatime", "atime"], False, (0, 0, 0, 0x30)),
        (["bind", "nosymfollow"], True, (0x200000, 0xF, 0, 0)),
    ],
)
def test_flags_of_a_bind_mount(words: list[str], replace: bool, result: tuple[int, int, int, int]) -> None:
    assert options(*words).bind_attributes(replace) == result


NOSYMFOLLOW = m.MOUNT_ATTR_NOSYMFOLLOW


@pytest.mark.parametrize(
    ("has", "set_", "named", "result"),
    [
        (2, m.MOUNT_ATTR_RDONLY, 0, (1, 0)),  # nosuid is locked and stays
        (0x10, m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOATIME, 0x70, (1, 0)),  # the atime it has already
        (2, 0, m.MOUNT_ATTR_NOEXEC, (0, 0)),
        (NOSYMFOLLOW | 2, 0, NOSYMFOLLOW, (0, NOSYMFOLLOW)),  # never locked
    ],
)
def test_locked_flags_are_kept(has: int, set_: int, named: int, result: tuple[int, int]) -> None:
    assert tree.keep(has, set_, named) == result


@pytest.mark.parametrize(("has", "set_", "named"), [(2, 0, 2), (1, 0, 1), (0, 0x10, 0x70), (0x10, 0, 0x70)])
def test_words_against_locked_flags_are_an_error(has: int, set_: int, named: int) -> None:
    with pytest.raises(Exception, match="locked"):
        tree.keep(has, set_, named)


@pytest.mark.parametrize(
    ("kinds", "result"),
    [
        (["rslave"], ["rslave"]),
        (["rslave", "rprivate"], ["rprivate"]),
        (["rslave", "private"], ["rslave", "private"]),
        (["rslave", "slave", "rslave"], ["rslave"]),
        (["rslave", "rshared"], ["rslave", "rshared"]),
        (["rprivate", "rslave"], ["rprivate", "rslave"]),
        (["rslave", "shared", "unbindable"], ["rslave", "unbindable"]),
        ([], []),
    ],
)
def test_propagation_without_effect(kinds: list[str], result: list[str]) -> None:
    """Changes of propagation that have no effect are left out."""
    assert reduce([PROPAGATION[kind] for kind in kinds], True) == [PROPAGATION[kind] for kind in result]


def test_a_single_mount_has_no_recursive_propagation() -> None:
    assert reduce([m.MS_SLAVE | R, m.MS_PRIVATE | R], False) == [m.MS_PRIVATE]
    assert reduce([m.MS_SLAVE | R, m.MS_SHARED], False) == [m.MS_SLAVE, m.MS_SHARED]


def test_data_longer_than_the_kernel_takes_is_an_error() -> None:
    options("x=" + "y" * 4093)
    with pytest.raises(ConfigError) as caught:
        options("x=" + "y" * 4094)
    assert caught.value.where == "mounts[3].options"


def test_id_maps_in_words() -> None:
    found = options("bind", "idmap=uids=0-1000-10#10-2000-5;gids=0-3000-1")
    assert found.idmap == "idmap"
    assert found.maps == {
        "uids": [
            {"containerID": 0, "hostID": 1000, "size": 10},
            {"containerID": 10, "hostID": 2000, "size": 5},
        ],
        "gids": [{"containerID": 0, "hostID": 3000, "size": 1}],
    }
    assert options("ridmap").idmap == "ridmap"


@pytest.mark.parametrize(
    "word",
    ["idmap=", "idmap=uids=0-0-1", "idmap=uids=0-1;gids=0-0-1", "idmap=uids=+1-0-1;gids=0-0-1", "ridmap=x"],
)
def test_bad_id_maps(word: str) -> None:
    with pytest.raises(ConfigError, match="idmap") as caught:
        options("bind", word)
    assert caught.value.where == "mounts[3].options[1]"
