"""crun's command line: another configuration than config.json, containers by a pattern, default id mappings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.base.errors import ConfigError
from gosudacon.container import idmaps
from gosudacon.pipeline.spec import Host, Spec
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, messages

Bundles = Callable[..., Bundle]


# --config.


@pytest.mark.parametrize("words", [["-f", "other.json"], ["--config", "@/other.json"], ["--config=other.json"]])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_another_configuration(runtime: Runtime, bundle: Bundle, verb: str, words: list[str]) -> None:
    """Relative to the bundle. The copy in the state directory is what counts later."""
    other = {**bundle.config, "hostname": "other"}
    (bundle.path / "other.json").write_text(json.dumps(other))
    bundle.config_path.write_text("{")
    words = [word.replace("@", str(bundle.path)) for word in words]
    if verb == "run":
        runtime.run(bundle, *words, "--detach")
    else:
        runtime.create(bundle, *words)
        runtime.start(bundle)
    (bundle.path / "other.json").unlink()
    assert runtime.call("exec", bundle.id, "hostname").stdout == "other\n"
    runtime.delete(bundle, "--force")


def test_explain_of_another(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "other.json").write_text(json.dumps({**bundle.config, "hostname": "other"}))
    for words in (["-f", "other.json"], ["--config", str(bundle.path / "other.json")]):
        assert "sethostname(other)" in runtime.call("explain", *words, bundle.path).stdout
    (bundle.path / "other.json").write_text(json.dumps({**bundle.config, "hostname": 5}))
    result = runtime.call("explain", "-f", "other.json", bundle.path, check=False)
    assert result.returncode == 1 and f"{bundle.path}/other.json:1:" in result.stderr
    result = runtime.call("explain", "-f", "none.json", bundle.path, check=False)
    assert result.returncode == 1 and "JSON specification file none.json not found" in result.stderr


def test_the_former_name_of_config_file(runtime: Runtime, scratch: Path) -> None:
    (scratch / "config.toml").write_text("")
    for name, lines in (("--config", 1), ("--config-file", 0)):
        result = runtime.call("list", options=[name, scratch / "config.toml"], check=False)
        warnings = [line for line in result.stderr.splitlines() if "level=warning" in line]
        assert len(warnings) == lines
        assert all("--config is now called --config-file" in line for line in warnings)


# delete --regex.


def test_delete_by_a_pattern(runtime: Runtime, make_bundle: Bundles) -> None:
    bundles = [make_bundle(name=name) for name in ("web-1", "web-2", "web-x", "db-1")]
    for bundle in bundles:
        runtime.boot(bundle)
    runtime.delete("^none$", "--regex")
    assert {runtime.status(bundle) for bundle in bundles} == {"running"}
    runtime.delete("[-](web|none)-[[:digit:]]+$", "--force", "--regex")
    assert [runtime.status(bundle) for bundle in bundles] == ["none", "none", "running", "running"]
    runtime.delete("web", "--regex", "--force")
    assert [runtime.status(bundle) for bundle in bundles[2:]] == ["none", "running"]


def test_one_that_cannot_be_deleted(runtime: Runtime, make_bundle: Bundles) -> None:
    """It keeps no other, is named, and makes the status 1."""
    running, created = make_bundle(name="a"), make_bundle(name="b")
    runtime.boot(running)
    runtime.create(created)
    result = runtime.delete(".", "--regex", check=False)
    assert result.returncode == 1
    (line,) = messages(result.stderr)
    assert running.id in line and "running" in line
    assert [runtime.status(bundle) for bundle in (running, created)] == ["running", "none"]


def test_no_pattern(runtime: Runtime) -> None:
    result = runtime.delete("(", "--regex", check=False)
    assert result.returncode == 1 and "invalid regular expression" in result.stderr


# Default id mappings.


def mapped(uid: int, euid: int, subordinate: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    monkeypatch.setattr(idmaps, "_subordinate", lambda kind, euid: subordinate)
    config = {"linux": {"namespaces": [{"type": "user"}]}, "process": {"user": {"uid": uid, "gid": uid}}}
    spec = Spec(config, "x", "/b")  # type: ignore[arg-type]
    idmaps.complete(spec, Host(euid=euid))
    return [(each["containerID"], each["hostID"], each["size"]) for each in spec.linux["uidMappings"]]


def test_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What crun's libcrun_set_usernamespace writes; of root without subordinate ids what it wrote before 1.0."""
    assert mapped(0, 0, (0, 0), monkeypatch) == [(0, 0, 1)]
    assert mapped(5, 0, (0, 0), monkeypatch) == [(0, 0, 6)]
    assert mapped(0, 1000, (100000, 65536), monkeypatch) == [(0, 1000, 1), (1, 100000, 65536)]
    assert mapped(5, 1000, (100000, 65536), monkeypatch) == [(0, 100000, 5), (5, 1000, 1), (6, 100005, 65531)]
    assert mapped(5, 1000, (100000, 5), monkeypatch) == [(0, 100000, 5), (5, 1000, 1)]
    assert mapped(0, 1000, (0, 0), monkeypatch) == [(0, 1000, 1)]
    with pytest.raises(ConfigError, match="uid 5 cannot be mapped beside root"):
        mapped(5, 1000, (0, 0), monkeypatch)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_user_namespace_without_mappings(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    bundle.add_namespace("user").set("process.user", {"uid": uid, "gid": uid})
    bundle.config["mounts"] = [entry for entry in bundle.config["mounts"] if entry["destination"] != "/dev/pts"]
    bundle.set("process.args", ["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id -u"])
    wanted = ["0", "0", str(uid + 1)] * 2 + [str(uid)]
    assert runtime.output(bundle).split() == wanted
    runtime.boot(bundle.set("process.args", ["sleep", "1000"]))
    saved = json.loads((runtime.root / bundle.id / "config.json").read_text())
    assert saved["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": uid + 1}]
    assert runtime.call("exec", bundle.id, "id", "-u").stdout == f"{uid}\n"


def test_given_mappings_stay(runtime: Runtime, bundle: Bundle) -> None:
    """Only what is missing is made."""
    bundle.add_namespace("user").set("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 77}])
    bundle.config["mounts"] = [entry for entry in bundle.config["mounts"] if entry["destination"] != "/dev/pts"]
    bundle.set("process.args", ["cat", "/proc/self/uid_map", "/proc/self/gid_map"])
    assert runtime.output(bundle).split() == ["0", "0", "77", "0", "0", "1"]
