"""Annotations that other runtimes obey: docs/annotations.md says of each what happens, and it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec
from gosudacon.stages import validate_config
from gosudacon.stages.handoff import KEEP_GROUPS, Handoff
from gosudacon.stages.hooks import OUTPUTS, HooksStage
from gosudacon.stages.rootfs_mount import CONTEXT_TYPE

DOCUMENT = (Path(__file__).parents[2] / "docs/annotations.md").read_text()


def spec(**annotations: str) -> Spec:
    process = {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0, "additionalGids": [5]}}
    config: Any = {
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs"},
        "process": process,
        "linux": {},
        "annotations": annotations,
    }
    return Spec(config, "x", "/bundle")


def become(wanted: Spec, host: Host) -> list[str]:
    return [step.describe() for step in Handoff().plan(wanted, host) if step.describe().startswith("become ")]


def test_the_document_names_what_the_code_knows() -> None:
    table = dict(re.findall(r"^\| (.*?) \| (\w+)", DOCUMENT, re.MULTILINE))
    for name in (KEEP_GROUPS, CONTEXT_TYPE, *OUTPUTS):
        assert table[f"`{name}`"] == "Honoured"
    refused = [name for names, what in table.items() if what == "Refused" for name in re.findall("`(.*?)`", names)]
    assert refused == list(validate_config.REFUSED)


@pytest.mark.parametrize("name", validate_config.REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not supported") as caught:
        list(validate_config.ValidateConfig().plan(spec(**{name: "1"}), Host()))
    assert caught.value.where == f"annotations.{name}"


@pytest.mark.parametrize("name", ["run.oci.systemd.subgroup", "run.oci.seccomp.receiver", "a"])
def test_ignored(name: str) -> None:
    assert f"`{name}`" in DOCUMENT or name == "a"
    steps = list(validate_config.ValidateConfig().plan(spec(**{name: "/x"}), Host()))
    assert [step.describe() for step in steps] == ["open the root filesystem /bundle/rootfs"]
    assert become(spec(**{name: "/x"}), Host(euid=0)) == become(spec(), Host(euid=0))


def test_output_of_hooks() -> None:
    """Appended to files, which those that run in the container find open."""
    wanted = spec(**{OUTPUTS[0]: "/out"})
    wanted.config["hooks"] = {kind: [{"path": "/h"}] for kind in ("createRuntime", "startContainer", "poststop")}  # type: ignore[typeddict-item]
    assert [step.describe() for step in HooksStage().plan(wanted, Host())] == [
        "open /out for the output of hooks",
        *(f"run the {kind} hook /h, stdout to /out" for kind in ("createRuntime", "startContainer", "poststop")),
    ]
    del wanted.config["hooks"]["startContainer"]
    assert len(list(HooksStage().plan(wanted, Host()))) == 2


def test_the_callers_groups() -> None:
    assert become(spec(), Host(euid=0)) == ["become uid 0, gid 0, groups [5]"]
    assert become(spec(**{KEEP_GROUPS: "1"}), Host(euid=0)) == ["become uid 0, gid 0, the caller's groups"]
