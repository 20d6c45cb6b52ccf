"""How the plugin network calls nft(8)."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from gosudacon.api import Error
from gosudacon.plugins.network import leases, nat, nft
from tests.support.children import in_child
from tests.support.timing import eventually


def program(path: Path, script: str) -> str:
    made = path / "nft"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return str(made)


def test_what_it_is_given(tmp_path: Path) -> None:
    text = "add table inet x\n" * 10_000
    nft.load(program(tmp_path, f'test "$*" = "-f -" && env > {tmp_path}/env && cat > {tmp_path}/rules'), text)
    assert (tmp_path / "rules").read_text() == text
    assert "HOME" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such '\n' table >&2; exit 1", "nft: no such table"),
        ("exit 3", "nft: exit status 3"),
        ("kill -9 $$", "nft: exit status -9"),
    ],
)
def test_when_it_refuses(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(Error) as error:
        nft.load(program(tmp_path, script), "")
    assert error.value.message.endswith(message)


def test_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"NAT and published ports need .*/nft, which is not installed"):
        nft.load(str(tmp_path / "nft"), "")


def test_when_it_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "_PATIENCE", 0.01)
    with pytest.raises(Error, match="did not end within"):
        nft.load(program(tmp_path, "exec sleep 1000"), "")


@pytest.mark.parametrize(("script", "message"), [("exit 0", ""), ("echo bad >&2; exit 1", "nft: bad")])
def test_where_the_caller_ignores_its_children(tmp_path: Path, script: str, message: str) -> None:
    """Then nobody knows the exit status, and what it says has to do."""
    made = program(tmp_path, script)

    def load() -> str:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            nft.load(made, "")
        except Error as error:
            return error.message
        return ""

    assert in_child(load).endswith(message)


def test_work_that_is_done_meanwhile(tmp_path: Path) -> None:
    """The program runs beside the block, and the block has it ended."""
    made = program(tmp_path, f"mkfifo {tmp_path}/go; touch {tmp_path}/runs; read line < {tmp_path}/go; exit $line")
    with nft.loading(made, ""):
        eventually(lambda: (tmp_path / "runs").exists(), what="its start")
        (tmp_path / "go").write_text("0\n")
    with pytest.raises(nft.Refused, match="exit status 1"), nft.loading(program(tmp_path, "exit 1"), ""):
        pass


def test_a_failure_of_the_work_is_the_news(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), nft.loading(program(tmp_path, "exit 1"), ""):
        raise ZeroDivisionError


def test_the_lock_outlives_who_started_it(tmp_path: Path) -> None:
    """Else rules of a process that was killed could be loaded after those of the next one."""
    lock, other = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with nft.loading(program(tmp_path, f"mkfifo {tmp_path}/go; read line < {tmp_path}/go"), "", lock):
            os.close(lock)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            eventually(lambda: (tmp_path / "go").exists(), what="its start")
            (tmp_path / "go").write_text("\n")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_rules_that_were_not_loaded_are_stale_as_before(tmp_path: Path) -> None:
    refuses = program(tmp_path, "exit 1")
    with leases.opened(str(tmp_path / "leases"), "br0") as book:
        book.leases["gsd1"] = {"id": "web", "owner": ["/", 0, 0], "addresses": {}}
        book.nft, book.stale = "/sbin/nft", True
        book.save()
        with pytest.raises(nft.Refused):
            nat.set_rules(book, ["10.0.0.0/8"], True, refuses)
        again = leases.Book(book.lock, "br0")
        assert (again.stale, again.nft, again.subnets, again.nat) == (True, "/sbin/nft", [], False)
        nat.set_rules(book, ["10.0.0.0/8"], True, program(tmp_path, "exit 0"))
        assert not book.stale


@pytest.mark.parametrize(("there", "loads"), [(False, 1), (True, 2)])
def test_the_first_table_is_a_new_one_if_it_can_be(tmp_path: Path, there: bool, loads: int) -> None:
    """And takes the place of one that is there, of a process that was killed."""
    text = f"cat > {tmp_path}/text; cat {tmp_path}/text >> {tmp_path}/log; echo . >> {tmp_path}/log"
    refusing = f"{text}; ! grep -q ^create {tmp_path}/text" if there else text
    with leases.opened(str(tmp_path / "leases"), "br0") as book:
        nat.set_rules(book, ["10.0.0.0/8"], True, program(tmp_path, refusing))
    log = (tmp_path / "log").read_text()
    assert log.count("\n.\n") == loads
    assert log.startswith("create table inet gosudacon-br0\ntable inet gosudacon-br0 {")
    assert ("add table inet gosudacon-br0\ndelete table" in log) is there
