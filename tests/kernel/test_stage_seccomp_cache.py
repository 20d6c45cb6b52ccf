"""The cache of compiled filters: hit, miss, and every way in which it must not be trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Context, Error, Host, Spec
from gosudacon.stages.seccomp import SeccompStage, compiler, store

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
}


class Compilations:
    """Counts what was really compiled."""

    def __init__(self) -> None:
        self.count = 0
        self.original = compiler.build

    def build(self, *arguments: Any) -> bytes:
        self.count += 1
        return self.original(*arguments)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilations]:
    counter = Compilations()
    monkeypatch.setattr(compiler, "build", counter.build)
    yield counter


@pytest.fixture
def cache(scratch: Path) -> Path:
    return scratch / "cache" / "seccomp"


def compiled(cache: Path | str, profile: Any = PROFILE, **settings: Any) -> bytes:
    stage = SeccompStage()
    stage.settings = {"cache": str(cache), **settings}
    spec = Spec({"linux": {"seccomp": profile}}, "c", "/b")
    context = Context(spec, Host())
    stage.plan(spec, Host())[0].run(context)
    program = context.seccomp_program
    return program


def only(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_second_container_does_not_compile(cache: Path, compilations: Compilations) -> None:
    first = compiled(cache)
    assert compiled(cache) == first
    assert compilations.count == 1
    assert only(cache).stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700


def test_key_of_an_entry(cache: Path, compilations: Compilations) -> None:
    """Whatever the program depends on makes another entry."""
    compiled(cache)
    compiled(cache, {**PROFILE, "defaultAction": "SCMP_ACT_LOG"})
    compiled(cache, PROFILE, **{"other-architectures": "SCMP_ACT_LOG"})
    link = cache.parent / "libseccomp.so.2"
    link.symlink_to(compiler_library())
    compiled(cache, PROFILE, library=str(link))
    assert compilations.count == len(list(cache.iterdir())) == 4


def test_what_it_does_not_depend_on_does_not(cache: Path, compilations: Compilations) -> None:
    compiled(cache)
    compiled(cache, {**PROFILE, "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/x"})
    assert compilations.count == 1


def compiler_library() -> str:
    from gosudacon.stages.seccomp.steps import library

    return library()


def _other_owner(path: Path) -> None:
    os.chown(path, 1000, 1000)


def _writable(path: Path) -> None:
    path.chmod(0o620)


def _symlink(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _of_another_profile(path: Path) -> None:
    compiled(path.parent, {**PROFILE, "defaultAction": "SCMP_ACT_LOG"})
    (other,) = set(path.parent.iterdir()) - {path}
    other.rename(path)


@pytest.mark.parametrize(
    "spoil", [_other_owner, _writable, _symlink, _fifo, _truncated, _empty, _flipped, _of_another_profile]
)
def test_untrusted_entry(cache: Path, compilations: Compilations, spoil: Any) -> None:
    """An entry that cannot be trusted is compiled again."""
    first = compiled(cache)
    spoil(only(cache))
    before = compilations.count
    assert compiled(cache) == first
    assert compilations.count == before + 1
    assert compiled(cache) == first
    assert compilations.count == before + 1  # it was replaced by a good one


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_nothing_is_written_where_others_could_write(cache: Path, compilations: Compilations, mode: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    assert compiled(cache) == compiled(cache)
    assert list(cache.iterdir()) == []
    assert compilations.count == 2


def test_directory_of_another_user(cache: Path) -> None:
    """Nothing is written into another user's directory."""
    cache.mkdir(parents=True)
    os.chown(cache, 1000, 1000)
    compiled(cache)
    assert list(cache.iterdir()) == []


def test_parent_of_another_user(cache: Path) -> None:
    """Nothing is made below another user's directory."""
    cache.parent.mkdir()
    os.chown(cache.parent, 1000, 1000)
    compiled(cache)
    assert list(cache.parent.iterdir()) == []


def test_a_symbolic_link_is_not_followed(cache: Path, scratch: Path) -> None:
    (scratch / "elsewhere").mkdir()
    cache.parent.mkdir()
    cache.symlink_to(scratch / "elsewhere")
    compiled(cache)
    assert list((scratch / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("cache_", ["/proc/1/nowhere", "/dev/null/cache", "relative", "/a/b/c/d/e"])
def test_without_a_cache_it_is_just_compiled(compilations: Compilations, cache_: str) -> None:
    assert compiled(cache_) == compiled(cache_)
    assert compilations.count == 2


def test_the_cache_stays_small(cache: Path) -> None:
    compiled(cache)
    for index in range(store.LIMIT + 10):
        path = cache / f"{index:064x}"
        path.write_bytes(b"x")
        os.utime(path, (1000 + index, 1000 + index))
    (cache / ".1.crashed").write_bytes(b"x")
    os.utime(cache / ".1.crashed", (1000, 1000))
    newest = only_new(cache, {**PROFILE, "defaultAction": "SCMP_ACT_LOG"})
    names = {path.name for path in cache.iterdir()}
    assert len(names) == store.LIMIT
    assert newest in names
    assert f"{store.LIMIT + 9:064x}" in names
    assert f"{0:064x}" not in names and ".1.crashed" not in names


def only_new(cache: Path, profile: dict[str, Any]) -> str:
    before = {path.name for path in cache.iterdir()}
    compiled(cache, profile)
    (name,) = {path.name for path in cache.iterdir()} - before
    return name


def test_profile_that_does_not_compile(cache: Path) -> None:
    """A profile that does not compile leaves nothing."""
    rules = [
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": number,
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
        }
        for number in (1, 2)
    ]
    with pytest.raises(Error, match="ask for different actions"):
        compiled(cache, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    assert not cache.exists()
