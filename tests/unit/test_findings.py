"""``explain`` finds before the run what create would trip over, and says where; it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container.template import default_spec

CHECKOUT = Path(__file__).resolve().parents[2]


class Bundle:
    """A bundle with a program that exists, connected to the host's network; and ``explain`` of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: Any = default_spec(cgroup_v2=True)
        self.config["process"] = {**self.config["process"], "terminal": False, "args": ["/bin/p"]}
        self.config["linux"]["namespaces"] = [
            each for each in self.config["linux"]["namespaces"] if each["type"] != "network"
        ]
        (path / "rootfs/bin").mkdir(parents=True)
        self.program(b"#!/bin/sh\n")
        (path / "rootfs/bin/pp").write_bytes(b"")
        (path / "rootfs/bin/sh").write_bytes(b"#!/bin/p\n")
        (path / "rootfs/bin/sh").chmod(0o755)

    def program(self, contents: bytes) -> None:
        (self.path / "rootfs/bin/p").write_bytes(contents)
        (self.path / "rootfs/bin/p").chmod(0o755)

    def explain(self, *words: str) -> subprocess.CompletedProcess[str]:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        root = ["--root", str(self.path / "state")]
        command = [sys.executable, "-m", "gosudacon", *root, "explain", *words, str(self.path)]
        environment = dict(os.environ, PYTHONPATH=str(CHECKOUT), COLUMNS="80")
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment)

    def findings(self) -> dict[str, dict[str, Any]]:
        result = self.explain("--format", "json")
        assert (result.returncode, result.stderr) == (0, "")
        return {each["where"]: each for each in json.loads(result.stdout)["findings"]}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    path = tmp_path / "web"
    path.mkdir()
    return Bundle(path)


def test_nothing_is_found_where_all_is_there(bundle: Bundle) -> None:
    assert bundle.findings() == {}
    result = bundle.explain("--strict")
    assert result.returncode == 0 and "finding" not in result.stdout
    assert not (bundle.path / "state").exists()


FOUND: list[tuple[str, Any, str, str]] = [
    ("process.enviroment", ["A=b"], "process.enviroment", "knows no such name"),
    ("process.args", ["/bin/pp1"], "process.args[0]", "did you mean /bin/pp?"),
    ("process.terminal", True, "process.terminal", "no devpts"),
    ("linux.sysctl", {"fs.mqueue.nope": "1"}, "linux.sysctl[fs.mqueue.nope]", "no such parameter"),
    ("linux.resources.cpu", {"cpus": "0-4000"}, "linux.resources.cpu.cpus", "the host has the CPUs"),
    ("linux.resources.memory", {"limit": 512}, "linux.resources.memory.limit", "nothing can start in 512 bytes"),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "900"}, "linux.memoryPolicy.nodes", "the host has"),
    ("root.path", "nope", "root.path", "is not there"),
    ("hooks", {"poststop": [{"path": "/no"}]}, "hooks.poststop[0].path", "nothing is at /no"),
    ("hooks", {"startContainer": [{"path": "/no"}]}, "hooks.startContainer[0].path", "the image has no /no"),
    (
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []},
        "linux.seccomp",
        "no program can be executed",
    ),
    ("linux.namespaces", [{"type": "mount"}, {"type": "uts"}, {"type": "network"}], "linux.namespaces[2]", "only lo"),
    (
        "linux.namespaces",
        [{"type": "mount"}, {"type": "uts"}, {"type": "ipc", "path": "/no"}],
        "linux.namespaces[2].path",
        "nothing is at /no",
    ),
    (
        "process.rlimits",
        [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 40}],
        "process.rlimits[0]",
        "RLIMIT_NOFILE is at most",
    ),
]


@pytest.mark.parametrize(("key", "value", "where", "message"), FOUND, ids=[each[2] for each in FOUND])
def test_finding(bundle: Bundle, key: str, value: Any, where: str, message: str) -> None:
    *above, last = key.split(".")
    inner = bundle.config
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = value
    if key == "process.terminal":
        bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["type"] != "devpts"]
    found = bundle.findings()
    assert [*found] == [where] and message in found[where]["message"]
    line, column = found[where]["line"], found[where]["column"]
    assert line and column
    result = bundle.explain("--strict")
    assert result.returncode == 2
    assert f"\nfinding config.json:{line}:{column}: {where}: {found[where]['message']}\n" in result.stdout
    assert bundle.explain("--strict", "--no-check").returncode == 0


@pytest.mark.parametrize(
    ("entry", "where", "message"),
    [
        ({"type": "bind", "source": "/no", "options": ["bind"]}, ".source", "nothing is at /no"),
        ({"type": "bind", "source": "rel", "options": ["rbind"]}, ".source", "relative to the bundle"),
        ({"type": "nofs", "source": "x"}, ".type", "no filesystem nofs"),
        ({"type": "tmpfs", "source": "x", "options": ["nosiud"]}, ".options[0]", "unknown option nosiud"),
        ({"destination": "/bin/p", "type": "bind", "source": "/proc", "options": ["bind"]}, ".destination", "a file"),
    ],
)
def test_finding_of_a_mount(bundle: Bundle, entry: dict[str, Any], where: str, message: str) -> None:
    bundle.config["mounts"].append({"destination": "/x", **entry})
    found = bundle.findings()
    place = f"mounts[{len(bundle.config['mounts']) - 1}]{where}"
    assert place in found and message in found[place]["message"]


@pytest.mark.parametrize(
    ("contents", "message"), [(b"#!/bin/bash\n", "/bin/bash"), (b"#!/bin/sh\r\n", "CR"), (b"", "empty")]
)
def test_finding_of_a_program(bundle: Bundle, contents: bytes, message: str) -> None:
    bundle.program(contents)
    assert message in bundle.findings()["process.args[0]"]["message"]


def test_of_another_process(bundle: Bundle, tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["/bin/pp1"], "cwd": "/"}))
    result = bundle.explain("--exec", str(process), "--strict")
    assert result.returncode == 2 and f"finding {process}: process.args[0]: " in result.stdout
    assert "did you mean /bin/pp?" in result.stdout


def test_a_hook_connects(bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "network"})
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh"}]}
    assert bundle.findings() == {}


def test_id(bundle: Bundle) -> None:
    """The id that will be used decides about cgroup and keyring."""
    bundle.config["linux"].pop("cgroupsPath", None)
    result = bundle.explain("--id", "other")
    assert "as container other" in result.stdout
    assert "_ses.other" in result.stdout and "/other" in result.stdout
    assert "invalid container ID format" in bundle.explain("--id", "a/b").stderr


def test_refused_with_hints_and_unknown_names(bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"][0]["type"] = "pids"
    bundle.config["process"]["enviroment"] = []
    result = bundle.explain()
    assert (result.returncode, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert "linux.namespaces[0].type: found" in lines[0] and lines[1] == "hint: did you mean pid?"
    assert lines[2].endswith("process.enviroment: the specification knows no such name: did you mean env?")
