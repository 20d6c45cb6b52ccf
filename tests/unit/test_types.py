"""What the type checker refuses: a misspelt field is an error before it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """\
from gosudacon.api import MOUNT, Context, Options, Spec, Step
from gosudacon.stages.cgroups.limits import Write

class Note(Step):
    phase = MOUNT
    text: str

class Held:
    def __init__(self) -> None:
        self.fd = -1

def right(spec: Spec, context: Context) -> None:
    Write(controller="pids", file="pids.max", value="1", where="linux.resources.pids.limit")
    Note(text="x", by=MOUNT, rank=1)
    Options(no_pivot=True)
    spec.process["args"], spec.config.get("hostname"), spec.linux["namespaces"][0]["type"]
    context.own(Held).fd + context.cgroup_dirs.get("pids", -1)

def wrong(spec: Spec, context: Context) -> None:
"""
#: A line, and a part of what is said about it.
WRONG = {
    'Write(controler="pids", file="pids.max", value="1")': '"controler"',
    'Write(controller="pids", file="pids.max", value=1)': '"value"',
    'Write(controller="pids", file="pids.max")': '"value"',
    'Write("pids", "pids.max", "1")': "positional",
    'Note(txt="x")': '"txt"',
    "Options(no_pivto=True)": '"no_pivto"',
    "spec.options.no_pivto": '"no_pivto"',
    'spec.config["proces"]': '"proces"',
    'spec.process["arg"]': '"arg"',
    'spec.linux["namespaces"][0]["kind"]': '"kind"',
    "context.kept": '"kept"',
    "context.own(Held).fds": '"fds"',
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Line -> what mypy says about it."""
    pytest.importorskip("mypy", reason="needs mypy")
    file = tmp_path_factory.mktemp("types") / "snippet.py"
    file.write_text(HEAD + "".join(f"    {line}\n" for line in WRONG))
    command = [sys.executable, "-B", "-m", "mypy", "--strict", f"--cache-dir={file.parent}/cache", str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    messages: dict[int, str] = {}
    for line in result.stdout.splitlines():
        if line.startswith(f"{file}:"):
            number, _, message = line.removeprefix(f"{file}:").partition(":")
            messages[int(number)] = messages.get(int(number), "") + message
    assert messages, result.stdout + result.stderr
    return messages


def test_nothing_that_is_right(said: dict[int, str]) -> None:
    assert min(said) > HEAD.count("\n")


@pytest.mark.parametrize("line", WRONG)
def test_misspelt(said: dict[int, str], line: str) -> None:
    number = HEAD.count("\n") + 1 + list(WRONG).index(line)
    assert WRONG[line] in said.get(number, "")


def test_any_is_rare() -> None:
    """Where nothing better is known of what comes from outside: JSON, D-Bus, libraries without types."""
    files = [path for folder in ("gosudacon", "stages", "plugins", "schema") for path in (ROOT / folder).rglob("*.py")]
    texts = {path.resolve(): path.read_text("utf-8") for path in files}
    assert sum(len(re.findall(r"\bAny\b", text)) for text in texts.values()) <= 80
