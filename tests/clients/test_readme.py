"""The README's walk through containerd, command by command, with the launcher it has installed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import new_name
from tests.clients.daemon import Containerd
from tests.support.installation import Installation
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

pytestmark = needs("compiler")
INSTALLED = "/usr/local/bin/gosudacon"


def _commands() -> list[list[str]]:
    """The commands of the section, as words, without sudo."""
    section = (CHECKOUT / "README.md").read_text().partition("\n## With containerd\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert all(words.pop(0) == "sudo" for words in commands)
    return commands


def test_every_command_of_the_walk(ctr: Containerd, scratch: Path) -> None:
    installation = Installation(scratch)
    installation.install()
    replaced = {
        INSTALLED: str(installation.command),
        "/tmp/busybox.tar": str(scratch / "busybox.tar"),
        "/run/containerd/runc/default": f"/run/containerd/runc/{ctr.namespace}",
        "web": new_name(),
    }
    outputs: dict[str, str] = {}
    for program, *words in _commands():
        arguments = [replaced.get(word, word) for word in words]
        key = " ".join([program, *words[:2]])
        match program:
            case "apt-get":
                assert words == ["install", "containerd", "busybox-static"]
            case "ctr":
                outputs[key] = ctr.ctr(*arguments).stdout
                while key == "ctr run --rm" and not outputs[key]:  # lost by ctr, see tests/clients/output.py
                    outputs[key] = ctr.ctr(*arguments).stdout
            case "gosudacon":
                outputs[key] = _output([str(installation.command), *arguments])
            case _:
                outputs[key] = _output([str(CHECKOUT / program), *arguments])
    assert outputs["ctr run --rm"] == "hello\n"
    assert re.search(rf"^{replaced['web']} +\d+ +RUNNING", outputs["ctr task ls"], re.MULTILINE)
    assert replaced["web"] in outputs["gosudacon --root /run/containerd/runc/default"]
    ctr.ctr("image", "remove", "docker.io/library/busybox:latest")
    for name in ("fifo", "runc"):  # made by containerd and its shim, in a directory that is this run's own
        shutil.rmtree(f"/run/containerd/{name}")


def _output(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result
    return result.stdout


def test_the_walk_is_there() -> None:
    words = [word for command in _commands() for word in command]
    for one in ("run", "--detach", INSTALLED, "kill", "delete", "import"):
        assert one in words


@pytest.mark.parametrize("command", ["tools/quickstart", "tools/test", "tools/busybox-image"])
def test_the_tools_that_the_readme_names_are_there(command: str) -> None:
    assert command in (CHECKOUT / "README.md").read_text()
    assert (CHECKOUT / command).stat().st_mode & 0o111
