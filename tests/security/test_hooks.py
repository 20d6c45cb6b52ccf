"""Hooks run on the host: nothing of the container's environment reaches them (G16, CVE-2025-23266, CVE-2024-0132)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

Caller = Callable[[Runtime, str], None]

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
LEAK = "import os; fd = os.dup2(os.open('/', os.O_RDONLY), 100, False); [os.dup2(fd, n) for n in range(3, 21)]"
EVIL = ["EVIL=1", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "PATH=/evil:/bin", "BASH_ENV=/evil", "ENV=/evil"]


@pytest.fixture
def hooked(bundle: Bundle, program: Callable[[str], Path]) -> Bundle:
    """A bundle with a hook of each kind that reports its environment and descriptors (programs/self.c)."""
    for place in (bundle.path / "report", bundle.rootfs / "report"):
        place.write_bytes(program("self").read_bytes())
        place.chmod(0o755)
    for kind in KINDS:
        path, result = f"{bundle.path}/report", f"{bundle.path}/{kind}"
        if kind == "startContainer":
            path, result = "/report", f"/{kind}"
        bundle.set(f"hooks.{kind}", [{"path": path, "args": ["report", result], "env": ["A=1", "B=a b"]}])
    bundle.set("process.env", EVIL).set("process.args", ["/bin/true"])
    return bundle


def reports(bundle: Bundle) -> dict[str, dict[str, str]]:
    """What each hook has reported."""
    found = {}
    for kind in KINDS:
        lines = ((bundle.rootfs if kind == "startContainer" else bundle.path) / kind).read_text().splitlines()
        found[kind] = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    return found


@pytest.mark.vm
@pytest.mark.parametrize("extra", [[], ["--preserve-fds", "3"]], ids=["", "descriptors passed on"])
def test_hooks_see_what_they_are_given(runtime: Runtime, hooked: Bundle, caller: Caller, extra: list[str]) -> None:
    """Not the container's variables, nor the caller's, nor a descriptor of either."""
    caller(runtime, LEAK + "\nos.environ['CALLER'] = '1'")
    runtime.run(hooked, *extra, check=True)
    for kind, facts in reports(hooked).items():
        environment = {name: value for name, value in facts.items() if name.startswith("environment/")}
        assert environment == {"environment/A": "=1", "environment/B": "=a b"}, kind
        assert {name for name in facts if name.startswith("fd/")} == {"fd/0", "fd/1", "fd/2"}, kind


def test_an_image_does_not_choose_the_hook(runtime: Runtime, hooked: Bundle) -> None:
    """The file of the host runs, also where the image has another of the same path."""
    evil = hooked.rootfs / str(hooked.path).lstrip("/")
    evil.mkdir(parents=True)
    (evil / "report").write_text("#!/bin/sh\necho evil >/evil\n")
    (evil / "report").chmod(0o755)
    runtime.run(hooked, check=True)
    assert set(reports(hooked)) == set(KINDS)
    assert not (hooked.rootfs / "evil").exists()
