"""Where mounts go, and where bind mounts come from: paths that are odd, missing, or lead through earlier mounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.scratch_root import Inside, mounts_inside, run_inside

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
Kernel = tuple[int, int] | None


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    bundle.config["mounts"] = []
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


# Destinations.


@BOTH
@pytest.mark.parametrize("kind", ["directory", "file"])
@pytest.mark.parametrize(
    ("destination", "place"),
    [
        ("/new/../x", "/x"),
        ("/new/deep/../../x/y", "/x/y"),
        ("/new/../../../x", "/x"),
        ("/mnt/new/../x", "/mnt/x"),
        ("/usr/../mnt/./new/..//x", "/mnt/x"),
        ("/link/../x", "/usr/x"),  # the kernel's way, not a text's: the link leads to /usr/local
        ("/link/new/../x", "/usr/local/x"),
        ("/dangling", "/made/by"),
        ("/dangling/x", "/made/by/x"),
        ("/dangling/../x", "/made/x"),
        ("/dangling/new/../../x", "/made/x"),
        ("/chain/x", "/made/by/x"),
        ("/up/x", "/made/x"),
        ("/out", "/etc/hidden"),
        ("/mnt/one/two/three", "/mnt/one/two/three"),
    ],
)
def test_destinations(bare: Bundle, destination: str, place: str, kind: str, kernel: Kernel) -> None:
    """Resolved by the kernel inside the root, with what is missing made on the way."""
    root = bare.rootfs
    (root / "usr/local").mkdir(exist_ok=True)
    for name, target in (
        ("link", "usr/local"),
        ("dangling", "/made/by"),
        ("chain", "dangling"),
        ("up", "nowhere/../made"),
        ("out", "../../../../../etc/hidden"),
    ):
        (root / name).symlink_to(target)
    (bare.path / "file").write_text("text")
    if kind == "file":
        bare.add_mount(destination, "bind", str(bare.path / "file"), "bind")
    else:
        bare.add_mount(destination, "tmpfs", "t")
    found = mounts_inside(bare, kernel=kernel)
    assert place in found
    assert (root / place.lstrip("/")).is_dir() == (kind == "directory")
    assert not (root / "new").exists() and not (root / "mnt/new").exists() and not Path("/etc/hidden").exists()


@BOTH
@pytest.mark.parametrize("destination", ["/loop", "/loop/x", "/etc/passwd/x", "/etc/passwd/../x"])
def test_destinations_that_cannot_be(bare: Bundle, destination: str, kernel: Kernel) -> None:
    (bare.rootfs / "loop").symlink_to("loop")
    bare.add_mount(destination, "tmpfs", "t")
    with pytest.raises(Error, match=r"symbolic links|not a directory"):
        run_inside(bare, kernel=kernel)


# A mount over the root.


@BOTH
@pytest.mark.parametrize("no_pivot", [False, True], ids=["pivot_root", "no pivot"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "overlay"])
def test_over_the_root(bare: Bundle, kind: str, kernel: Kernel, no_pivot: bool) -> None:
    """It becomes the root: of later mounts, of the process, and as read-only as the configuration says."""
    (bare.path / "other").mkdir()
    (bare.path / "other/mine").write_text("new root\n")
    (bare.path / "upper").mkdir()
    (bare.path / "work").mkdir()
    if kind == "tmpfs":
        bare.add_mount("/", "tmpfs", "t", "mode=755")
    elif kind == "bind":
        bare.add_mount("/", "bind", str(bare.path / "other"), "rbind", "nosuid")
    else:
        words = [f"lowerdir={bare.path}/other", f"upperdir={bare.path}/upper", f"workdir={bare.path}/work"]
        bare.add_mount("/", "overlay", "overlay", *words)
    bare.add_mount("/below/here", "tmpfs", "t")
    bare.set("root.readonly", True)

    def look(inside: Inside) -> Any:
        return sorted(os.listdir("/")), os.statvfs("/").f_flag & 1, inside.mountinfo()

    names, readonly, text = run_inside(bare, look, kernel=kernel, options={"no_pivot": no_pivot})
    assert {"dev", "below"} <= set(names) and "etc" not in names and ("mine" in names) == (kind != "tmpfs")
    assert readonly and " /below/here " in text
    if not no_pivot:
        roots = [line for line in text.splitlines() if line.split()[4] == "/"]
        assert len(roots) == 1 and "master" not in roots[0] and "shared" not in roots[0]


@BOTH
def test_links_to_the_root_are_refused(bare: Bundle, kernel: Kernel) -> None:
    (bare.rootfs / "link").symlink_to("/")
    for destination in ("/link", "/usr/.."):
        bare.config["mounts"] = []
        bare.add_mount(destination, "tmpfs", "t")
        with pytest.raises(Error, match="root filesystem itself"):
            run_inside(bare, kernel=kernel)


# Sources inside the root.


@BOTH
@pytest.mark.parametrize("users", [False, True], ids=["", "user namespace"])
@pytest.mark.parametrize("euid", [0, 1000])
@pytest.mark.parametrize("written", ["{}/rootfs/dev/in/sub", "rootfs/dev/in/sub", "{}/rootfs/../rootfs//dev/./in/sub"])
def test_a_source_in_the_root(bare: Bundle, written: str, users: bool, euid: int, kernel: Kernel) -> None:
    """It shows what earlier mounts have put there, files as well as directories."""
    (bare.path / "data/sub").mkdir(parents=True)
    (bare.path / "data/sub/file").write_text("earlier\n")
    bare.add_mount("/dev", "tmpfs", "t", "mode=755")
    bare.add_mount("/dev/in", "bind", str(bare.path / "data"), "bind")
    source = written.format(bare.path)
    bare.add_mount("/dev/out", "bind", source, "rbind", "ro")
    bare.add_mount("/dev/file", "bind", f"{source}/file", "bind")
    if users:
        bare.map_users()

    def look(inside: Inside) -> Any:
        flags = {line.split()[4]: line.split()[5] for line in inside.mountinfo().splitlines()}
        return Path("/dev/out/file").read_text(), Path("/dev/file").read_text(), flags["/dev/out"]

    one, two, flags = run_inside(bare, look, kernel=kernel, euid=euid)
    assert one == two == "earlier\n" and flags.startswith("ro")


def test_a_source_in_the_root_that_is_a_link(bare: Bundle) -> None:
    """It leads where it does in the container, never to a file of the host's."""
    (bare.rootfs / "link").symlink_to("/etc/passwd")
    bare.add_mount("/mnt/x", "bind", "rootfs/link", "bind")
    text = run_inside(bare, lambda _: Path("/mnt/x").read_text())
    assert text == (bare.rootfs / "etc/passwd").read_text() != Path("/etc/passwd").read_text()


@needs("idmapped-mounts")
@pytest.mark.parametrize(
    ("earlier", "users"),  # a tmpfs that a container with a user namespace has made shows its ids as they are
    [("bind", False), ("tmpfs", False), ("nothing", False), ("bind", True), ("nothing", True)],
)
def test_an_idmapped_source_in_the_root(bare: Bundle, earlier: str, users: bool) -> None:
    host = 0 if not users else 100000
    (bare.path / "data").mkdir()
    (bare.rootfs / "mnt/in").mkdir()
    for path in (bare.path / "data", bare.rootfs / "mnt/in"):
        (path / "file").touch()
        os.chown(path / "file", 1000, 1000)
    if earlier == "bind":
        bare.add_mount("/mnt/in", "bind", str(bare.path / "data"), "bind")
    elif earlier == "tmpfs":
        bare.add_mount("/mnt/in", "tmpfs", "t", "tmpcopyup")
    bare.add_mount("/dev", "tmpfs", "t", "mode=755")
    bare.add_mount("/dev/out", "bind", "rootfs/mnt/in", "bind")
    maps = [{"containerID": 1000, "hostID": host + 7, "size": 1}]
    bare.config["mounts"][-1].update(uidMappings=maps, gidMappings=maps)
    if users:
        bare.map_users()
    assert run_inside(bare, lambda _: [os.stat("/dev/out/file").st_uid, os.stat("/dev/out/file").st_gid]) == [7, 7]


# Links themselves.


@pytest.mark.parametrize("words", [("src-nofollow",), ("dest-nofollow",), ("src-nofollow", "dest-nofollow")])
def test_nofollow(bare: Bundle, words: tuple[str, ...]) -> None:
    (bare.path / "real").write_text("real\n")
    (bare.path / "link").symlink_to("real")
    (bare.rootfs / "place").symlink_to("elsewhere")
    bare.add_mount("/place", "bind", str(bare.path / "link"), "bind", *words)

    def look(inside: Inside) -> Any:
        points = {line.split()[4]: line.split()[3] for line in inside.mountinfo().splitlines()}
        target = "/place" if "dest-nofollow" in words else "/elsewhere"
        return points[target].rpartition("/")[2]

    assert run_inside(bare, look) == ("link" if "src-nofollow" in words else "real")


def test_nofollow_of_what_is_missing(bare: Bundle) -> None:
    """As with crun, dest-nofollow makes nothing."""
    bare.add_mount("/missing", "bind", str(bare.path), "bind", "dest-nofollow")
    with pytest.raises(Error, match="no such file"):
        run_inside(bare)


def test_nofollow_is_no_way_into_proc(bare: Bundle) -> None:
    bare.add_mount("/proc", "proc", "proc")
    bare.add_mount("/proc/self", "bind", str(bare.path / "config.json"), "bind", "dest-nofollow")
    with pytest.raises(Error, match="inside /proc"):
        run_inside(bare)
