"""The plugin cdi with real containers: what a device brings is there, for exec as well, and nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.network import ip, links
from tests.support.runtime import CHECKOUT, Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")

NAME = "example.com/test=null"


class Site:
    """A directory of specification files, and a runtime with the plugin."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.files = scratch / "cdi"
        self.files.mkdir(mode=0o755)
        self.library = scratch / "library"
        self.library.mkdir(mode=0o755)
        (self.library / "libtest.so").write_text("library\n")
        packages = scratch / "site"
        packages.mkdir()
        self.runtime = self.enabled(f'plugins = ["cdi"]\n[plugin.cdi]\ndirectories = ["{self.files}"]\n')

    def enabled(self, config: str) -> Runtime:
        entry = plugins.entry(self.scratch / "site", self.scratch / "entry.py")
        return plugins.runtime(entry, self.scratch / "config.toml", config, self.scratch / "root")

    def write(self, **edits: Any) -> None:
        content = {
            "cdiVersion": "0.7.0",
            "kind": "example.com/test",
            "containerEdits": {"env": ["TEST_VISIBLE=void"]},
            "devices": [{"name": "null", "containerEdits": edits}],
        }
        (self.files / "test.json").write_text(json.dumps(content))

    def write_all(self) -> None:
        """A device with everything: it is the host's /dev/null by another name."""
        note = f"cat >/dev/null; echo hook >{self.scratch}/hook"
        self.write(
            env=["TEST_DEVICE=null"],
            deviceNodes=[{"path": "/dev/test0", "hostPath": "/dev/null"}],
            mounts=[
                {"hostPath": str(self.library), "containerPath": "/opt/test", "options": ["ro", "nosuid", "rbind"]}
            ],
            hooks=[{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", note]}],
            additionalGids=[4242],
        )


@pytest.fixture
def site(leftovers: Watch, scratch: Path) -> Iterator[Site]:
    value = Site(scratch)
    yield value
    value.runtime.clean()


LOOK = [
    *("sh", "-c"),
    "env | grep ^TEST_ | sort; cat /opt/test/libtest.so; id -G; echo lost >/dev/test0 && head -c 9 /dev/test0 | wc -c;"
    " stat -c '%F %t:%T' /dev/test0; touch /opt/test/x 2>/dev/null || echo read-only",
]
SEEN = ["TEST_DEVICE=null", "TEST_VISIBLE=void", "library", "0 4242", "0", "character special file 1:3", "read-only"]


@pytest.mark.parametrize("way", ["option", "annotation", "variable"])
def test_a_device_by_name(site: Site, bundle: Bundle, way: str) -> None:
    site.write_all()
    options = []
    if way == "option":
        options = ["--device", NAME]
    elif way == "annotation":
        bundle.set("annotations", {"cdi.k8s.io/test_1": NAME})
    else:
        with (site.scratch / "config.toml").open("a") as config:
            config.write('[plugin.cdi.environment]\nTEST_VISIBLE = "example.com/test"\n')
        bundle.config["process"]["env"].append("TEST_VISIBLE=null")
    bundle.set("process.args", LOOK)
    assert site.runtime.output(bundle, *options).splitlines() == SEEN
    assert (site.scratch / "hook").read_text() == "hook\n"


def test_exec_has_it_too_whatever_has_become_of_the_file(site: Site, bundle: Bundle) -> None:
    site.write_all()
    bundle.set("process.args", ["sleep", "1000"])
    site.runtime.boot(bundle, "--device", NAME)
    (site.files / "test.json").unlink()
    assert site.runtime.call("exec", bundle.id, *LOOK).stdout.splitlines() == SEEN
    process = {"args": LOOK, "cwd": "/", "env": ["PATH=/bin", "TEST_VISIBLE=all"], "user": {"uid": 0, "gid": 0}}
    file = site.scratch / "process.json"
    file.write_text(json.dumps(process))
    assert site.runtime.call("exec", "--process", file, bundle.id).stdout.splitlines() == SEEN
    annotations = site.runtime.state(bundle)["annotations"]
    assert json.loads(annotations["org.gosudacon.cdi"])["devices"] == [NAME]


def test_explain_says_which_device_asked_for_which_step(site: Site, bundle: Bundle) -> None:
    site.write_all()
    plan = json.loads(site.runtime.call("explain", "--format", "json", "--device", NAME, bundle.path).stdout)
    why = f"{NAME} in {site.files}/test.json"
    steps = {step["what"]: step["edited_for"] for step in plan["steps"] if "edited_for" in step}
    assert why in steps.values()
    assert any("/dev/test0" in what for what in steps) and any("/opt/test" in what for what in steps)
    assert any("createRuntime hook" in what or "/bin/sh" in what for what in steps)
    assert {change["for"] for change in plan["edited"] if change["path"].startswith("hooks")} == {why}
    table = site.runtime.call("explain", "--device", NAME, bundle.path).stdout
    assert f"for {why}:" in table.replace("\n", " ") or f"for {NAME}" in table
    assert "← " in table


def test_a_device_that_an_engine_has_injected(site: Site, bundle: Bundle) -> None:
    """What is made of the configuration that came of it the first time is that configuration."""
    site.write_all()
    bundle.set("process.args", ["sleep", "1000"]).set("annotations", {"cdi.k8s.io/test_1": NAME})
    site.runtime.create(bundle)
    kept = site.scratch / "root" / bundle.id / "config.json"
    once = json.loads(kept.read_text())
    site.runtime.delete(bundle, "--force")
    bundle.config = once
    bundle.write()
    site.runtime.create(bundle)
    assert json.loads(kept.read_text()) == once


def test_without_the_plugin(site: Site, bundle: Bundle) -> None:
    site.write_all()
    runtime = site.enabled("")
    for command in ("create", "run"):
        result = getattr(runtime, command)(bundle, "--device", NAME, check=False)
        assert result.returncode == 1
        assert f"--device {NAME}: the plugin cdi is not enabled" in result.stderr
        assert f'plugins = ["cdi"] in {site.scratch}/config.toml enables it' in result.stderr


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("example.com/test=no", "unresolvable CDI devices example.com/test=no"),
        ("/dev/null", "'/dev/null' is a path, not the name of a CDI device"),
        (NAME, "cannot look at /no/such"),
    ],
)
def test_a_device_that_cannot_be_had_is_refused_before_anything_is_made(
    site: Site, bundle: Bundle, device: str, message: str
) -> None:
    site.write(deviceNodes=[{"path": "/no/such"}])
    result = site.runtime.create(bundle, "--device", device, check=False)
    assert result.returncode == 1 and message in result.stderr
    assert not (site.scratch / "root" / bundle.id).exists()


def test_a_file_that_others_can_write_gives_nothing(site: Site, bundle: Bundle) -> None:
    site.write_all()
    (site.files / "test.json").chmod(0o666)
    result = site.runtime.create(bundle, "--device", NAME, check=False)
    assert result.returncode == 1
    assert "test.json: must belong to root and be writable only by its owner" in result.stderr


@needs("pyyaml")
def test_yaml(site: Site, bundle: Bundle) -> None:
    (site.files / "test.yaml").write_text(
        "---\ncdiVersion: 0.5.0\nkind: example.com/test\ndevices:\n- name: null1\n  containerEdits:\n"
        "    deviceNodes:\n    - path: /dev/test0\n      hostPath: /dev/null\n      permissions: rw\n"
    )
    bundle.set("process.args", ["stat", "-c", "%F %t:%T", "/dev/test0"])
    assert site.runtime.output(bundle, "--device", "example.com/test=null1") == "character special file 1:3\n"


@needs("userns", "idmapped-mounts")
def test_in_a_user_namespace_mounts_are_mapped(site: Site, bundle: Bundle) -> None:
    site.write_all()
    bundle.map_users(100000)
    (bundle.rootfs / "opt/test").mkdir(parents=True)
    bundle.set("process.args", ["sh", "-c", "stat -c %u /opt/test/libtest.so; head -c 9 /dev/test0 | wc -c"])
    assert site.runtime.output(bundle, "--device", NAME) == "0\n0\n"


@pytest.mark.parametrize("moment", ["createContainer", "createRuntime"])
def test_a_kill_in_the_middle_leaves_nothing(site: Site, bundle: Bundle, moment: str) -> None:
    """The runtime is killed while a hook of the device runs; `leftovers` looks at what is there afterwards."""
    fifo, note = site.scratch / "fifo", site.scratch / "note"
    os.mkfifo(fifo)
    wait = f"echo $$ >{note}.new; mv {note}.new {note}; read line <{fifo}"
    site.write(
        deviceNodes=[{"path": "/dev/test0", "hostPath": "/dev/null"}],
        mounts=[{"hostPath": str(site.library), "containerPath": "/opt/test", "options": ["rbind"]}],
        hooks=[{"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", wait]}],
    )
    runtime = site.runtime
    command = [*runtime.command, "--root", str(runtime.root), "create", "--bundle", str(bundle.path)]
    process = subprocess.Popen(
        [*command, "--device", NAME, bundle.id], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    eventually(note.exists)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    fd = os.open(fifo, os.O_RDWR)  # does not wait for a hook that has died; one that lives reads the line and ends
    os.write(fd, b"\n")
    runtime.delete(bundle, "--force")
    os.close(fd)
    assert not (site.scratch / "root" / bundle.id).exists()


def test_the_file_of_the_documentation(site: Site, bundle: Bundle) -> None:
    """docs/cdi.md: a test device stands in for a GPU."""
    text = (CHECKOUT / "docs/cdi.md").read_text()
    (site.files / "vendor.json").write_text(text.partition("```json\n")[2].partition("```")[0])
    look = "echo $VENDOR_GPU $VENDOR_VISIBLE_DEVICES; stat -c '%F %t:%T' /dev/gpu0; test -d /opt/vendor/ && echo there"
    bundle.set("process.args", ["sh", "-c", look])
    assert site.runtime.output(bundle, "--device", "vendor.com/gpu=0") == "0 void\ncharacter special file 1:3\nthere\n"


@needs("program:ip")
def test_a_network_device_comes_and_goes_back(site: Site, bundle: Bundle) -> None:
    ip("link", "add", "gsd0", "type", "veth", "peer", "name", "gsd1")
    try:
        site.write(netDevices=[{"hostInterfaceName": "gsd0", "name": "net0"}])
        text = (site.files / "test.json").read_text().replace('"0.7.0"', '"1.1.0"')
        (site.files / "test.json").write_text(text)
        bundle.set("process.args", ["sleep", "1000"])
        site.runtime.boot(bundle, "--device", NAME)
        assert "gsd0" not in links()
        assert site.runtime.call("exec", bundle.id, "ls", "/sys/class/net").stdout.split() == ["lo", "net0"]
        site.runtime.delete(bundle, "--force")
        assert "gsd0" in links()
    finally:
        ip("link", "del", "gsd1")
