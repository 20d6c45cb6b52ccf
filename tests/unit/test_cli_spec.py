"""`gosudacon spec`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gosudacon.base.errors import Error
from gosudacon.cli import spec
from gosudacon.cli.parse import parse
from gosudacon.container.template import default_spec, write

if TYPE_CHECKING:
    from gosudacon.schema.types import Config


def namespaces(config: Config) -> list[str]:
    return [item["type"] for item in config["linux"]["namespaces"]]


def test_default() -> None:
    config = default_spec(cgroup_v2=False)
    assert config["hostname"] == "gosudacon"
    assert config["process"]["args"] == ["sh"]
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert namespaces(config) == ["pid", "network", "ipc", "uts", "mount"]
    assert set(config["process"]["capabilities"]) == {"bounding", "effective", "permitted"}
    assert config["linux"]["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}
    assert [mount["destination"] for mount in config["mounts"]] == [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    ]


def test_cgroup_v2() -> None:
    assert namespaces(default_spec(cgroup_v2=True)) == ["pid", "network", "ipc", "uts", "mount", "cgroup"]


def test_rootless() -> None:
    config = default_spec(cgroup_v2=True, rootless=(1000, 100))
    assert namespaces(config) == ["pid", "ipc", "uts", "mount", "cgroup", "user"]
    assert "resources" not in config["linux"]
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 100, "size": 1}]
    mounts = {mount["destination"]: mount for mount in config["mounts"]}
    assert not [option for option in mounts["/dev/pts"]["options"] if option.startswith("gid=")]
    assert mounts["/sys"] == {
        "destination": "/sys",
        "type": "none",
        "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
    }


def test_writes_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o022)
    try:
        assert spec.run(parse(["spec"])) == 0
    finally:
        os.umask(old)
    path = tmp_path / "config.json"
    text = path.read_text()
    assert json.loads(text)["hostname"] == "gosudacon"
    assert text.startswith('{\n\t"ociVersion": "1.3.0",\n\t"process": {\n\t\t"terminal": true,\n')
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert capfd.readouterr() == ("", "")


def test_bundle_and_rootless(tmp_path: Path) -> None:
    assert spec.run(parse(["spec", "--rootless", "-b", str(tmp_path)])) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["linux"]["uidMappings"][0]["hostID"] == os.geteuid()


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_never_overwrites(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with pytest.raises(Error) as caught:
        spec.run(parse(["spec", "--bundle", str(tmp_path)]))
    assert caught.value.message == "File config.json exists. Remove it first"
    assert kind != "file" or path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_no_such_bundle(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spec.run(parse(["spec", "--bundle", str(tmp_path / "none")]))


def test_half_a_file_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="No space"):
        write(str(tmp_path / "config.json"), {})
    assert not list(tmp_path.iterdir())
