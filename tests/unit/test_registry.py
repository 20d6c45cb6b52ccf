"""What config.toml may say, which plugins are loaded, in which order stages come, and who is blamed."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Host, Options, Spec
from gosudacon.base.errors import Error
from gosudacon.pipeline.plan import make
from gosudacon.pipeline.registry import Registry, registry

Plugin = Callable[..., None]
Configured = Callable[..., Registry]

BUILT_IN = [
    *("validate-config", "namespaces", "cgroups", "intel-rdt", "net-devices", "hooks"),
    *("rootfs-mount", "pivot-root", "seccomp", "handoff"),
]
STAGE = """
from gosudacon.api import MOUNT, Stage, Step, hookimpl

class {kind}Step(Step):
    phase = MOUNT

    def describe(self):
        return {name!r}

class {kind}(Stage):
    name = {name!r}
    after = {after!r}
    before = {before!r}
    keys = {keys!r}

    def plan(self, spec, host):
        yield {kind}Step()

@hookimpl
def gosudacon_stages():
    return [{kind}()]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A directory for packages, on sys.path for one test."""
    path = tmp_path / "site"
    path.mkdir()
    before = set(sys.modules)
    sys.path.append(str(path))
    yield path
    sys.path.remove(str(path))
    for name in set(sys.modules) - before:
        if name.startswith("gt_"):
            del sys.modules[name]


@pytest.fixture
def plugin(site: Path) -> Plugin:
    """Installs a package by hand: ``plugin("name", source)``; a stage of that name unless there is a source."""

    def install(
        name: str,
        source: str = "",
        *,
        stage: str = "",
        after: tuple[str, ...] = (),
        before: tuple[str, ...] = (),
        keys: tuple[str, ...] = (),
        package: str = "",
        value: str = "",
    ) -> None:
        module = "gt_" + (package or name).replace("-", "_")
        kind = "".join(word.title() for word in name.split("-"))
        text = source or STAGE.format(kind=kind, name=stage or name, after=after, before=before, keys=keys)
        (site / f"{module}.py").write_text(textwrap.dedent(text))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gosudacon]\n{name} = {value or module}\n")

    return install


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """The registry that a text of config.toml makes, without a snapshot."""

    def read(text: str = "", mode: int = 0o644) -> Registry:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(mode)
        return registry(str(path), use_snapshot=False)

    return read


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """The message with which a call is refused."""
    with pytest.raises(Error) as caught:
        call(*arguments)
    return caught.value.message


def entry(found: Registry, name: str) -> dict[str, Any]:
    (result,) = [each for each in found.data["stages"] if each["name"] == name]
    return dict(result)


# What is there without plugins.


def test_built_in_stages_in_their_order(configured: Configured) -> None:
    assert configured().names() == BUILT_IN


def test_no_configuration_file(configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration file is an empty one unless it was asked for."""
    monkeypatch.setattr("gosudacon.pipeline.registry.CONFIG", str(tmp_path / "missing.toml"))
    assert registry(use_snapshot=False).data == configured().data
    assert refusal(registry, str(tmp_path / "missing.toml"), False) == (
        f"open {tmp_path}/missing.toml: no such file or directory"
    )


def test_needed_stages_are_loaded(configured: Configured) -> None:
    """Only the stages that a bundle needs are loaded."""
    bare = Spec({}, "x", "/b")
    hooked = Spec({"hooks": {"poststop": [{"path": "/bin/true"}]}, "linux": {"seccomp": {}}}, "x", "/b")
    names = [stage.name for stage in configured().stages(bare)]
    assert "hooks" not in names and "seccomp" not in names
    assert "hooks" in [stage.name for stage in configured().stages(hooked)]


@pytest.mark.parametrize(
    ("options", "enabled", "message"),
    [
        (Options(device=["a/b=c"]), [], "--device a/b=c: the plugin cdi is not enabled"),
        (Options(publish=["80"]), ["cdi"], "--publish 80: neither of the plugins network and cni is enabled"),
        (Options(network=["web", "db"]), [], "--network web: neither of the plugins network and cni is enabled"),
        (Options(device=["a/b=c"], publish=["80"]), ["cdi", "cni"], ""),
        (Options(network=["web"]), ["network"], ""),
    ],
)
def test_options_that_are_for_plugins(options: Options, enabled: list[str], message: str) -> None:
    """An option without a plugin that knows it is refused rather than forgotten."""
    known = Registry({"stages": [], "hooks": {}, "plugins": {name: {} for name in enabled}})
    spec = Spec({}, "web", "/b", options)
    if not message:
        assert known.compiled(spec, Host(), make) is not None
        return
    with pytest.raises(Error) as error:
        known.compiled(spec, Host(), make)
    assert error.value.message == message
    assert "in /etc/gosudacon/config.toml enables it" in error.value.hint


# The file.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plugs = []", "unknown key 'plugs'; known: plugins, disable, replace, stage, plugin, trace"),
        ("plugin = []", "plugin must be a table of tables"),
        ("plugin = {network = 1}", "plugin must be a table of tables"),
        ("plugin.network.most = nan", "settings of plugins cannot be dates, inf or nan"),
        ("[plugin.network]", "[plugin.network] has settings for a plugin that is not enabled"),
        ('plugins = "banner"', "plugins must be a list of names"),
        ("plugins = [1]", "plugins must be a list of names"),
        ('disable = {hooks = "no"}', "disable must be a list of names"),
        ('replace = ["seccomp"]', "replace must be a table of names"),
        ("replace = {seccomp = 1}", "replace must be a table of names"),
        ('stage = {seccomp = "x"}', "stage must be a table of tables"),
        ("stage = []", "stage must be a table of tables"),
        ("disable = ['hooks', 'hooks']", "disable names the same twice"),
        ("stage.seccomp.since = 2026-11-23", "settings of stages cannot be dates, inf or nan"),
        ("stage.seccomp.most = inf", "settings of stages cannot be dates, inf or nan"),
        ("plugins = [", "Invalid value"),
    ],
)
def test_mistake_in_the_file(configured: Configured, text: str, message: str) -> None:
    """A mistake in the file is refused with its name."""
    refused = refusal(configured, text)
    assert message in refused
    assert "config.toml: " in refused


@pytest.mark.parametrize(
    "text",
    [
        'disable = ["nosuch"]',
        'replace = {nosuch = "seccomp"}',
        'replace = {seccomp = "nosuch"}',
        "[stage.nosuch]\nkey = 1",
    ],
)
def test_unknown_stage(configured: Configured, text: str) -> None:
    """An unknown stage is refused and the known ones listed."""
    refused = refusal(configured, text)
    assert "config.toml names the unknown stage 'nosuch'; known: cgroups, handoff, hooks, " in refused


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666, 0o602])
def test_a_file_that_others_can_write_to_is_refused(configured: Configured, mode: int) -> None:
    assert "must belong to root and be writable only by its owner" in refusal(configured, "", mode)


@pytest.mark.needs("root")
def test_a_file_of_another_user_is_refused(configured: Configured, tmp_path: Path) -> None:
    configured("")
    os.chown(tmp_path / "config.toml", 1000, 0)
    assert "must belong to root" in refusal(registry, str(tmp_path / "config.toml"), False)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    assert "config.toml: " in refusal(registry, str(tmp_path / "config.toml"), False)
    assert f"{tmp_path}: is a directory".lower() in refusal(registry, str(tmp_path), False).lower()


# Plugins.


def test_an_enabled_plugin_takes_part(configured: Configured, plugin: Plugin) -> None:
    plugin("extra", after=("namespaces",), before=("cgroups",))
    names = configured('plugins = ["extra"]').names()
    assert names == [*BUILT_IN[:2], "extra", *BUILT_IN[2:]]


def test_installed_but_not_enabled(configured: Configured, plugin: Plugin) -> None:
    """A plugin that is merely installed is not even imported."""
    plugin("extra", "raise SystemExit('imported')")
    assert configured().names() == BUILT_IN
    assert "gt_extra" not in sys.modules


def test_enabled_but_not_installed(configured: Configured) -> None:
    """An enabled plugin that is not installed is an error."""
    with pytest.raises(Error) as caught:
        configured('plugins = ["extra"]')
    assert caught.value.message == "plugin 'extra' is enabled but not installed"
    assert "no entry point 'extra' in the group 'gosudacon'" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import gt_nothing_like_this", "plugin 'extra': cannot import gt_extra: "),
        ("1 / 0", "plugin 'extra': cannot import gt_extra: ZeroDivisionError"),
        (
            "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_stages():\n    raise OSError(2, 'x')",
            "plugin 'extra': gosudacon_stages: no such file",
        ),
        (
            "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_stages():\n    return None",
            "plugin 'extra': gosudacon_stages: TypeError",
        ),
        (
            "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_stages():\n    return ['seccomp']",
            "plugin 'extra': gosudacon_stages gave 'seccomp', which is not a stage with a name",
        ),
        (
            "from gosudacon.api import Stage, hookimpl\n@hookimpl\ndef gosudacon_stages():\n    return [Stage()]",
            "which is not a stage with a name",
        ),
        (
            "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_stage():\n    return []",
            "plugin 'extra' does not fit this version of gosudacon: unknown hook 'gosudacon_stage'",
        ),
        (
            "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_amend_plan(plan, world):\n    pass",
            "plugin 'extra' does not fit this version of gosudacon",
        ),
        (
            "import pluggy\n@pluggy.HookimplMarker('gosudacon')(hookwrapper=True)\n"
            "def gosudacon_amend_plan(plan):\n    yield",
            "plugin 'extra': gosudacon_amend_plan must be a plain function, not a hook wrapper",
        ),
        (
            "from gosudacon.api import hookimpl\ndef make():\n    @hookimpl\n    def gosudacon_amend_plan(plan):\n"
            "        pass\n    return gosudacon_amend_plan\ngosudacon_amend_plan = make()",
            "must be a name in its module gt_extra",
        ),
        (
            "from gosudacon.api import Stage, hookimpl\n@hookimpl\ndef gosudacon_stages():\n"
            "    class Inner(Stage):\n        name = 'inner'\n    return [Inner()]",
            "must be a name in its module gt_extra",
        ),
        (STAGE.format(kind="Extra", name="extra", after="seccomp", before=(), keys=()), "must be a tuple of names"),
    ],
)
def test_a_broken_plugin_is_named(configured: Configured, plugin: Plugin, source: str, message: str) -> None:
    plugin("extra", source)
    assert message in refusal(configured, 'plugins = ["extra"]')


def test_an_entry_point_must_be_a_module(configured: Configured, plugin: Plugin) -> None:
    plugin("extra", value="gt_extra:gosudacon_stages")
    assert "'gt_extra:gosudacon_stages' is not a module" in refusal(configured, 'plugins = ["extra"]')


def test_one_plugin_of_two_packages(configured: Configured, plugin: Plugin) -> None:
    plugin("extra", package="one")
    plugin("extra", package="two")
    refused = refusal(configured, 'plugins = ["extra"]')
    assert refused == "plugin 'extra' comes from two packages: gt_one, gt_two"


def test_name_of_a_built_in_stage(configured: Configured, plugin: Plugin) -> None:
    """A plugin cannot take the name of a built in one."""
    plugin("seccomp", stage="other")
    assert refusal(configured, 'plugins = ["seccomp"]') == "plugin 'seccomp' has the name of another one"


def test_one_stage_of_two_plugins(configured: Configured, plugin: Plugin) -> None:
    plugin("one", stage="same")
    plugin("two", stage="same")
    refused = refusal(configured, 'plugins = ["one", "two"]')
    assert refused in (
        "stage 'same' comes from two plugins: one and two",
        "stage 'same' comes from two plugins: two and one",
    )
    plugin("third", stage="seccomp")
    assert "third" in refusal(configured, 'plugins = ["third"]')


# Order.


def test_ties_are_broken_by_name(configured: Configured, plugin: Plugin) -> None:
    for name in ("b", "c", "a"):
        plugin(name, after=("handoff",))
    assert configured('plugins = ["c", "b", "a"]').names()[-3:] == ["a", "b", "c"]
    assert configured('plugins = ["a", "c", "b"]').names()[-3:] == ["a", "b", "c"]


def test_cycle(configured: Configured, plugin: Plugin) -> None:
    """A circle is shown with the plugins it goes through."""
    plugin("early", stage="first", before=("cgroups",), after=("last",))
    plugin("late", stage="last", after=("cgroups",))
    plugin("apart", after=("cgroups",))
    refused = refusal(configured, 'plugins = ["early", "late", "apart"]')
    for each in ("first (of plugin early)", "last (of plugin late)", "cgroups (of plugin cgroups)"):
        assert each in refused
    assert "apart" not in refused


def test_a_stage_that_waits_for_itself(configured: Configured, plugin: Plugin) -> None:
    plugin("selfish", after=("selfish",))
    refused = refusal(configured, 'plugins = ["selfish"]')
    assert refused == ("the stages' order is a cycle: selfish (of plugin selfish) after selfish (of plugin selfish)")


@pytest.mark.parametrize("way", ["after", "before"])
def test_an_unknown_name_in_an_order_names_the_plugin(configured: Configured, plugin: Plugin, way: str) -> None:
    plugin("extra", stage="mine", **{way: ("nosuch",)})
    refused = refusal(configured, 'plugins = ["extra"]')
    assert refused == "stage 'mine' of plugin 'extra' refers to the unknown stage 'nosuch'"


# Disable and replace.


def test_disabled_stage(configured: Configured, plugin: Plugin) -> None:
    """A disabled stage is gone and may still be named."""
    plugin("extra", after=("hooks",), before=("seccomp",))
    names = configured('plugins = ["extra"]\ndisable = ["hooks", "seccomp"]').names()
    assert "hooks" not in names and "seccomp" not in names and "extra" in names


def test_replacement(configured: Configured, plugin: Plugin) -> None:
    """A replacement takes the place and knows whom it replaced."""
    plugin("mine", keys=("linux.seccomp",))
    text = 'plugins = ["mine"]\n[replace]\nseccomp = "mine"\n[stage.seccomp]\na = 1\n[stage.mine]\nb = 2\n'
    found = configured(text)
    assert found.names() == BUILT_IN
    spec = Spec({"linux": {"seccomp": {"flags": ["a"]}}}, "x", "/b")
    (stage,) = [each for each in found.stages(spec) if each.name == "seccomp"]
    assert type(stage).__name__ == "Mine"
    assert stage.settings == {"b": 2}
    assert stage.replaced is not None
    assert type(stage.replaced).__name__ == "SeccompStage"
    assert stage.replaced.name == "seccomp"
    assert stage.replaced.settings == {"a": 1}


def test_a_replacement_keeps_the_order_of_both(configured: Configured, plugin: Plugin) -> None:
    plugin("mine", after=("zebra",))
    plugin("zebra")
    plugin("other", after=("mine",))
    plugin("third", before=("seccomp",))
    text = 'plugins = ["mine", "other", "third", "zebra"]\n[replace]\nseccomp = "mine"\n'
    names = configured(text).names()
    assert "mine" not in names
    position = names.index("seccomp")
    assert names.index("pivot-root") < position  # from the stage replaced
    assert names.index("zebra") < position  # from the replacement
    assert names.index("third") < position < names.index("other")  # under either name


@pytest.mark.parametrize(
    "replace",
    [
        'seccomp = "seccomp"',
        'seccomp = "mine"\nhooks = "mine"',
        'seccomp = "hooks"\nhooks = "mine"',
    ],
)
def test_replacements_do_not_go_in_chains(configured: Configured, plugin: Plugin, replace: str) -> None:
    plugin("mine")
    refused = refusal(configured, f'plugins = ["mine"]\n[replace]\n{replace}\n')
    assert "it is replaced itself, or replaces another" in refused


@pytest.mark.parametrize("name", ["seccomp", "mine"])
def test_replaced_and_disabled(configured: Configured, plugin: Plugin, name: str) -> None:
    """What is replaced or replaces cannot be disabled."""
    plugin("mine")
    refused = refusal(configured, f'plugins = ["mine"]\ndisable = ["{name}"]\n[replace]\nseccomp = "mine"\n')
    assert "cannot be replaced and disabled at the same time" in refused


# Hooks other than stages.

AMENDING = """
from gosudacon.api import MOUNT, Step, hookimpl

class New(Step):
    phase = MOUNT
    name: str

    def describe(self):
        return self.name

@hookimpl
def gosudacon_amend_plan({arguments}):
    plan.steps.append(New(name={name!r}))
"""


@pytest.mark.parametrize("arguments", ["plan", "plan, spec", "host, plan, spec"])
def test_hook_arguments_and_order(configured: Configured, plugin: Plugin, arguments: str) -> None:
    """Hooks take the arguments they name the last plugin first."""
    plugin("one", AMENDING.format(arguments=arguments, name="of one"))
    plugin("two", AMENDING.format(arguments="plan", name="of two"))
    plan = make([], Spec({}, "x", "/b"), Host())
    configured('plugins = ["one", "two"]').amend(plan, Spec({}, "x", "/b"), Host())
    assert plan.amended == ["two added: of two", "one added: of one"]


MARKED = AMENDING.replace("@hookimpl\n", "@hookimpl({mark}=True)\n")


def test_the_first_and_the_last(configured: Configured, plugin: Plugin, site: Path) -> None:
    """tryfirst and trylast, whatever the order in which plugins are enabled."""
    for name, mark in (("one", "tryfirst"), ("two", ""), ("three", "trylast"), ("four", "tryfirst"), ("five", "")):
        text = (MARKED if mark else AMENDING).format(arguments="plan", name=name, mark=mark)
        plugin(name, text)
    plan = make([], Spec({}, "x", "/b"), Host())
    found = configured('plugins = ["one", "two", "three", "four", "five"]')
    remembered = Registry(json.loads(json.dumps(found.data)))  # as by the snapshot
    remembered.amend(plan, Spec({}, "x", "/b"), Host())
    assert [line.partition(" ")[0] for line in plan.amended] == ["four", "one", "five", "two", "three"]


EDITING = """
from gosudacon.api import Edit, hookimpl

@hookimpl
def gosudacon_edit_spec(spec, settings):
    return Edit().append("annotations.order", settings.get("word", "{name}"))
"""


def test_plugins_edit_in_order(configured: Configured, plugin: Plugin) -> None:
    """Plugins edit one after the other with their settings."""
    for name in ("one", "two"):
        plugin(name, EDITING.format(name=name))
    spec = Spec({}, "x", "/b")
    found = configured('plugins = ["one", "two"]\n[plugin.one]\nword = "uno"')
    assert found.editors() == ["two", "one"]
    assert found.edit(spec, Host()) is not None
    assert spec.config == {"annotations": {"order": ["two", "uno"]}}


@pytest.mark.parametrize("operation", ["create", "exec", "restore", "update"])
def test_every_plan_is_amended(configured: Configured, plugin: Plugin, operation: str) -> None:
    plugin("one", AMENDING.format(arguments="plan, spec", name="new"))
    spec = Spec({}, "x", "/b", operation=operation)
    found = configured('plugins = ["one"]')
    plan = found.compiled(spec, Host(), lambda stages, spec, host: make([], spec, host))
    assert plan.amended == ["one added: new"]


def test_an_amendment_of_exec_must_not_last(configured: Configured, plugin: Plugin) -> None:
    text = AMENDING.format(arguments="plan", name="new")
    plugin("one", text.replace("    phase = MOUNT", "    phase = MOUNT\n    lasts = True"))
    found, spec = configured('plugins = ["one"]'), Spec({}, "x", "/b", operation="exec")
    message = refusal(found.compiled, spec, Host(), lambda stages, spec, host: make([], spec, host))
    assert message == "stage 'one': a step of exec must not last: nothing would undo it: new"


def test_a_stage_is_known_by_both_its_names(configured: Configured, plugin: Plugin) -> None:
    plugin("mine")
    found = configured('plugins = ["mine"]\n[replace]\nseccomp = "mine"')
    assert found.labels("mine") == found.labels("seccomp") == ["seccomp", "mine"]
    assert (found.labels("hooks"), found.labels("nosuch")) == (["hooks", "hooks"], [])


def test_a_plugin_is_not_a_stage(configured: Configured, plugin: Plugin) -> None:
    plugin("one", EDITING.format(name="one"))
    with pytest.raises(Error) as caught:
        configured('plugins = ["one"]\n[stage.one]\nword = 1')
    assert caught.value.hint == "one is a plugin without a stage of that name; its settings are [plugin.one]"


def test_an_amendment_that_fails_names_its_plugin(configured: Configured, plugin: Plugin) -> None:
    plugin("one", "from gosudacon.api import hookimpl\n@hookimpl\ndef gosudacon_amend_plan(plan):\n    plan.nothing")
    found = configured('plugins = ["one"]')
    plan = make([], Spec({}, "x", "/b"), Host())
    refused = refusal(found.amend, plan, Spec({}, "x", "/b"), Host())
    assert refused.startswith("plugin 'one': gosudacon_amend_plan: AttributeError")
