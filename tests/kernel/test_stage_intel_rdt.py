"""Stage intel-rdt in a container's whole life, with a plain directory instead of resctrl.

Such a directory does not fill the groups that are made in it, so these are there before. `tests/unit/test_intel_rdt.py`
has one that does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")
Make = Callable[..., Bundle]


@pytest.fixture
def groups(scratch: Path) -> Path:
    """The directory, with the class ``gold``."""
    (scratch / "resctrl/gold/mon_groups").mkdir(parents=True)
    (scratch / "resctrl/gold/tasks").touch()
    (scratch / "resctrl/gold/schemata").write_text("    L3:0=ff;1=f0\n    MB:0=100;1=50\n")
    return scratch / "resctrl"


def configured(scratch: Path, groups: Path) -> Runtime:
    (scratch / "site").mkdir()
    entry = plugins.entry(scratch / "site", scratch / "entry.py")
    text = f'[stage.intel-rdt]\ndirectory = "{groups}"\n'
    return plugins.runtime(entry, scratch / "config.toml", text, scratch / "root", "--no-snapshot")


def test_life(scratch: Path, groups: Path, make_bundle: Make) -> None:
    runtime = configured(scratch, groups)
    bundle = make_bundle().set(
        "linux.intelRdt", {"closID": "gold", "l3CacheSchema": "L3:0=0FF", "memBwSchema": "MB:1=50"}
    )
    shown = runtime.call("explain", "--format", "json", bundle.path).stdout
    assert "create the class of service gold, unless it is there with these shares; write L3:0=0FF, MB:1=50" in shown
    pid = runtime.boot(bundle)
    assert (groups / "gold/tasks").read_text() == f"{pid}\n"
    told = runtime.call("exec", bundle.id, "/bin/sh", "-c", "echo $$").stdout
    assert told.strip().isdecimal() and (groups / "gold/tasks").read_text() not in (f"{pid}\n", "")
    runtime.delete(bundle, "--force")
    assert (groups / "gold/schemata").read_text() == "    L3:0=ff;1=f0\n    MB:0=100;1=50\n"


def test_other_shares(scratch: Path, groups: Path, make_bundle: Make) -> None:
    runtime = configured(scratch, groups)
    done = runtime.create(make_bundle().set("linux.intelRdt", {"closID": "gold", "schemata": ["L3:1=f"]}), check=False)
    assert "intel rdt: class of service gold has L3:1=f0, not L3:1=f" in done.stderr
    assert (groups / "gold/tasks").read_text() == ""


def test_a_create_that_fails_leaves_nothing(scratch: Path, groups: Path, make_bundle: Make) -> None:
    """The monitoring group that it has made is gone, and the class that it has not made stays."""
    runtime = configured(scratch, groups)
    done = runtime.create(
        make_bundle().set("linux.intelRdt", {"closID": "gold", "enableMonitoring": True}), check=False
    )
    assert "tasks" in done.stderr  # a plain directory has none
    assert list((groups / "gold/mon_groups").iterdir()) == [] and (groups / "gold").exists()


def test_no_resctrl(runtime: Runtime, make_bundle: Make) -> None:
    done = runtime.create(make_bundle().set("linux.intelRdt", {"closID": "gold"}), check=False)
    assert "Intel RDT is not supported or enabled" in done.stderr
