"""Parts beside one another: each has its output for itself, and an interruption ends all of them in good order."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually
from tools import parts
from tools.results import Result
from tools.side_by_side import Job, Part, Runner


def runner(tmp_path: Path, width: int) -> Runner:
    return Runner(width, tmp_path, {"WORD": "word"}, tmp_path)


def echo(job: Job) -> list[Result]:
    return [job.timed(job.name, ["sh", "-c", f'echo "$WORD of {job.name}"; echo end >&2'])]


def test_output_is_printed_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two parts that wait for each other, a line at a time, yet each comes in one piece."""
    for name in "ab":
        os.mkfifo(tmp_path / name)

    def part(job: Job) -> list[Result]:
        mine, other = (job.name, "ab".replace(job.name, ""))
        turns = [f"echo >{mine}; read x <{other}", f"read x <{other}; echo >{mine}"]
        script = f"for i in 1 2 3; do echo {mine} $i; {turns[mine == 'a']}; done"
        return [job.timed(mine, ["sh", "-c", script])]

    found = runner(tmp_path, 2).run({"a": part, "b": part})
    assert [found[name][0].passed for name in "ab"] == [True, True]
    texts = [f"\n=== {name}\n{name} 1\n{name} 2\n{name} 3\n" for name in "ab"]
    assert capfd.readouterr().out in ("".join(texts), "".join(reversed(texts)))


@pytest.mark.parametrize("width", [1, 3])
def test_each_part_has_its_results(tmp_path: Path, capfd: pytest.CaptureFixture[str], width: int) -> None:
    """What cannot be prepared is a failure of the part, and of no other."""

    def fails(job: Job) -> list[Result]:
        job.run(["sh", "-c", "exit 3"])
        return []

    found = runner(tmp_path, width).run({"a": echo, "b": fails, "c": echo})
    assert [(result.passed, result.note) for name in "abc" for result in found[name]] == [
        (True, ""),
        (False, "sh -c exit 3: exit status 3"),
        (True, ""),
    ]
    text = capfd.readouterr().out
    assert all(f"\n=== {name}\nword of {name}\nend\n" in text for name in "ac")
    assert "sh -c exit 3: exit status 3\n" in text


def test_time_is_up(tmp_path: Path) -> None:
    def part(job: Job) -> list[Result]:
        return [job.timed("slow", ["sleep", "1000"], 0.01)]

    (result,) = runner(tmp_path, 2).run({"a": part})["a"]
    assert (result.passed, result.note) == (False, "not done after 0.01 s")


def test_an_error_of_a_part_ends_the_others(tmp_path: Path) -> None:
    begun = threading.Event()

    def sleeps(job: Job) -> list[Result]:
        begun.set()
        return [job.timed("sleep", ["sleep", "1000"])]

    def wrong(job: Job) -> list[Result]:
        begun.wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner(tmp_path, 2).run({"a": sleeps, "b": wrong})


ONCE = """
import pytest
from pathlib import Path
seen = Path(__file__).with_name("seen")
def test_passes_at_the_second_try():
    if not seen.exists():
        seen.touch()
        raise AssertionError
def test_passes(): pass
"""


@pytest.mark.parametrize("also, passed", [("", True), ("def test_never(): assert 0", False)])
def test_what_failed_is_run_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also: str, passed: bool) -> None:
    """A part fails if a test fails twice; what passes at the second try is named."""
    monkeypatch.setattr(parts, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(parts, "CACHE", tmp_path / "cache")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/test_x.py").write_text(ONCE + also)

    def part(job: Job) -> list[Result]:
        options = ["-c", "/dev/null", f"--rootdir={tmp_path / 't'}"]
        every = parts.Parts([])
        return [every._pytest(job, "x", str(tmp_path / "t"), 60, options=options, python=Path(sys.executable))]

    (result,) = runner(tmp_path, 2).run({"a": part})["a"]
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in result.cases.items()}
    expected = {"test_passes": "passed", "test_passes_at_the_second_try": "unsteady"}
    assert outcomes == (expected if passed else {**expected, "test_never": "failed"})
    assert result.passed is passed


PROGRAM = """
import sys
from pathlib import Path
from tools.side_by_side import Runner
here = Path(sys.argv[1])
script = f"trap 'echo cleared; exit 1' INT; touch {here}/$NAME.up; while :; do sleep 0.01; done"
def part(job):
    return [job.timed(job.name, ["sh", "-c", script], extra={"NAME": job.name})]
Runner(2, here, {}, here).run({"a": part, "b": part, "c": part})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """Every part that runs gets SIGINT and the time to clear up; the next one does not begin."""
    words = [sys.executable, "-B", "-c", PROGRAM, str(tmp_path)]
    child = subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: all((tmp_path / f"{name}.up").exists() for name in "ab"), 30, shlex.join(words))
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode != 0 and "KeyboardInterrupt" in err
    assert out.count("cleared\n") == 2 and "=== c" not in out
    assert not (tmp_path / "c.up").exists()


def test_interrupted_while_parts_begin(tmp_path: Path) -> None:
    """The signal comes when one part runs and the others are not even in the queue: the run ends nevertheless."""
    begun = threading.Event()

    def sleeps(job: Job) -> list[Result]:
        begun.set()
        return [job.timed(job.name, ["sleep", "1000"])]

    class Parts(UserDict[str, Part]):
        def __iter__(self) -> Iterator[str]:
            for name in self.data:
                yield name
                begun.wait()
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, 1).run(Parts(a=sleeps, b=sleeps))
