"""features: the structure, its form, and that every stage speaks for itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import referencing

from gosudacon.api import Stage
from gosudacon.base.errors import Error
from gosudacon.container import features as module
from gosudacon.pipeline.registry import Registry
from tests.support.runtime import CHECKOUT, runtime_command

if TYPE_CHECKING:
    from gosudacon.schema.types import Features

SCHEMA = CHECKOUT / "schema"


class Speaks(Stage):
    """A stage with the features it is given."""

    def __init__(self, features: Any) -> None:
        self.name = "speaks"
        self._features = features

    def features(self) -> Features:
        if isinstance(self._features, Exception):
            raise self._features
        found: Features = self._features
        return found


def of(monkeypatch: pytest.MonkeyPatch, *stages: Any) -> Any:
    """The features of a runtime that has stages with these features."""

    class Fake(Registry):
        def all_stages(self) -> list[Stage]:
            return [Speaks(each) for each in stages]

    monkeypatch.setattr(module, "registry", lambda config, use_snapshot: Fake({"hooks": {}, "plugins": {}}))
    return module.features()


@pytest.fixture(scope="module")
def found() -> Any:
    return module.features(use_snapshot=False)


def check(value: Any) -> None:
    """Raise if this is not a features structure by schema/features.schema.json."""
    documents = {path.name: json.loads(path.read_text()) for path in SCHEMA.glob("*.schema.json")}
    resources = [(name, referencing.Resource.from_contents(each)) for name, each in documents.items()]
    known: referencing.Registry[Any] = referencing.Registry().with_resources(resources)
    jsonschema.Draft202012Validator(documents["features.schema.json"], registry=known).validate(value)


def test_it_is_a_features_structure(found: dict[str, Any]) -> None:
    check(found)
    with pytest.raises(jsonschema.ValidationError):
        check({**found, "hooks": "all"})


def test_what_the_command_prints(found: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    command = [*runtime_command(), "--config-file", str(tmp_path / "config.toml"), "--no-snapshot", "features"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert run.stderr == ""
    assert run.stdout == json.dumps(found, indent=4, ensure_ascii=True) + "\n"


def test_what_callers_decide_by(found: dict[str, Any]) -> None:
    assert "rro" in found["mountOptions"]
    assert found["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert (found["ociVersionMin"], found["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert found["hooks"][:2] == ["prestart", "createRuntime"]
    assert "time" in found["linux"]["namespaces"]


def test_options_are_words_that_mounts_take(found: dict[str, Any]) -> None:
    from gosudacon.stages.rootfs_mount.options import Options

    for word in found["mountOptions"]:
        assert Options([word], "mounts[0].options").data == [], word


def test_what_is_not_there_is_not_claimed(found: dict[str, Any]) -> None:
    linux = found["linux"]
    assert (linux["intelRdt"]["enabled"], linux["netDevices"]["enabled"]) == (True, True)


def test_systemd_makes_cgroups(found: dict[str, Any]) -> None:
    assert found["linux"]["cgroup"]["systemd"] is True
    assert set(found["potentiallyUnsafeConfigAnnotations"]) == {
        "org.systemd.property.",
        "run.oci.hooks.stderr",
        "run.oci.hooks.stdout",
        "run.oci.keep_original_groups",
        "run.oci.mount_context_type",
    }


def test_every_architecture_can_be_compiled_for(found: dict[str, Any]) -> None:
    from gosudacon.stages.seccomp import compiler, steps

    seccomp = found["linux"]["seccomp"]
    if not seccomp["enabled"]:
        pytest.skip("no libseccomp")
    assert {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"} <= set(seccomp["archs"])
    for name in seccomp["archs"]:
        if name.startswith("SCMP_ARCH_X86"):  # a filter has architectures of one byte order
            profile: Any = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name], "syscalls": []}
            assert compiler.build(profile, "SCMP_ACT_KILL", steps.library())
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])


def test_flags_that_the_kernel_does_not_know() -> None:
    from gosudacon.linux import seccomp

    assert seccomp.knows_flags(seccomp.FLAG_LOG)
    assert not seccomp.knows_flags(1 << 20)


def test_no_libseccomp(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[stage.seccomp]\nlibrary = "/nonexistent/libseccomp.so"\n')
    found = module.features(str(config), use_snapshot=False)
    assert found["linux"]["seccomp"] == {"enabled": False}
    assert "io.github.seccomp.libseccomp.version" not in found["annotations"]
    check(found)


def test_a_disabled_stage_has_no_features(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('disable = ["seccomp", "hooks"]\n')
    found = module.features(str(config), use_snapshot=False)
    assert (found["linux"]["seccomp"], found["hooks"]) == ({"enabled": False}, [])


def test_stages_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of(
        monkeypatch,
        {"hooks": ["a", "b"], "linux": {"netDevices": {"enabled": True}, "new": {"x": 1}}},
        {"hooks": ["b", "c"], "linux": {"netDevices": {"enabled": False}}, "annotations": {"org.example": "1"}},
    )
    assert found["hooks"] == ["a", "b", "c"]
    assert found["linux"]["netDevices"] == {"enabled": True}
    assert found["linux"]["new"] == {"x": 1}
    assert found["annotations"]["org.example"] == "1"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"hooks": "all"}, "stage 'speaks': features: hooks cannot be 'all' here"),
        ({"ociVersionMax": "9"}, "stage 'speaks': features: ociVersionMax cannot be '9' here"),
        ({"x": {1, 2}}, "stage 'speaks': features: "),
        (ValueError("no idea"), "stage 'speaks': features: ValueError: no idea"),
    ],
)
def test_a_stage_that_says_nonsense_is_named(monkeypatch: pytest.MonkeyPatch, features: Any, message: str) -> None:
    with pytest.raises(Error) as caught:
        of(monkeypatch, features)
    assert caught.value.message.startswith(message)


def test_asking_changes_nothing() -> None:
    first: Any = module.features(use_snapshot=False)
    first["hooks"].append("x")
    first["linux"]["seccomp"]["enabled"] = None
    assert module.features(use_snapshot=False) != first


@pytest.mark.parametrize(
    ("config", "annotations"),
    [
        ('plugins = ["cni"]', []),
        ('plugins = ["cni"]\n[plugin.cni]\nannotations = ["network"]', ["io.gosudacon.network"]),
        ('plugins = ["cdi"]', ["cdi.k8s."]),  # a beginning
        ('plugins = ["cdi"]\n[plugin.cdi]\nannotations = []', []),
        ('plugins = ["learn"]', []),
        ('plugins = ["learn"]\n[stage.learn]\ndirectory = "/p"\nnames = ["web"]', ["io.gosudacon.learn"]),
    ],
)
def test_a_plugin_speaks_for_its_settings(tmp_path: Path, config: str, annotations: list[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config)
    without: Any = module.features(use_snapshot=False)
    found: Any = module.features(str(path), use_snapshot=False)
    check(found)
    name = "potentiallyUnsafeConfigAnnotations"
    assert [text for text in found[name] if text not in without[name]] == annotations


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "plugin 'loud': features: None is not an object"),
        ({"hooks": {"a"}}, "plugin 'loud': features: "),
        ({"hooks": "a"}, "plugin 'loud': features: hooks cannot be 'a' here"),
    ],
)
def test_a_plugin_whose_features_are_none(monkeypatch: pytest.MonkeyPatch, said: Any, message: str) -> None:
    class Loud(Registry):
        def all_stages(self) -> list[Stage]:
            return []

        def hook(self, name: str) -> Any:
            return [("loud", lambda settings: said)] if name == "gosudacon_features" else []

    monkeypatch.setattr(module, "registry", lambda config, use_snapshot: Loud({"hooks": {}, "plugins": {}}))
    with pytest.raises(Error) as error:
        module.features()
    assert error.value.message.startswith(message)
