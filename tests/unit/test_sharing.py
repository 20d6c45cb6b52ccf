"""Memory that forks share with their parent although they have written to it: `gosudacon.linux.sharing`.

The functions are those of the launcher. What they change here are mappings of the tests' own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gosudacon.launcher import build
from gosudacon.linux import sharing

PAGE = mmap.PAGESIZE
PAGES = 200

pytestmark = pytest.mark.skipif(PAGE != 4096, reason="pages of 4 KiB")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("launcher") / "launcher"
    build.build(target)
    return str(target)


class Memory:
    """A mapping whose pages hold their numbers, but for every fifth, which is empty; and the image of it alone."""

    def __init__(self, launcher: str) -> None:
        self._mapped = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._mapped))
        for number in range(PAGES):
            if number % 5:
                self.put(number, f"page {number}")
        self.image = sharing.Image(launcher)
        only = sharing.Mapping(b"%08x-%08x rw-p 0 0:0 0" % (self.start, self.start + PAGES * PAGE))
        self.image._wanted, self.image._size = [only], PAGES * PAGE

    def put(self, number: int, text: str) -> None:
        ctypes.memmove(self.start + number * PAGE, text.encode().ljust(32, b"\0"), 32)

    def texts(self) -> list[str]:
        return [ctypes.string_at(self.start + number * PAGE).decode() for number in range(PAGES)]

    def own(self) -> list[int]:
        """The pages that no file has: this process's own, or its parent's."""
        with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
            entries = os.pread(file.fileno(), PAGES * 8, self.start // PAGE * 8)
        flags = [int.from_bytes(entries[at : at + 8], "little") >> 61 for at in range(0, len(entries), 8)]
        return [number for number, flag in enumerate(flags) if flag & 4 and not flag & 1]


@pytest.fixture
def memory(launcher: str) -> Iterator[Memory]:
    memory = Memory(launcher)
    yield memory
    os.close(memory.image.fd)


def in_a_fork(act: Callable[[], None]) -> None:
    """Do it in a fork, which must not fail."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent's test fails
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def adopt(memory: Memory, change: Callable[[], None]) -> None:
    """Make the image of a fork that has made the change, and adopt it."""

    def rehearse() -> None:
        change()
        in_a_fork(lambda: memory.image.write(os.getppid(), memory.image.fd))

    in_a_fork(rehearse)
    memory.image.adopt()


def test_what_a_process_sees_stays_when_it_adopts_an_image(memory: Memory) -> None:
    before = memory.texts()

    def change() -> None:
        memory.put(3, "changed")
        memory.put(5, "was empty")
        ctypes.memset(memory.start + 7 * PAGE, 0, PAGE)

    adopt(memory, change)
    assert memory.texts() == before
    assert memory.own() == [3, 5, 7]  # all others are as in the image


def test_a_fork_shares_what_it_has_written_as_others_do(memory: Memory) -> None:
    adopt(memory, lambda: memory.put(3, "changed"))

    def live() -> None:
        memory.put(3, "changed")
        memory.put(4, "only here")
        memory.put(6, "for a while")
        memory.put(6, "page 6")
        expected = memory.texts()
        assert memory.own() == [3, 4, 6]
        assert memory.image.share() == 2
        assert memory.texts() == expected
        assert memory.own() == [4]
        memory.put(3, "and on")
        assert memory.image.share() == 0
        assert memory.texts()[3] == "and on"

    in_a_fork(live)
    assert memory.texts()[3] == "page 3"


def test_a_fork_that_has_other_memory_there_by_now_keeps_what_is_in_it(memory: Memory) -> None:
    """A heap that shrinks and grows has new memory at old addresses; what is dropped there is lost."""
    adopt(memory, lambda: None)

    def live() -> None:
        fixed, private, anonymous = 0x10, 0x02, 0x20
        function = ctypes.CDLL(None, use_errno=True).mmap
        function.restype = ctypes.c_void_p
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
        kept = memory.texts()
        place, length = memory.start + 10 * PAGE, 20 * PAGE
        assert function(place, length, 3, fixed | private | anonymous, -1, 0) == place
        for number in range(10, 30):
            memory.put(number, kept[number])
        memory.image.share()
        assert memory.texts() == kept

    in_a_fork(live)


def test_memory_that_has_gone_is_left_out(memory: Memory) -> None:
    memory.image._wanted.append(sharing.Mapping(b"%08x-%08x rw-p 0 0:0 0" % (PAGE, 4 * PAGE)))
    memory.image._wanted[1].offset = PAGES * PAGE
    memory.image._size += 3 * PAGE
    adopt(memory, lambda: memory.put(1, "changed"))

    def live() -> None:
        memory.put(1, "changed")
        assert memory.image.share() == 1

    in_a_fork(live)


@pytest.mark.parametrize("what", ["descriptor", "time", "neither"])
def test_it_waits_when_it_has_shared(memory: Memory, what: str) -> None:
    """As poll(2) does: a pipe is written to after a while, or that is over, or nothing is waited for."""
    adopt(memory, lambda: None)
    reader, writer = os.pipe()
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)

    def live() -> None:
        memory.put(3, "only here")
        if what == "descriptor" and os.fork() == 0:
            time.sleep(0.2)
            os.write(writer, b"x")
            os._exit(0)
        before = time.monotonic()
        memory.image.share(epoll.fileno(), {"descriptor": -1, "time": 0.3, "neither": 0}[what])
        waited = time.monotonic() - before
        assert waited >= {"descriptor": 0.1, "time": 0.29, "neither": 0}[what]
        assert bool(epoll.poll(0)) == (what == "descriptor")

    in_a_fork(live)
    epoll.close()
    os.close(reader)
    os.close(writer)


def test_its_functions_find_their_constants(launcher: str) -> None:
    """All that is not written to is in one segment, which is what is mapped of the launcher."""
    data = Path(launcher).read_bytes()
    table, size, count = sharing._HEADER.unpack_from(data)
    segments = [sharing._SEGMENT.unpack_from(data, table + number * size) for number in range(count)]
    writable = 2  # p_flags
    assert len([1 for kind, flags, *_ in segments if kind == sharing._LOAD and not flags & writable]) == 1


def test_the_image_is_written_to_its_own_file_alone(memory: Memory, tmp_path: Path) -> None:
    with (tmp_path / "other").open("w+b") as other:
        with pytest.raises(ValueError, match="not the file"):
            memory.image.write(os.getpid(), other.fileno())
        assert other.seek(0, os.SEEK_END) == 0


def test_the_image_cannot_be_written_to_any_more(memory: Memory) -> None:
    adopt(memory, lambda: None)
    with pytest.raises(PermissionError):
        os.pwrite(memory.image.fd, b"x", 0)


_WHOLE = """
import gc, os, sys
sys.path[:0] = sys.argv[2:]
from gosudacon.linux import sharing
objects = [{str(number): [number] * 3} for number in range(20000)]
gc.freeze()
image = sharing.Image(sys.argv[1])
def live():
    for each in objects:
        for name, value in each.items():
            assert value == [int(name)] * 3
def forked(act):
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
def rehearse():
    live()
    forked(lambda: image.write(os.getppid(), image.fd))
def own():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous"))
def after():
    live()
    before = own()
    count = image.share()
    live_objects = len(objects)
    print(before, own(), count, live_objects)
    sys.stdout.flush()
    for _ in range(3):
        live()
        image.share()
forked(rehearse)
image.adopt()
live()
forked(after)
live()
"""


def test_a_whole_interpreter_goes_on(launcher: str) -> None:
    """Of the memory of a fork that has looked at all of its objects most is shared again, and all objects are right."""
    result = subprocess.run(
        [sys.executable, "-c", _WHOLE, launcher, *sys.path], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    before, after, dropped, objects = map(int, result.stdout.split())
    assert objects == 20000
    assert before - after > 3 * dropped  # KiB, of pages of four
    assert dropped > before / 4 / 2


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF" + bytes(60) + b"gosudacon-slot:pages".ljust(48, b"\0")]
)
def test_a_file_that_is_not_such_a_launcher(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "launcher"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        sharing.Image(str(path))
    with pytest.raises(FileNotFoundError):
        sharing.Image(str(tmp_path / "nothing"))
