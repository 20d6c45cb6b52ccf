"""The examples can be planned by any user, and examples/README.md describes each."""

from __future__ import annotations

import json
import re

import pytest

from gosudacon.container.create import compile_plan
from gosudacon.pipeline.spec import Host, Spec
from tests.support.examples import BUNDLES, EXAMPLES, README, output


def test_every_example_is_described() -> None:
    plugins = sorted(path.name for path in (EXAMPLES / "plugins").iterdir())
    assert re.findall(r"^\| \[plugins/(\w+)\]", README, re.MULTILINE) == plugins
    headings = re.findall(r"^## (\S+)$", README, re.MULTILINE)
    assert sorted(headings) == sorted([*BUNDLES, "Plugins"])
    assert all(output(name) for name in BUNDLES)


@pytest.mark.parametrize("plugin", ["banner", "gpu", "site_hostname"])
def test_plugins_are_packages(plugin: str) -> None:
    """tests/kernel/test_plugins.py installs and runs them."""
    assert (EXAMPLES / "plugins" / plugin / "pyproject.toml").is_file()


@pytest.mark.parametrize("name", BUNDLES)
def test_plan(name: str) -> None:
    bundle = EXAMPLES / name
    config = json.loads((bundle / "config.json").read_text())
    plan, _ = compile_plan(Spec(config, name, str(bundle)), Host(cgroup_mode="v2"), use_snapshot=False)
    assert plan.lanes()
    assert {"namespaces", "rootfs-mount", "handoff"} <= {step.stage for step in plan.steps}


def test_make_rootfs_is_executable() -> None:
    assert (EXAMPLES / "make-rootfs").stat().st_mode & 0o111
