"""The error's record, in the forms that containerd, Podman and people read."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base.errors import Error, StepError, SyscallError, reason
from gosudacon.cli.log import Log, open_log, quote

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
REPOSITORY = Path(__file__).parents[2]


def opened(path: str | Path, format: str = "json", debug: bool = False) -> Log:
    return open_log({"log": str(path), "log-format": format, "debug": debug})


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_without_a_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    opened("", "text").error(Error("container does not exist"))
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(f'time="{TIME}" level=error msg="container does not exist"\n', err)


def test_json_without_a_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    opened("").error("oops")
    assert json.loads(capfd.readouterr().err)["msg"] == "oops"


@pytest.mark.parametrize("path", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"])
def test_stderr_by_name(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    log = opened(path, "text")
    assert log.fd == -1
    log.error("oops")
    assert capfd.readouterr().err.count("oops") == 1


def test_json_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.json"
    opened(path).error(Error("container does not exist"), "gosudacon create failed: ")
    message = "gosudacon create failed: container does not exist"
    text = path.read_text()
    assert re.fullmatch(rf'\{{"level":"error","msg":"{message}","time":"{TIME}"\}}\n', text)
    assert capfd.readouterr() == ("", message + "\n")


def test_text_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    opened(path, "text").error('exec: "sh": permission denied')
    assert re.fullmatch(rf'time="{TIME}" level=error msg="exec: \\"sh\\": permission denied"\n', path.read_text())
    assert capfd.readouterr().err == 'exec: "sh": permission denied\n'


def test_one_word_is_not_quoted(capfd: pytest.CaptureFixture[str]) -> None:
    opened("", "text").error("/a-b_c.d@e^f+1")
    assert capfd.readouterr().err.endswith("msg=/a-b_c.d@e^f+1\n")


@pytest.mark.parametrize(
    "message",
    ["two\nlines", "\udcff\udc80", "\ud800", "\x00\x1b[2J\x7f", "é\u2028𝄞\u202e", '"\\', "", "x" * 100_000],
)
def test_every_record_is_one_object_on_one_line(
    message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.json"
    log = opened(path)
    log.error(message)
    log.error(message)
    data = path.read_bytes()
    assert data.isascii() and data.count(b"\n") == 2
    for record in records(path):
        assert list(record) == ["level", "msg", "time"]
        assert record["msg"][:1000] == message[:1000]
        assert len(record["msg"]) < 33_000
    err = capfd.readouterr().err
    assert "\x1b" not in err and "\x00" not in err and "\u202e" not in err


def test_lines_of_a_message_stay_lines_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened(tmp_path / "log").error("invalid:\n\tmounts[0]\n\tmounts[1]")
    assert capfd.readouterr().err == "invalid:\n\tmounts[0]\n\tmounts[1]\n"


def test_appends(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for number in range(3):
        log = opened(path)
        log.error(str(number))
        os.close(log.fd)
    assert [record["msg"] for record in records(path)] == ["0", "1", "2"]


def test_silence_when_all_goes_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in ("", str(tmp_path / "log")):
        log = opened(path)
        log.debug("nothing")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "log").read_bytes() == b""


def test_debug(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    log = opened(path, debug=True)
    log.debug("mount proc")
    log.warning("odd")
    assert [(record["level"], record["msg"]) for record in records(path)] == [
        ("debug", "mount proc"),
        ("warning", "odd"),
    ]
    assert capfd.readouterr().err == ""


def test_debug_shows_where_a_bug_is(capfd: pytest.CaptureFixture[str]) -> None:
    log = opened("", debug=True)
    try:
        dict[str, str]()["missing"]
    except KeyError as error:
        log.error(error)
    lines = capfd.readouterr().err.splitlines()
    assert json.loads(lines[0])["msg"] == "KeyError: 'missing'"
    assert any("test_cli_log.py" in line for line in lines[1:])


def test_mode_and_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    old = os.umask(0o022)
    try:
        log = opened(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert log.fd >= 512, "out of the way of --preserve-fds"
    assert not os.get_inheritable(log.fd)
    os.close(log.fd)


def test_the_descriptor_stays_when_the_path_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(path)
    path.rename(tmp_path / "moved")
    path.symlink_to("/nonexistent")
    log.error("oops")
    assert records(tmp_path / "moved")[0]["msg"] == "oops"


def test_cruns_prefix(tmp_path: Path) -> None:
    opened(f"file:{tmp_path}/log").error("oops")
    assert records(tmp_path / "log")[0]["msg"] == "oops"


@pytest.mark.parametrize("path", ["journald:x", "syslog:x"])
def test_other_kinds_of_crun_are_refused(path: str) -> None:
    with pytest.raises(Error, match="is not supported"):
        opened(path)


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(Error, match=r"^open .*/log: too many levels of symbolic links$"):
        opened(tmp_path / "log")


def test_a_fifo_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(
        Error, match=r"^open .*/log: no such device or address: no process has opened it to read within"
    ):
        opened(tmp_path / "log")


def test_bad_path(tmp_path: Path) -> None:
    with pytest.raises(Error) as caught:
        opened(tmp_path / "none" / "log")
    assert caught.value.message == f"open {tmp_path}/none/log: no such file or directory"
    with pytest.raises(Error, match="embedded null"):
        opened("a\x00b")


@pytest.mark.parametrize("format", ["xml", "", "JSON"])
def test_bad_format(format: str) -> None:
    with pytest.raises(Error) as caught:
        opened("", format)
    assert caught.value.message == f"invalid log-format: {format}"


def test_a_full_or_closed_log_is_no_second_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Log(writer, True).error("oops")
    os.close(writer)
    Log(writer, True).error("oops")


FAILED = StepError(
    "error mounting",
    stage="rootfs-mount",
    step="mount proc on /proc",
    call="fsmount",
    errno=1,
    where="mounts[0]",
    hint="be\n\x1b root",
)
WHOLE = "error mounting (rootfs-mount: mount proc on /proc, mounts[0])"


def test_one_line_and_a_hint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The words that callers match, then stage, step and place; what to do is a line of its own, always."""
    opened(tmp_path / "log").error(FAILED, "gosudacon create failed: ")
    assert capfd.readouterr().err == f"gosudacon create failed: {WHOLE}\nhint: be \\x1b root\n"
    (record,) = records(tmp_path / "log")
    assert record.pop("time")
    assert record == {
        "level": "error",
        "msg": f"gosudacon create failed: {WHOLE}",
        "stage": "rootfs-mount",
        "step": "mount proc on /proc",
        "call": "fsmount",
        "errno": 1,
        "where": "mounts[0]",
        "hint": "be\n\x1b root",
    }


def test_facts_of_a_text_log(tmp_path: Path) -> None:
    opened(tmp_path / "log", "text").error(FAILED)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith(
        f'msg="{WHOLE}" stage=rootfs-mount step="mount proc on /proc" call=fsmount errno=1'
        ' where="mounts[0]" hint="be\\n\\x1b root"'
    )


def test_hint_without_a_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    opened("", "text").error(FAILED)
    record, hint = capfd.readouterr().err.splitlines()
    assert record.endswith(f'level=error msg="{WHOLE}"') and hint == "hint: be \\x1b root"


def test_json_on_stderr_stays_json(capfd: pytest.CaptureFixture[str]) -> None:
    opened("").error(FAILED)
    assert json.loads(capfd.readouterr().err)["hint"] == FAILED.hint


def test_place_with_line_and_column() -> None:
    error = Error("unable to set hostname", where="hostname")
    error.place = "config.json:47:14: hostname"
    assert error.facts() == {"where": error.place} and error.whereabouts() == error.place


def test_a_step_in_the_message_is_not_repeated() -> None:
    assert StepError("chdir(/x): no", stage="handoff", step="chdir(/x)").whereabouts() == "handoff"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SyscallError(0, "connect", "/x"), "connect /x: file name too long"),
        (OSError("AF_UNIX path too long"), "file name too long"),
        (OSError(21, "Is a directory", 3), "is a directory"),
        (OSError(28, "No space left on device", b"/x"), "/x: no space left on device"),
    ],
)
def test_never_a_number_for_a_name_nor_success(error: OSError, text: str) -> None:
    assert reason(error) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '""'),
        ("a b", '"a b"'),
        ('"\\', r'"\"\\"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        ("é世", '"é世"'),
        ("\udcff", r'"\xff"'),
        ("\xa0\u200b\ufeff", r'"\u00a0\u200b\ufeff"'),
        ("\U000e0001", r'"\U000e0001"'),
    ],
)
def test_quote_is_gos(text: str, expected: str) -> None:
    assert quote(text) == expected


def test_system_errors_in_the_case_that_callers_match(capfd: pytest.CaptureFixture[str]) -> None:
    log = opened("", "json")
    log.error(SyscallError(2, "openat2", "/x"))
    assert json.loads(capfd.readouterr().err)["msg"].endswith("no such file or directory")


@pytest.mark.parametrize("debug", [False, True])
def test_warnings(debug: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the log, whatever the options; without a log, on standard error. One line each."""
    log = opened(tmp_path / "log", debug=debug)
    log.warning("odd\nindeed")
    assert [(each["level"], each["msg"]) for each in records(tmp_path / "log")] == [("warning", "odd\nindeed")]
    assert capfd.readouterr() == ("", "")
    Log().warning("odd\nindeed")
    assert re.fullmatch(r'time="\S+" level=warning msg="odd\\nindeed"\n', capfd.readouterr().err)
