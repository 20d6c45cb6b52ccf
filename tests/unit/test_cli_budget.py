"""What the command line may import before it knows that it needs more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FORBIDDEN = {
    *(
        "pluggy",
        "jsonschema",
        "rich",
        "pyroute2",
        "argparse",
        "typing",
        "dataclasses",
        "enum",
        "re",
        "pathlib",
    ),
    *("json", "subprocess", "logging", "inspect", "importlib.metadata", "contextlib", "functools"),
    *("collections", "socket", "ctypes", "_ctypes", "traceback", "textwrap", "datetime"),
}
PARSE = {
    *("gosudacon", "gosudacon.cli", "gosudacon.cli.options", "gosudacon.cli.parse"),
    *("gosudacon.base", "gosudacon.base.errors", "gosudacon.base.posix"),
}


def loaded(script: str) -> set[str]:
    """Modules that are loaded after ``script``, less those of an interpreter that has done nothing."""
    program = f"import sys; before = set(sys.modules); sys.path.insert(0, {str(REPOSITORY)!r})\n{script}\n"
    program += "names = set(sys.modules) - before\nimport json; print(json.dumps(sorted(names)))"
    run = subprocess.run([sys.executable, "-ISB", "-c", program], stdout=subprocess.PIPE, check=True)
    return set(json.loads(run.stdout))


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("gosudacon")}


def test_parsing() -> None:
    names = loaded("from gosudacon.cli.parse import parse; parse('--root /r create --bundle /b x'.split())")
    assert not names & FORBIDDEN
    assert ours(names) == PARSE


@pytest.mark.parametrize(
    "script",
    [
        "from gosudacon.cli.log import open_log\nopen_log({'log': '/dev/null', 'log-format': 'json', 'debug': False})",
        "from gosudacon.cli.log import Log; Log().debug('x')",
    ],
)
def test_log(script: str) -> None:
    names = loaded(script)
    assert not names & FORBIDDEN
    assert ours(names) == {
        "gosudacon",
        "gosudacon.cli",
        "gosudacon.cli.log",
        "gosudacon.base",
        "gosudacon.base.errors",
        "gosudacon.base.posix",
    }


def test_a_failure_with_a_json_log_is_cheap() -> None:
    script = (
        "import os\nfrom gosudacon.cli.log import Log\nnull = os.open('/dev/null', os.O_WRONLY)\n"
        "os.dup2(null, 2)\nLog(null, True).error('x')"
    )
    assert not loaded(script) & FORBIDDEN
