"""Plug-ins of CNI that are scripts, and a state directory for the steps of the plugin cni."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.api import Context, Host, Spec
from gosudacon.base import layout
from gosudacon.plugins.cni import calls

if TYPE_CHECKING:
    from gosudacon.plugins.cni.record import Attachment, Header

RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": "10.1.2.3/24", "interface": 1}],
}
#: Notes each call as a line: command, network, environment and configuration.
LOGGING = """#!/bin/sh
config=$(cat)
printf '%s\\n' "{\\"call\\": \\"$CNI_COMMAND $(basename $0)\\", \\"config\\": $config}" >> LOG
env | grep -v '^_=\\|^PWD=\\|^SHLVL=' | sort > LOG.env.$CNI_COMMAND
ls -l /proc/self/fd/ | sed 's/.*[0-9] //' > LOG.fds
"""


class Plugins:
    """Scripts in the place of plug-ins, and a container's state directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o755)
        self.bin, self.state, self.log = path / "bin", path / "state", path / "log"
        self.bin.mkdir(mode=0o755)
        self.state.mkdir(mode=0o700)
        self.contexts: list[Context] = []

    def script(self, kind: str, text: str = "", result: object = RESULT) -> None:
        """A plug-in that logs, does ``text``, and answers ADD with ``result``."""
        answer = f"[ $CNI_COMMAND != ADD ] || cat <<'END'\n{json.dumps(result)}\nEND\n"
        path = self.bin / kind
        path.write_text((LOGGING + text + "\n" + answer).replace("LOG", str(self.log)))
        path.chmod(0o755)

    def header(self, *kinds: str, version: str = "1.0.0", versions: list[str] | None = None, **more: Any) -> Header:
        """The first line of a note about a network of these plug-ins."""
        plugins: list[dict[str, object]] = [{"type": kind, **more} for kind in kinds]
        attachment: Attachment = {
            "name": "tnet",
            "file": "/x",
            "interface": "eth0",
            "version": version,
            "versions": versions or [],
            "plugins": plugins,
            "runtime": {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]},
        }
        return {"id": "gsd1", "bin_dirs": [str(self.bin)], "timeout": 5, "args": {}, "attachments": [attachment]}

    def context(self) -> Context:
        """As a new process gets it."""
        context = Context(Spec({}, "web", "/b"), Host())
        context.state_dir = os.open(self.state, os.O_RDONLY)
        self.contexts.append(context)
        return context

    def call(self, kind: str = "one", **more: Any) -> calls.Call:
        """A call of one plug-in."""
        header = self.header(kind, **more)
        return calls.Call(header, header["attachments"][0], 0, "/ns", -1)

    def calls(self) -> list[str]:
        """Command and plug-in of all calls so far."""
        return [line["call"] for line in self.lines()]

    def lines(self) -> list[dict[str, Any]]:
        """What the plug-ins have noted."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


def speaking(*versions: str) -> str:
    """The text of a plug-in that supports these versions."""
    answer = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
    return f"[ $CNI_COMMAND != VERSION ] || {{ echo '{answer}'; exit 0; }}"


def noted(header: Header) -> dict[str, Any]:
    """The fields of `WriteNote` for a header."""
    rest = {key: value for key, value in header.items() if key != "id"}
    return {"container": header["id"], "ports": [], "publishes": -1, **rest}


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[Plugins]:
    """A directory of plug-ins, and an empty state directory."""
    value = Plugins(tmp_path)
    yield value
    for context in value.contexts:
        os.close(context.state_dir)
    subprocess.run(["umount", "-q", str(value.state / layout.CNI_NAMESPACE)], check=False, capture_output=True)
