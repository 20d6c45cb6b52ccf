"""The plugin policy in earnest: what breaks a rule is refused before anything is made; exec and update, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("root", "busybox", "runtime:gosudacon")

RULES = """
[[stage.policy.rule]]
name = "privileges"
message = "no privileges here"
require = ["no-new-privileges"]
deny-capabilities = ["SYS_ADMIN", "SYS_PTRACE"]

[[stage.policy.rule]]
name = "root"
message = "not as root"
mode = "report"
require = ["non-root-user"]

[[stage.policy.rule]]
name = "paths"
message = "the host's files are its own"
deny-paths = ["/etc"]

[[stage.policy.rule]]
name = "pids"
message = "few processes"
limits = { pids = 100 }

[[stage.policy.exception]]
annotation = "org.example.tenant"
values = ["trusted-*"]
rules = ["paths", "privileges"]
"""


class Site:
    """A runtime with rules; ``more`` goes before them."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        (scratch / "site").mkdir()
        self.runtime = self.enabled()

    def enabled(self, names: str = '"policy"', rules: str = RULES) -> Runtime:
        entry = plugins.entry(self.scratch / "site", self.scratch / "entry.py")
        text = f"plugins = [{names}]\n{rules}"
        return plugins.runtime(entry, self.scratch / "config.toml", text, self.scratch / "root")


@pytest.fixture
def site(leftovers: Watch, scratch: Path) -> Iterator[Site]:
    value = Site(scratch)
    yield value
    value.runtime.clean()


@pytest.fixture
def good(bundle: Bundle) -> Bundle:
    """A container that breaks no rule but the one that is only reported."""
    bundle.set("process.args", ["sleep", "1000"]).set("linux.resources.pids", {"limit": 50})
    return bundle


def spoil(bundle: Bundle) -> None:
    bundle.set("process.noNewPrivileges", False)
    bundle.config["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    bundle.remove("linux.resources.pids")
    link = bundle.path / "link"
    link.symlink_to("/etc")
    bundle.config["mounts"].append({"destination": "/host", "type": "bind", "source": str(link), "options": ["rbind"]})
    bundle.write()


SAID = [
    "process.noNewPrivileges: no privileges here: is not true (policy: privileges)",
    "process.capabilities.bounding: no privileges here: has CAP_SYS_ADMIN (policy: privileges)",
    "mounts[6].source: the host's files are its own: is {link}, which is /etc (policy: paths)",
    "linux.resources.pids.limit: few processes: is not set (policy: pids)",
]


@pytest.mark.parametrize("command", ["create", "run"])
def test_all_violations_at_once_before_anything_is_made(site: Site, good: Bundle, command: str) -> None:
    spoil(good)
    result = getattr(site.runtime, command)(good, check=False)
    assert result.returncode == 1
    assert "refused by the policy of this host" in result.stderr
    for text in SAID:
        assert text.format(link=good.path / "link") in result.stderr
    assert not (site.scratch / "root" / good.id).exists()


def test_explain_says_where(site: Site, good: Bundle) -> None:
    spoil(good)
    result = site.runtime.call("explain", good.path, check=False)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len([line for line in lines if "(policy: " in line]) == len(SAID)
    written = good.config_path.read_text().splitlines()
    for line, text in zip([line for line in lines if "(policy: " in line], SAID, strict=True):
        assert text.format(link=good.path / "link") in line
        number = int(line.split("config.json:")[1].split(":")[0])
        assert number > 0 and written[number - 1]
    assert '"noNewPrivileges"' in written[int(lines[0].split("config.json:")[1].split(":")[0]) - 1]


def test_what_is_reported_is_a_warning(site: Site, good: Bundle) -> None:
    result = site.runtime.create(good)
    assert "process.user.uid: not as root: is 0, root's (policy: root)" in result.stderr + good.stderr
    plan = json.loads(site.runtime.call("explain", "--format", "json", good.path).stdout)
    assert [each["where"] for each in plan["warnings"] if each["stage"] == "policy"] == ["process.user.uid"]


def test_an_exception(site: Site, good: Bundle) -> None:
    spoil(good)
    good.set("linux.resources.pids", {"limit": 50}).set("annotations", {"org.example.tenant": "trusted-7"})
    site.runtime.create(good)
    site.runtime.delete(good, "--force")
    good.set("annotations", {"org.example.tenant": "untrusted"})
    assert site.runtime.create(good, check=False).returncode == 1


def test_exec(site: Site, good: Bundle) -> None:
    runtime = site.runtime
    runtime.boot(good)
    assert runtime.call("exec", good.id, "echo", "yes").stdout == "yes\n"
    result = runtime.call("exec", "--cap", "CAP_SYS_PTRACE", good.id, "true", check=False)
    assert result.returncode == 255
    assert "no privileges here: has CAP_SYS_PTRACE (policy: privileges)" in result.stderr
    process = {
        "args": ["true"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]},
    }
    file = site.scratch / "process.json"
    file.write_text(json.dumps(process))
    result = runtime.call("exec", "--process", file, good.id, check=False)
    assert result.returncode == 255
    assert "process.noNewPrivileges: no privileges here: is not true" in result.stderr
    assert "process.capabilities.bounding: no privileges here: has CAP_SYS_ADMIN" in result.stderr
    explained = runtime.call("explain", "--exec", file, good.path, check=False)
    assert explained.returncode == 1 and "has CAP_SYS_ADMIN (policy: privileges)" in explained.stderr
    assert "not as root" in runtime.call("exec", good.id, "true").stderr


def test_exec_in_an_excepted_container(site: Site, good: Bundle) -> None:
    good.set("annotations", {"org.example.tenant": "trusted-7"})
    site.runtime.boot(good)
    assert site.runtime.call("exec", "--cap", "CAP_SYS_PTRACE", good.id, "echo", "yes").stdout == "yes\n"


def test_update(site: Site, good: Bundle) -> None:
    runtime = site.runtime
    runtime.boot(good)
    runtime.call("update", "--pids-limit", "90", good.id)
    for limit in ("101", "-1"):
        result = runtime.call("update", "--pids-limit", limit, good.id, check=False)
        assert result.returncode == 1
        assert "linux.resources.pids.limit: few processes: is " in result.stderr
    plan = json.loads((site.scratch / "root" / good.id / "state.json").read_text())
    assert plan["resources"]["pids"]["limit"] == 90
    report = RULES.replace('message = "few processes"', 'message = "few processes"\nmode = "report"')
    reporting = site.enabled(rules=report)
    assert "few processes: is 101, more than 100" in reporting.call("update", "--pids-limit", "101", good.id).stderr


def test_mounts_add(site: Site, good: Bundle) -> None:
    runtime = site.runtime
    runtime.boot(good)
    link = site.scratch / "link"
    link.symlink_to("/etc")
    mounts = site.scratch / "mounts.json"
    mounts.write_text(json.dumps([{"destination": "/host", "type": "bind", "source": str(link), "options": ["bind"]}]))
    result = runtime.call("mounts", "add", good.id, mounts, check=False)
    assert result.returncode == 1
    assert f"the host's files are its own: is {link}, which is /etc (policy: paths)" in result.stderr
    assert runtime.call("exec", good.id, "ls", "/host", check=False).returncode != 0


def test_what_another_plugin_has_added_is_judged_and_named(site: Site, good: Bundle) -> None:
    files = site.scratch / "cdi"
    files.mkdir(mode=0o755)
    edits = {"mounts": [{"hostPath": "/etc", "containerPath": "/opt/etc"}]}
    device = {"name": "a", "containerEdits": edits}
    (files / "x.json").write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "v.org/c", "devices": [device]}))
    runtime = site.enabled('"cdi", "policy"', f'[plugin.cdi]\ndirectories = ["{files}"]\n{RULES}')
    result = runtime.create(good, "--device", "v.org/c=a", check=False)
    assert result.returncode == 1
    assert "the host's files are its own: is /etc (policy: paths)" in result.stderr
    assert "(plugin 'cdi' added mounts[" in result.stderr and f"for v.org/c=a in {files}/x.json" in result.stderr


def test_rules_that_make_no_sense_are_refused_for_every_container(site: Site, good: Bundle) -> None:
    runtime = site.enabled(rules=RULES.replace("deny-paths", "deny-path"))
    result = runtime.create(good, check=False)
    assert result.returncode == 1
    assert "[stage.policy] rule[2].deny-path is not known" in result.stderr


def test_a_configuration_that_is_not_valid_is_said_so(site: Site, good: Bundle) -> None:
    good.set("mounts", ["x", {"destination": 7}])
    result = site.runtime.create(good, check=False)
    assert result.returncode == 1
    assert "invalid config.json" in result.stderr and "policy" not in result.stderr
