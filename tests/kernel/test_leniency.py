"""What callers write besides the specification's words, here and under runc: the same of it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.leniency import REFUSED, SILENT, WARNED, Changes, change
from tests.support.needs import needs
from tests.support.runtime import Runtime

Make = Callable[..., Bundle]


@pytest.fixture(scope="module")
def runc_program() -> str:
    return shutil.which("runc") or ""


@needs("program:runc")
@pytest.mark.parametrize(
    "changes", [*SILENT, *(changes for changes, _ in WARNED), *REFUSED], ids=lambda changes: str(changes)[:80]
)
def test_as_runc(runtime: Runtime, make_bundle: Make, scratch: Path, runc_program: str, changes: Changes) -> None:
    """Both run it, or neither does; and the process sees the same."""
    bundle = make_bundle("id; umask; cat /proc/self/limits; grep Cap /proc/self/status")
    change(bundle.config, changes)
    bundle.write()
    ours = runtime.run(bundle, check=False)
    theirs = Runtime([runc_program], scratch / "runc").run(bundle, check=False)
    assert (ours.returncode == 0) == (theirs.returncode == 0), f"{ours.stderr}\n{theirs.stderr}"
    if ours.returncode == 0:
        assert ours.stdout == theirs.stdout
