"""Cgroups above a container's own: those that create has made go with the last container below them, others stay."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gosudacon.api import Context, Host, Spec
from gosudacon.stages.cgroups import above
from gosudacon.stages.cgroups.create import Note
from tests.conftest import PARENT
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")


def everywhere(path: str) -> list[Path]:
    return [item.mountpoint / path for item in cgroups.hierarchies()]


@pytest.fixture
def parent(token: str, scratch: Path) -> str:
    """A path whose last two directories are missing."""
    return f"{PARENT}/{token}/{scratch.name}/pod"


@pytest.fixture
def make(make_bundle: Callable[..., Bundle], parent: str) -> Callable[..., Bundle]:
    """Bundles whose cgroups are below `parent`."""

    def make(*arguments: object) -> Bundle:
        bundle = make_bundle(*arguments)
        return bundle.set("linux.cgroupsPath", f"/{parent}/{bundle.id}")

    return make


def there(path: str) -> list[Path]:
    return [each for each in everywhere(path) if each.exists()]


@pytest.mark.parametrize("force", [False, True])
def test_they_go(runtime: Runtime, make: Callable[..., Bundle], parent: str, force: bool) -> None:
    bundle = make()
    runtime.create(bundle)
    assert there(parent)
    if force:
        runtime.delete(bundle, "--force")
    else:
        runtime.delete(bundle)
    assert not there(str(Path(parent).parent))


def test_run(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    assert runtime.output(make("echo hi")) == "hi\n"
    assert not there(str(Path(parent).parent))


@pytest.mark.vm
@pytest.mark.parametrize("first", [0, 1])
def test_with_the_last(runtime: Runtime, make: Callable[..., Bundle], parent: str, first: int) -> None:
    """Whether the container that made them or another one is deleted first."""
    both = [make(), make()]
    for bundle in both:
        runtime.create(bundle)
    runtime.delete(both[first])
    assert there(parent)
    runtime.delete(both[1 - first])
    assert not there(str(Path(parent).parent))


def test_others_stay(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    """What was there before stays, and so does what others have put into one that was made."""
    above = everywhere(str(Path(parent).parent))
    for path in above:
        path.mkdir()
    bundle = make()
    runtime.create(bundle)
    guests = [path / "guest" for path in there(parent)]
    for path in guests:
        path.mkdir()
    runtime.delete(bundle)
    assert all(path.is_dir() for path in guests)
    for path in guests:
        path.rmdir()
        path.parent.rmdir()
    assert all(path.is_dir() for path in above)
    for path in above:
        path.rmdir()


def test_another_of_the_name(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    """An empty one that has replaced one that was made is not ours."""
    first = make()
    runtime.create(first)
    runtime.kill(first, "KILL")
    runtime.until(first, "stopped")
    made = there(parent)
    for path in made:
        (path / first.id).rmdir()
        path.rmdir()
        path.mkdir()
    runtime.delete(first)
    assert there(parent) == made
    for path in made:
        path.rmdir()
        path.parent.rmdir()


def test_failed_create(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    bundle = make()
    bundle.set("process.args", ["/nonexistent"])
    assert runtime.create(bundle, check=False).returncode != 0 or runtime.delete(bundle, "--force").returncode == 0
    assert not there(str(Path(parent).parent))


def test_unreadable_state(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    bundle = make()
    runtime.create(bundle)
    (runtime.root / bundle.id / "state.json").write_text("")
    runtime.delete(bundle, "--force")
    assert not there(str(Path(parent).parent))


def test_an_heir_that_ends_before_it_looks(
    runtime: Runtime, make: Callable[..., Bundle], parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was left the parents, and had already looked for that: they are left to the next one."""
    maker, *heirs = (make() for _ in range(3))
    for bundle in (maker, *heirs):
        runtime.create(bundle)

    def end(id: str) -> Path:
        subprocess.run([*runtime.command, "--root", str(runtime.root), "kill", id, "KILL"], check=True)
        for path in there(f"{parent}/{id}"):
            eventually(lambda path=path: not (path / "cgroup.procs").read_text(), 10, "an empty cgroup")  # type: ignore[misc]
            path.rmdir()
        return runtime.root / id

    ended: list[str] = []
    inherit = Note.inherit

    def inherit_too_late(note: Note, parents: dict[str, int]) -> None:
        inherit(note, parents)
        if not ended:
            ended.append(Path(os.readlink(f"/proc/self/fd/{note.at}")).name)
            end(ended[0])
            note.drop()

    context = Context(Spec({}, maker.id, ""), Host())
    context.state_dir = os.open(end(maker.id), os.O_RDONLY)
    note = Note(context)
    note.read()
    monkeypatch.setattr(Note, "inherit", inherit_too_late)
    above.remove(note)
    os.close(context.state_dir)
    (last,) = (bundle for bundle in heirs if bundle.id not in ended)
    assert there(parent)
    runtime.delete(last, "--force")
    assert not there(str(Path(parent).parent))


def test_at_the_same_time(runtime: Runtime, make: Callable[..., Bundle], parent: str) -> None:
    """Containers that come and go below one parent, which each may make or remove."""
    bundles = [make("true") for _ in range(4)]

    def live(bundle: Bundle) -> None:
        for _ in range(8):
            result = runtime.run(bundle)
            assert result.returncode == 0, bundle.stderr

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(live, bundle) for bundle in bundles]:
            future.result()
    assert not there(str(Path(parent).parent))
