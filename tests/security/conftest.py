"""What the attacks share: static programs, and callers that are in no good state themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security import programs
from tests.support.bundle import Bundle
from tests.support.needs import missing
from tests.support.runtime import Runtime

Caller = Callable[[Runtime, str], None]
Plant = Callable[[Bundle, str], str]


@pytest.fixture(scope="session")
def program(session_scratch: Path) -> Callable[[str], Path]:
    """A function that gives the path of a program of tests/security/programs, compiled once."""
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built and missing("compiler"):
            pytest.skip("needs compiler")
        if name not in built:
            built[name] = programs.build(name, session_scratch / f"program-{name}")
        return built[name]

    return get


@pytest.fixture
def plant(program: Callable[[str], Path]) -> Plant:
    """A function that puts a program into a bundle's image; it returns the path there."""

    def put(bundle: Bundle, name: str) -> str:
        target = bundle.rootfs / "bin" / name
        target.write_bytes(program(name).read_bytes())
        target.chmod(0o755)
        return f"/bin/{name}"

    return put


@pytest.fixture
def introspect(plant: Plant) -> Callable[..., dict[str, str]]:
    """A function that runs a bundle and returns what its process finds itself to be (programs/self.c).

    With ``verb="create"`` in the three steps of create, start and delete.
    """

    def look(runtime: Runtime, bundle: Bundle, *extra: str | Path, verb: str = "run", **popen: Any) -> dict[str, str]:
        bundle.set("process.args", [plant(bundle, "self"), "/facts"])
        (bundle.rootfs / "facts").write_text("")
        (bundle.rootfs / "facts").chmod(0o666)
        if verb == "run":
            runtime.run(bundle, *extra, check=True, **popen)
        else:
            runtime.create(bundle, *extra, **popen)
            pid = runtime.pid(bundle)
            runtime.start(bundle)
            assert runtime.wait(pid) == 0
            runtime.delete(bundle)
        return facts(bundle)

    return look


def facts(bundle: Bundle) -> dict[str, str]:
    """What the program ``self FACTS`` has written."""
    lines = (bundle.rootfs / "facts").read_text().splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


_CALLER = """
import os, signal, sys
code, words = sys.argv[1], sys.argv[2:]
exec(code)
os.execvp(words[0], words)
"""


@pytest.fixture
def caller() -> Caller:
    """A function that has a runtime called by a process which does something to itself first: Python ``code``."""

    def change(runtime: Runtime, code: str) -> None:
        runtime.command = [sys.executable, "-ISc", _CALLER, code, *runtime.command]

    return change
