"""The tools of the tests that need no kernel: skips, reports, the machine's archive and streams."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.needs import AllowedSkips, needs
from tests.vm import kernel
from tests.vm.guest import Archive
from tests.vm.machine import MachineError, MachineTimeout, Streams
from tools import environments, results, run_tests

MARK = b"0123456789abcdef"


def skips(path: Path, text: str) -> AllowedSkips:
    path.write_text(text)
    return AllowedSkips(path)


def test_allowed_skips(tmp_path: Path) -> None:
    rules = skips(
        tmp_path / "list", "# words\n\n* :: needs systemd  # the machine has it\ntests/a.py::* :: why  # so\n"
    )
    assert rules.allow("tests/kernel/test_x.py::test_y[1]", "needs systemd")
    assert rules.allow("tests/a.py::test", "why")
    assert not rules.allow("tests/b.py::test", "why")
    assert not rules.allow("tests/a.py::test", "needs")


@pytest.mark.parametrize("line", ["* needs systemd # why", "* :: needs systemd", "* :: needs systemd #"])
def test_a_rule_without_its_reason_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=":1: want"):
        skips(tmp_path / "list", line)


def test_the_list_of_skips_can_be_read() -> None:
    assert AllowedSkips(Path(__file__).parents[1] / "allowed_skips.txt").patterns


def test_an_unknown_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown need 'cgroup-v3'"):
        needs("root", "cgroup-v3")


REPORT = """<testsuites><testsuite>
<testcase classname="a" name="one"/>
<testcase classname="a" name="two"><skipped message="not here"/></testcase>
<testcase classname="a" name="five"><skipped message="needs cgroup-v2"/></testcase>
<testcase classname="a" name="three"><failure/></testcase>
<testcase classname="a" name="four"/><testcase classname="a" name="four"><error/></testcase>
</testsuite></testsuites>"""


SECOND_REPORT = """<testsuites><testsuite>
<testcase classname="a" name="three"/>
<testcase classname="a" name="four"/><testcase classname="a" name="four"><error/></testcase>
</testsuite></testsuites>"""


def test_reports(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    cases = results.read_report(tmp_path / "r.xml")
    assert cases == {
        "a::one": "passed",
        "a::two": "skipped",
        "a::five": "unmet",
        "a::three": "failed",
        "a::four": "failed",
    }
    assert results.read_report(tmp_path / "none.xml") == {}
    second = results.second_report(tmp_path / "r.xml")
    second.parent.mkdir()
    second.write_text(SECOND_REPORT)
    assert results.read_report(tmp_path / "r.xml") == {**cases, "a::three": "unsteady"}


def test_tests_that_ran_nowhere() -> None:
    found = [
        results.Result("here", True, 0, cases={"a": "unmet", "b": "unmet", "c": "passed", "d": "skipped"}),
        results.Result("there", True, 0, cases={"b": "passed"}),
    ]
    assert results.never_run(found) == ["a"]


def test_the_closing_line_counts_checks_and_tests(capsys: pytest.CaptureFixture[str]) -> None:
    found = [results.Result("lint", True, 1), results.Result("unit", True, 1, cases={"a": "passed"})]
    assert results.report(found, complete=True) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 0 failed, 0 skipped"
    found.append(results.Result("mypy", False, 1, "exit status 1"))
    assert results.report(found, complete=True) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed, 0 skipped"


def test_the_end_names_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {"a": "passed", "b": "unsteady", "c": "failed"}
    assert results.report([results.Result("unit", False, 1, cases=cases)], complete=True) == 1
    said = capsys.readouterr().out.splitlines()
    assert "failed, and passed when run once more: b (unit)" in said and "failed: c (unit)" in said
    assert said[-1] == "2 passed, 1 failed, 0 skipped"


def test_version_of_an_interpreter(tmp_path: Path) -> None:
    assert environments.version_of(Path(os.path.realpath(sys.executable))) == sys.version_info[:2]
    assert environments.version_of(tmp_path / "python3.99") == (0, 0)


def members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and contents by name, of a cpio archive."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + numbers[11] - 1].decode()
        start = -(-(at + 110 + numbers[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (numbers[1], data[start : start + numbers[6]])
        at = -(-(start + numbers[6]) // 4) * 4


def test_archive() -> None:
    archive = Archive()
    archive.file("a/b/script", "text", 0o755)
    archive.file("a/b/odd", b"12345")
    archive.link("a/link", "b/odd")
    archive.directory("a/empty")
    assert members(archive.finish()) == {
        "a": (0o40755, b""),
        "a/b": (0o40755, b""),
        "a/b/script": (0o100755, b"text"),
        "a/b/odd": (0o100644, b"12345"),
        "a/link": (0o120777, b"b/odd"),
        "a/empty": (0o40755, b""),
    }


def fake_kernel(root: Path, release: str) -> Path:
    (root / "boot").mkdir(exist_ok=True, parents=True)
    modules = root / "lib/modules" / release
    modules.mkdir(parents=True)
    image = root / "boot" / f"vmlinuz-{release}"
    image.touch()
    (modules / "fs").mkdir()
    (modules / "fs/ext4.ko").write_bytes(b"ext4")
    (modules / "fs/crc-16.ko").write_bytes(b"crc")
    (modules / "fs/other.ko").write_bytes(b"other")
    lines = ["fs/ext4.ko: fs/crc-16.ko", "fs/crc-16.ko:", "fs/other.ko: fs/ext4.ko"]
    (modules / "modules.dep").write_text("\n".join(lines) + "\n")
    return image


def test_kernel_and_its_modules(tmp_path: Path) -> None:
    found = kernel.find_kernel(fake_kernel(tmp_path, "6.1.0-9-cloud-amd64"))
    assert found.release == "6.1.0-9-cloud-amd64"
    files, names = kernel.load_modules(found, ["ext4", "overlay"])
    assert names == ["ext4"]
    table = files.pop("modules.dep")
    assert files == {"fs/ext4.ko": b"ext4", "fs/crc-16.ko": b"crc"}
    assert table == b"fs/ext4.ko: fs/crc-16.ko\nfs/crc-16.ko: \n"


def test_a_kernel_without_modules(tmp_path: Path) -> None:
    with pytest.raises(kernel.NoKernel, match="install linux-image-cloud-amd64"):
        kernel.find_kernel(tmp_path / "vmlinuz-0.0.0-none")


def pump(writes: list[tuple[str, bytes]], limit: float = 10.0) -> tuple[int, bytes, bytes]:
    """What comes out of the streams for what a machine writes, a piece at a time."""
    out, err = bytearray(), bytearray()
    streams = Streams(MARK, out.extend, err.extend, lambda data: None)

    def write() -> None:
        for name, data in writes:
            os.write(streams.ports[name], data)
            time.sleep(0.01)
        streams.close_ports()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return streams.pump(time.monotonic() + limit), bytes(out), bytes(err)
    finally:
        thread.join()
        streams.close()


def test_the_mark_is_found_in_pieces_and_not_passed_on() -> None:
    writes = [("out", b"one " + MARK[:5]), ("out", b"two" + MARK[:3]), ("err", MARK), ("status", b"1")]
    writes += [("out", MARK[3:]), ("status", b"7\n")]
    assert pump(writes) == (17, b"one " + MARK[:5] + b"two", b"")


def test_a_machine_that_ends_early_shows_its_console() -> None:
    with pytest.raises(MachineError, match="panic"):
        pump([("console", b"kernel panic"), ("out", b"text")])


def test_time_is_up() -> None:
    out = bytearray()
    streams = Streams(MARK, out.extend, out.extend, out.extend)
    with pytest.raises(MachineTimeout):
        streams.pump(time.monotonic() + 0.05)
    streams.close_ports()
    streams.close()


def test_clean_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a run leaves in the checkout is a failure in CI, an ignored one as well; .test-cache is none."""
    monkeypatch.setattr(run_tests, "CHECKOUT", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("*.log\n/.test-cache/\n")
    before = run_tests.checkout_status()
    (tmp_path / ".test-cache").mkdir()
    (tmp_path / ".test-cache/a report").touch()
    monkeypatch.setenv("CI", "true")
    assert run_tests.check_checkout(before).passed
    (tmp_path / "criu.log").touch()
    assert not run_tests.check_checkout(before).passed
    monkeypatch.setenv("CI", "")
    assert run_tests.check_checkout(before) == results.Result("clean checkout", True, 0, "1 files left")
