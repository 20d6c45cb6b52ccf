"""``gosudacon explain`` as a person and a program see it; runs without root's help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container.template import default_spec
from gosudacon.pipeline.step import PHASES

CHECKOUT = Path(__file__).resolve().parents[2]


def explain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gosudacon", "explain", *map(str, arguments)]
    environment = dict(os.environ, PYTHONPATH=str(CHECKOUT), COLUMNS="80")
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment)


@pytest.fixture
def config() -> Any:
    return default_spec(cgroup_v2=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "web"
    path.mkdir()
    return path


def write(bundle: Path, config: dict[str, Any]) -> None:
    (bundle / "config.json").write_text(json.dumps(config, indent=1))


def test_table_in_a_pipe(bundle: Path, config: dict[str, Any]) -> None:
    """The table fits 80 columns and has no colours in a pipe."""
    write(bundle, config)
    result = explain(bundle)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line for line in result.stdout.splitlines() if not line.startswith(("finding", "  hint"))]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    phases = [line.strip() for line in lines if line.strip() in PHASES]
    assert phases == ["prepare", "isolate", "mount", "pivot", "confine", "start"]
    assert "mount proc on /proc" in result.stdout
    assert [line for line in result.stdout.splitlines() if line != line.rstrip()] == []
    assert "what is done" in result.stdout and "⇄ one side waits" in result.stdout and "↺ outlives" in result.stdout
    assert "\nhost: Linux" in result.stdout and lines[-1].startswith("risk ")


def test_no_name_is_broken(bundle: Path, config: dict[str, Any]) -> None:
    """However many namespaces, controllers and capabilities there are."""
    write(bundle, config)
    words = set(re.split(r"[ |,+():\n]+", explain(bundle).stdout))
    assert {"CLONE_NEWPID", "CLONE_NEWNET", "CLONE_NEWIPC", "CLONE_NEWUTS", "CLONE_NEWNS"} <= words


def test_json_holds_every_step_with_its_place(bundle: Path, config: dict[str, Any]) -> None:
    write(bundle, config)
    data = json.loads(explain("--format", "json", bundle).stdout)
    assert (data["id"], data["bundle"]) == ("web", str(bundle))
    proc = next(step for step in data["steps"] if step["what"].startswith("mount proc on /proc"))
    assert (proc["phase"], proc["side"], proc["stage"], proc["where"]) == (
        *("mount", "container", "rootfs-mount"),
        "mounts[0]",
    )
    for index, step in enumerate(data["steps"]):
        assert step.get("waits_for", -1) < index


def test_one_stage(bundle: Path, config: dict[str, Any]) -> None:
    write(bundle, config)
    data = json.loads(explain("--format", "json", "--stage", "namespaces", bundle).stdout)
    assert {step["stage"] for step in data["steps"]} == {"namespaces"}
    assert "clone3(" in explain("--stage", "namespaces", bundle).stdout
    assert "no stage 'nosuch'" in explain("--stage", "nosuch", bundle).stderr


def test_every_error_at_once_with_its_place(bundle: Path, config: dict[str, Any]) -> None:
    config["process"]["user"]["uid"] = "root"
    config["mounts"][0]["destination"] = 7
    config["linux"]["namespaces"][0]["type"] = "pids"
    write(bundle, config)
    result = explain(bundle)
    assert (result.returncode, result.stdout) == (1, "")
    text = (bundle / "config.json").read_text().splitlines()
    for line, where in zip(
        (line for line in result.stderr.splitlines() if not line.startswith("hint: ")),
        ["process.user.uid", "mounts[0].destination", "linux.namespaces[0].type"],
        strict=True,
    ):
        place, found, _ = line.split(": ", 2)
        path, row, column = place.rsplit(":", 2)
        assert (path, found) == (str(bundle / "config.json"), where)
        assert text[int(row) - 1][int(column) - 1 :].startswith(('"root"', "7", '"pids"'))


def test_what_stages_refuse_has_a_line_too(bundle: Path, config: dict[str, Any]) -> None:
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    config["process"]["capabilities"]["effective"].append("CAP_SYS_BOOT")
    write(bundle, config)
    lines = [line for line in explain(bundle).stderr.splitlines() if not line.startswith("hint: ")]
    assert len(lines) == 2
    assert lines[0].endswith("id mappings need a user namespace")
    row = int(lines[1].split(":")[1])
    assert "CAP_SYS_BOOT" in (bundle / "config.json").read_text().splitlines()[row - 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "config.json:1:2: "), ("[]", "not a JSON object"), ('{"a": NaN}', "config.json:1:7: "), ("", ":1:1: ")],
)
def test_broken_json(bundle: Path, text: str, message: str) -> None:
    (bundle / "config.json").write_text(text)
    result = explain(bundle)
    assert result.returncode == 1
    assert message in result.stderr


def test_no_bundle(tmp_path: Path) -> None:
    assert "no such file or directory" in explain(tmp_path / "nowhere").stderr
    assert "JSON specification file config.json not found" in explain(tmp_path).stderr


def test_a_closed_pipe_is_no_error(bundle: Path, config: dict[str, Any]) -> None:
    write(bundle, config)
    command = f"{sys.executable} -m gosudacon explain {bundle} | head -1"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, cwd=CHECKOUT,
        env=dict(os.environ, PYTHONPATH=str(CHECKOUT)),
    )  # fmt: skip
    assert result.stderr == ""


def test_warnings(bundle: Path, config: dict[str, Any]) -> None:
    config["linux"]["personality"] = {"domain": "LINUX", "flags": ["X"]}
    write(bundle, config)
    assert "warning linux.personality.flags: ignored" in explain(bundle).stdout
    (warning,) = json.loads(explain("--format", "json", bundle).stdout)["warnings"]
    assert (warning["where"], warning["stage"]) == ("linux.personality.flags", "handoff")
    assert json.loads(explain("--format", "json", "--stage", "seccomp", bundle).stdout)["warnings"] == []


def test_what_is_shared_and_its_risk(bundle: Path, config: dict[str, Any]) -> None:
    """At the end, five lines; --risk makes an exit status of it."""
    write(bundle, config)
    text = explain(bundle).stdout
    assert text.index("shared with the host") > text.index("finding ")
    assert "no seccomp filter" in text.partition("shared with the host")[2]
    result = explain("--risk", "medium", bundle)
    assert result.returncode == 2 and "reaches medium" in result.stdout and "(linux.seccomp)" in result.stdout
    result = explain("--risk", "critical", "--format", "json", bundle)
    data = json.loads(result.stdout)
    assert (result.returncode, data["risk"]["level"]) == (0, "medium")
    assert set(data["shared"]) == {"namespaces", "mounts", "devices", "privileges", "limits"}
    assert all(each["why"] and each["level"] for each in data["risk"]["reasons"])
    assert "shared with the host" not in explain("--stage", "seccomp", bundle).stdout


def test_what_is_set_can_be_seen(bundle: Path, config: dict[str, Any]) -> None:
    """Arguments, environment, what hooks get, rules of the filter; some lines, all where one stage is shown."""
    config["process"]["env"] = ["PATH=/bin", "NAME=a value", *(f"V{number}=x" for number in range(20))]
    config["hooks"] = {"poststop": [{"path": "/bin/true", "args": ["true", "an argument"], "env": ["A=1"]}]}
    rule = {"names": ["mkdir", "rmdir"], "action": "SCMP_ACT_ERRNO"}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    write(bundle, config)
    text = explain(bundle).stdout
    for shown in (
        "[0] sh",
        "NAME=a value",
        "[1] an argument",
        "A=1",
        "SCMP_ACT_ERRNO: mkdir, rmdir",
        "more lines: --long",
    ):
        assert f"   {shown}\n" in text or shown in text, shown
    assert "V19=x" not in text and "V19=x" in explain("--stage", "handoff", bundle).stdout


@pytest.mark.parametrize("columns", ["80", "200"])
def test_lines(bundle: Path, config: dict[str, Any], columns: str) -> None:
    """No line is too wide or ends with blanks, no name is broken, nothing reaches the terminal that it would obey."""
    names = [f"a-directory-with-a-long-name-{number}" for number in range(9)]
    config["process"]["args"] = ["sh", "-c", "echo \x1b[2J\nexit"]
    config["linux"]["cgroupsPath"] = "/" + "/".join(names)
    config["linux"]["personality"] = {"domain": "LINUX", "flags": ["X" * 90]}
    write(bundle, config)
    environment = dict(os.environ, PYTHONPATH=str(CHECKOUT), COLUMNS=columns)
    command = [sys.executable, "-m", "gosudacon", "explain", "--no-check", str(bundle)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT, env=environment).stdout
    lines = out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert [line for line in lines if line != line.rstrip()] == []
    assert "\x1b" not in out and r"echo \x1b[2J\nexit" in " ".join(out.split())
    words = set(re.split(r"[\s/,;]+", out))
    assert set(names) <= words
