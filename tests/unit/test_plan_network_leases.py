"""The book of leases of the plugin network: allocation, ownership, reclaiming, and its file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gosudacon.api import Context, Error, Host, Spec
from gosudacon.plugins.network.leases import Book, opened
from gosudacon.plugins.network.subnets import Subnet
from tests.support.children import in_child

SUBNETS = [Subnet("10.0.0.0/29"), Subnet("fd00::/64")]
Owners = Callable[[str], Context]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owners]:
    """A function that makes a container's context, with a state directory."""
    contexts: list[Context] = []

    def make(id: str) -> Context:
        directory = tmp_path / "root" / id
        directory.mkdir(parents=True)
        context = Context(Spec({}, id, "/b"), Host())
        context.state_dir = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        os.close(context.state_dir)


def saved(path: Path) -> dict[str, object]:
    data = json.loads((path / "br0.json").read_text())
    assert isinstance(data, dict)
    return data


def test_a_lease_is_kept_until_it_is_given_up(tmp_path: Path, owner: Owners) -> None:
    path = tmp_path / "leases"
    with opened(str(path), "br0") as book:
        assert book.take("gsd1", SUBNETS, owner("a")) == {"10.0.0.0/29": "10.0.0.2", "fd00::/64": "fd00::2"}
    with opened(str(path), "br0") as book:
        assert book.take("gsd2", SUBNETS, owner("b")) == {"10.0.0.0/29": "10.0.0.3", "fd00::/64": "fd00::3"}
        del book.leases["gsd1"]
        book.save()
    assert set(saved(path)["leases"]) == {"gsd2"}  # type: ignore[call-overload]
    assert path.stat().st_mode & 0o777 == 0o700
    with opened(str(path), "br0") as book:
        assert book.take("gsd1", SUBNETS, owner("c"))["10.0.0.0/29"] == "10.0.0.4"
        book.leases.clear()
        book.save()
    assert not path.exists()


def test_bridges_have_books_of_their_own(tmp_path: Path, owner: Owners) -> None:
    for bridge in ("br0", "br1"):
        with opened(str(tmp_path / "leases"), bridge) as book:
            assert book.take("gsd1", SUBNETS, owner(bridge))["10.0.0.0/29"] == "10.0.0.2"
    with opened(str(tmp_path / "leases"), "br0") as book:
        book.leases.clear()
        book.save()
    assert os.listdir(tmp_path / "leases") == ["br1.json"]


def test_a_full_subnet_names_itself_and_books_nothing(tmp_path: Path, owner: Owners) -> None:
    full = [Subnet("fd00::/64"), Subnet("10.0.0.0/30")]
    with opened(str(tmp_path / "leases"), "br0") as book:
        book.take("gsd1", full, owner("a"))
        with pytest.raises(Error, match=r"no address is left in 10\.0\.0\.0/30; in use: 1"):
            book.take("gsd2", full, owner("b"))
    with opened(str(tmp_path / "leases"), "br0") as book:
        assert set(book.leases) == {"gsd1"}


def test_a_container_is_known_by_its_state_directory(tmp_path: Path, owner: Owners) -> None:
    one, other = owner("a"), owner("b")
    with opened(str(tmp_path / "leases"), "br0") as book:
        book.take("gsd1", SUBNETS, one)
        assert not book.is_another("gsd1", one)
        assert book.is_another("gsd1", other)
        assert not book.is_another("gsd2", other)


def test_who_is_gone_loses_the_lease(tmp_path: Path, owner: Owners) -> None:
    with opened(str(tmp_path / "leases"), "br0") as book:
        book.take("gsd1", SUBNETS, owner("alive"))
        book.take("gsd2", SUBNETS, owner("gone"))
        book.take("lo", SUBNETS, owner("running"))  # its link is there
        for name in ("gone", "running"):
            (tmp_path / "root" / name).rename(tmp_path / f"was-{name}")
        book.reclaim()
        assert set(book.leases) == {"gsd1", "lo"}
        (tmp_path / "root/alive").rename(tmp_path / "was-alive")
        (tmp_path / "root/alive").mkdir()  # another container of the same id
        book.reclaim()
        assert set(book.leases) == {"lo"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}'])
def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "leases"
    path.mkdir(0o700)
    (path / "br0.json").write_text(text)
    with pytest.raises(Error, match="not a lease file of this version"), opened(str(path), "br0"):
        pass


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "leases"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(Error, match="writable only by its owner"), opened(str(path), "br0"):
        pass


def test_directory_is_a_link(tmp_path: Path) -> None:
    """A link in the place of the directory is not followed."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "leases").symlink_to("real")
    with pytest.raises(OSError), opened(str(tmp_path / "leases"), "br0"):
        pass


def test_a_write_that_was_cut_short_changes_nothing(tmp_path: Path, owner: Owners) -> None:
    path = tmp_path / "leases"
    with opened(str(path), "br0") as book:
        book.take("gsd1", SUBNETS, owner("a"))
    (path / ".br0.json.new").write_text("{")
    with opened(str(path), "br0") as book:
        assert set(book.leases) == {"gsd1"}
        book.leases.clear()
        book.save()
    assert not path.exists()


def test_the_lock_survives_the_directory(tmp_path: Path) -> None:
    """Many processes take turns while the directory is made and removed again and again: no two are inside at once."""
    path, inside, counter = str(tmp_path / "run" / "leases"), tmp_path / "inside", tmp_path / "counter"
    counter.write_text("0")

    def turns() -> int:
        for _ in range(500):
            with opened(path, "br0") as book:
                inside.mkdir()  # fails if another is inside
                counter.write_text(str(int(counter.read_text()) + 1))
                inside.rmdir()
                assert isinstance(book, Book)
        return 0

    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = turns()
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
    assert counter.read_text() == "2000"
    assert not os.path.exists(path)


def test_a_process_that_dies_inside_gives_up_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "leases")

    def die() -> None:
        with opened(path, "br0"):
            os.kill(os.getpid(), 9)

    with pytest.raises(Exception, match="-9"):
        in_child(die)
    with opened(path, "br0") as book:
        assert book.leases == {}
    assert not os.path.exists(path)


def test_half_written_lease_book(tmp_path: Path) -> None:
    """Also where that one has no lease of its own: it undoes one that was never booked."""
    path = tmp_path / "leases"
    path.mkdir(mode=0o700)
    (path / ".br0.json.new").write_text("{")
    with opened(str(path), "br0") as book:
        assert book.leases == {}
    assert not path.exists()
