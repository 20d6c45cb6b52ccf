"""Mounts as runc makes them: both run the same configuration, and what the process sees is compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.scratch_root import Mounted, mountinfo

pytestmark = needs("program:runc", "runtime:gosudacon")


@pytest.fixture
def runc(scratch: Path) -> Iterator[Runtime]:
    made = Runtime(["runc"], scratch / "runc")
    yield made
    made.clean()


@pytest.fixture
def data(bundle: Bundle) -> Iterator[Path]:
    """A noatime tmpfs with a nosuid one below."""
    path = bundle.path / "data"
    (path).mkdir()
    namespaces.mount("data", str(path), "tmpfs", 0x400)
    (path / "sub").mkdir()
    (path / "file").write_text("text")
    namespaces.mount("sub", str(path / "sub"), "tmpfs", 2)
    yield path
    namespaces.unmount(str(path / "sub"))
    namespaces.unmount(str(path))


def seen(runtime: Runtime, bundle: Bundle) -> dict[str, tuple[str, ...]]:
    bundle.set("process.args", ["cat", "/proc/self/mountinfo"])
    before = len(bundle.stdout)
    result = runtime.run(bundle, container_id=f"{bundle.id}-{runtime.name}")
    assert result.returncode == 0, result.stderr
    return {each.point: of_interest(each) for each in mountinfo(bundle.stdout[before:]) if each.point.startswith("/x")}


def of_interest(each: Mounted) -> tuple[str, ...]:
    kinds = {word.partition(":")[0] for word in each.propagation.split()}
    return each.root, each.options, each.fstype, " ".join(sorted(kinds))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ro"],
        ["rw"],
        ["nosuid", "nodev"],
        ["suid"],
        ["noexec", "exec"],
        ["relatime", "ro"],
        ["strictatime"],
        ["nodiratime", "relatime"],
        ["rro"],
        ["rnosuid", "rnodev", "rnoexec"],
        ["rrelatime"],
        ["norelatime"],
        ["nostrictatime"],
        ["rprivate"],
        ["rslave"],
        ["rshared"],
        ["private", "shared"],
        ["unbindable"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("how", ["bind", "rbind"])
def test_bind_mounts(
    runtime: Runtime,
    runc: Runtime,
    bundle: Bundle,
    data: Path,
    how: str,
    words: list[str],
) -> None:
    bundle.add_mount("/x/one", "bind", str(data), how, *words)
    bundle.add_mount(
        "/x/file", "bind", str(data / "file"), how, *(word for word in words if word[0] != "r" or word[1] in "ew")
    )
    assert seen(runtime, bundle) == seen(runc, bundle)


def test_places(runtime: Runtime, runc: Runtime, bundle: Bundle) -> None:
    """Through links, `..`, and what is missing; and from sources in the root."""
    for name, target in (("link", "/x/real"), ("hanging", "../x/made"), ("up", "../../../../x")):
        (bundle.rootfs / name).symlink_to(target)
    (bundle.rootfs / "x/real").mkdir(parents=True)
    (bundle.path / "in/deep").mkdir(parents=True)
    (bundle.path / "in/file").touch()
    mounts: list[dict[str, Any]] = bundle.config["mounts"]
    for destination in ("/link/a", "/hanging/b", "/up/c", "/x/new/../d", "/x/new/deep/../../e", "x/f"):
        mounts.append({"destination": destination, "type": "tmpfs", "source": "t", "options": ["size=4k"]})
    bundle.add_mount("/x/in", "bind", str(bundle.path / "in"), "bind")
    bundle.add_mount("/x/out", "bind", str(bundle.rootfs / "x/in/deep"), "bind")
    bundle.add_mount("/x/file", "bind", str(bundle.rootfs / "x/in/file"), "bind", "ro")
    # The sources are on the mount that the root is on. Later releases of runc, 1.1.15 among them, make that one private
    # before they bind anything, so whether these three hear of the host's mounts depends on the release.
    found = [seen(each, bundle) for each in (runtime, runc)]
    ours, theirs = ({point: what[:3] for point, what in each.items()} for each in found)
    assert ours == theirs
    assert {what[3] for what in found[0].values()} <= {"", "master"}  # in any case the host hears of none of ours
    assert not os.path.exists(bundle.rootfs / "x/new")
