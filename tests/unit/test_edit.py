"""What plugins change of the configuration: `Edit`, who did what, and that nothing else can change it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import EXEC, UPDATE, ConfigError, Edit, Error, Host, Options, Spec, Stage, Step, Target, hookimpl
from gosudacon.base import jsonio
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline import plugins
from gosudacon.pipeline.edit import Changes, where
from gosudacon.pipeline.frozen import FrozenDict, FrozenList, ReadOnlySpec, freeze, freeze_spec, thaw
from gosudacon.pipeline.registry import Registry, registry

Plugins = dict[str, Callable[..., Any]]


class Fake(Registry):
    """A registry of hooks and stages given as they are."""

    def __init__(self, hooks: Plugins, stages: list[Stage] | None = None, **settings: Any) -> None:
        super().__init__({"plugins": {name: settings.get(name, {}) for name in hooks}, "hooks": {}, "stages": []})
        self.hooks = hooks
        self.found = stages or []

    def stages(self, spec: Spec) -> list[Stage]:
        return self.found

    def hook(self, name: str) -> list[tuple[str, Callable[..., Any]]]:
        return [*self.hooks.items()] if name == "gosudacon_edit_spec" else []


def edited(edit: Edit, config: Any = None) -> Any:
    return thaw(edit.applied(freeze(config or {})))


def spec(config: Any, **attributes: Any) -> Spec:
    return Spec(config, "web", "/b", **attributes)


def changes(before: Any, *edits: Edit) -> list[tuple[str, ...]]:
    """The changes that plugins a, b, ... made: plugin, what, path."""
    found = noted(before, *edits)
    return [(change.plugin, change.what, where(change.path)) for change in found]


def noted(before: Any, *edits: Edit) -> Changes:
    found, config = Changes(), freeze(before)
    for name, edit in zip("abcdef", edits, strict=False):
        config = edit.applied(config, partial(found.note, name))
    return found


# What an edit does.


def test_a_device_is_a_node_and_a_permission() -> None:
    edit = Edit().add_device("/dev/fuse", "c", 10, 229, mode=0o666)
    assert edited(edit) == {
        "linux": {
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}],
            "resources": {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]},
        }
    }


def test_what_is_added_twice_is_there_once() -> None:
    edit = Edit()
    edit.add_device("/dev/fuse", "c", 10, 229).add_env("A", "1").add_mount("/x", "/y").set_annotation("a.b", "c")
    edit.add_hook("poststop", "/bin/true", ["true"], timeout=3)
    once = edited(edit)
    assert edited(edit, once) == once
    assert once["mounts"] == [{"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind"]}]
    assert once["hooks"] == {"poststop": [{"path": "/bin/true", "args": ["true"], "timeout": 3}]}
    assert once["annotations"] == {"a.b": "c"}


def test_a_device_of_that_path_is_replaced() -> None:
    config = {"linux": {"devices": [{"path": "/dev/a", "type": "b"}, {"path": "/dev/b"}]}}
    found = edited(Edit().add_device("/dev/a", "c", 1, 3), config)["linux"]["devices"]
    assert [(each["path"], each.get("major")) for each in found] == [("/dev/a", 1), ("/dev/b", None)]


def test_a_variable_of_that_name_is_replaced() -> None:
    config = {"process": {"env": ["A=1", "AB=2", "A=3"]}}
    assert edited(Edit().add_env("A", "x=y"), config)["process"]["env"] == ["A=x=y", "AB=2"]


def test_a_mount_of_another_type_has_its_own_options() -> None:
    (mount,) = edited(Edit().add_mount("/x", "tmpfs", "tmpfs", ["size=1k"]))["mounts"]
    assert mount["options"] == ["size=1k"]
    (mount,) = edited(Edit().add_mount("/x", "/y", options=["bind", "ro"]))["mounts"]
    assert mount["options"] == ["bind", "ro"]


def test_any_place_by_its_path() -> None:
    config = {"mounts": [{"destination": "/a"}, {"destination": "/b"}], "hostname": "h"}
    edit = Edit().set("mounts[1].options", ("ro",)).remove("mounts[0]").remove("hostname").remove("no.such[3].place")
    edit.append("linux.maskedPaths", "/proc/x").append("linux.maskedPaths", "/proc/x")
    edit.set(("linux", "sysctl", "net.ipv4.ip_forward"), "1").set("domainname", None)
    assert edited(edit, config) == {
        "mounts": [{"destination": "/b", "options": ["ro"]}],
        "linux": {"maskedPaths": ["/proc/x", "/proc/x"], "sysctl": {"net.ipv4.ip_forward": "1"}},
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Edit().set("process.args.x", 1), "set process.args.x: process.args is not an object"),
        (lambda: Edit().set("process[0]", 1), "set process[0]: process is not a list"),
        (lambda: Edit().set("mounts[0].type", "x"), "there is no mounts[0] to change; append adds an element"),
        (lambda: Edit().append("process", 1), "append process: it is not a list"),
        (lambda: Edit().set("x", object()), "is not allowed in config.json"),
        (lambda: Edit().set("x", {1: 2}), "the names of members must be strings"),
        (lambda: Edit().set("x", float("nan")), "is not allowed in config.json"),
    ],
)
def test_what_cannot_be_done(make: Callable[[], Edit], message: str) -> None:
    with pytest.raises(Error) as caught:
        edited(make(), {"process": {"args": ["x"]}})
    assert message in caught.value.message


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a[", "a[x]", "a[]", "a[1", ()])
def test_what_is_not_a_path(path: Any) -> None:
    with pytest.raises(ValueError, match="path"):
        Edit().set(path, 1)


def test_what_is_not_a_name() -> None:
    with pytest.raises(ValueError, match="not the name of a variable"):
        Edit().add_env("A=B", "c")
    with pytest.raises(ValueError, match="not a kind of hook"):
        Edit().add_hook("preStart", "/bin/true")


# Who did what.


def test_every_difference_is_told() -> None:
    config = {"process": {"env": ["A=1"], "cwd": "/"}, "mounts": [{"destination": "/a"}]}
    first = Edit().add_env("B", "2").set("process.cwd", "/x").add_mount("/m", "/s")
    second = Edit().remove("mounts[0]").set("process", {**config["process"], "terminal": True})  # type: ignore[dict-item]
    assert changes(config, first, second) == [
        ("a", "added", "process.env[1]"),
        ("a", "changed", "process.cwd"),
        ("a", "added", "mounts[1]"),
        ("b", "removed", "mounts[0]"),
        ("b", "removed", "process.env[1]"),
        ("b", "changed", "process.cwd"),
        ("b", "added", "process.terminal"),
    ]


def test_nothing_changed_is_nothing_told() -> None:
    config = {"process": {"env": ["A=1"]}}
    assert changes(config, Edit().add_env("A", "1").set("process.env", ["A=1"]).remove("x")) == []


def test_the_author_of_a_place() -> None:
    """Also after a later plugin has moved it."""
    found = noted(
        {"mounts": [{"destination": "/a"}, {"destination": "/b"}]},
        Edit().add_mount("/m", "/s").set_annotation("org.x", "y"),
        Edit().remove("mounts[0]").append("mounts", {"destination": "/n"}),
    )
    assert str(found.author("mounts[2]")) == "plugin 'b' added mounts[2]"
    assert str(found.author("mounts[1].source")) == "plugin 'a' added mounts[2]"
    assert str(found.author("mounts[0]")) == "plugin 'b' removed mounts[0]"  # it is mounts[1] in the file
    assert str(found.author("annotations.org.x")) == "plugin 'a' added annotations.org.x"
    assert found.author("hostname") is None
    assert found.author("") is None


def test_an_insertion_moves_what_is_behind_it() -> None:
    mounts = [{"destination": "/a"}]
    found = noted(
        {"mounts": mounts},
        Edit().append("mounts", {"destination": "/m"}),
        Edit().set("mounts", [{"destination": "/first"}, *mounts, {"destination": "/m"}]),
    )
    assert str(found.author("mounts[0]")) == "plugin 'b' added mounts[0]"
    assert str(found.author("mounts[1]")) == "plugin 'b' added mounts[0]"  # the line in the file is another
    assert str(found.author("mounts[2].type")) == "plugin 'a' added mounts[1]"


class Refusing(Stage):
    """A stage that refuses a place."""

    name = "refusing"

    def __init__(self, place: str) -> None:
        self.place = place

    def plan(self, spec: Spec, host: Host) -> list[Step]:
        raise ConfigError("it is wrong", where=self.place)


def compiled(hooks: Plugins, stage: Stage, config: Any, **settings: Any) -> plans.Plan:
    return plugins.compiled(Fake(hooks, [stage], **settings), spec(config), Host(), plans.make)


@pytest.mark.parametrize(("place", "blamed"), [("mounts[0].type", True), ("mounts", True), ("hostname", False)])
def test_error_names_the_plugin(place: str, blamed: bool) -> None:
    """An error names the plugin that added what is wrong."""
    with pytest.raises(ConfigError) as caught:
        compiled({"gpu": lambda **_: Edit().add_mount("/m", "/s")}, Refusing(place), {"hostname": "h"})
    assert caught.value.message == "it is wrong" + " (plugin 'gpu' added mounts[0])" * blamed
    if blamed:
        (problem,) = caught.value.problems
        assert (problem["plugin"], problem["line"]) == ("gpu", 0)


class Mounting(Step):
    """A step for a place of the configuration, which fails."""

    phase = "prepare"

    def describe(self) -> str:
        return "mount it"

    def run(self, context: Any) -> None:
        raise OSError(2, "no", "/s")


class Planning(Stage):
    """Plans a step for every mount."""

    name = "planning"

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        for index, _ in enumerate(spec.config["mounts"]):
            yield Mounting(where=f"mounts[{index}]")


def test_a_step_that_fails_names_the_plugin_too() -> None:
    from gosudacon.pipeline.kinds import rebuild
    from gosudacon.pipeline.runner import run_step

    plan = compiled({"gpu": lambda **_: Edit().add_mount("/m", "/s")}, Planning(), {"mounts": [{"destination": "/a"}]})
    own, added = plan.steps
    assert own.edited_by == ""
    for step in (added, rebuild(json.loads(jsonio.dumps(added.record())))):
        with pytest.raises(Error, match=r"mount it: .*\(plugin 'gpu' added mounts\[1\]\)$"):
            run_step(step, None)  # type: ignore[arg-type]
    assert plan.to_json()[1]["edited_by"] == "plugin 'gpu' added mounts[1]"


# Hooks.


def test_order_and_settings() -> None:
    """Each sees what those before did and its settings."""

    def second(spec: Spec, settings: Any, **_: Any) -> Edit:
        return Edit().add_env("B", f"{settings['b']} after {spec.process['env'][-1]}")

    wanted = spec({"process": {"env": []}})
    hooks: Any = {"one": lambda **_: Edit().add_env("A", "1"), "two": second}
    found = plugins.edit(Fake(hooks, two={"b": 2}), wanted, Host())
    assert wanted.process["env"] == ["A=1", "B=2 after A=1"]
    assert found is not None and found.plugins() == ["one", "two"]


def test_a_plugin_writes_as_callers_do() -> None:
    """What a plugin leaves out or writes in other words is read as if it stood in config.json."""

    def hook(spec: Spec, **_: Any) -> Edit:
        return Edit().set("process.user", {"UID": 5}).set("linux.resources.cpu", {"burst": -1, "shares": 7})

    read = spec({"process": {}})
    plugins.edit(Fake({"a": hook}), read, Host())
    assert read.config == {"process": {"user": {"uid": 5, "gid": 0}}, "linux": {"resources": {"cpu": {"shares": 7}}}}


def test_a_plugin_that_wants_nothing() -> None:
    assert plugins.edit(Fake({"one": lambda **_: None, "two": lambda **_: Edit()}), spec({"a": 1}), Host()) is None


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda **_: 1 // 0, "plugin 'one': gosudacon_edit_spec: ZeroDivisionError: "),
        (lambda **_: {"a": 1}, "plugin 'one': gosudacon_edit_spec: TypeError: returned {'a': 1}, not an Edit"),
        (lambda **_: Edit().append("a", 1), "plugin 'one': gosudacon_edit_spec: append a: it is not a list"),
        (
            lambda spec, **_: spec.config.update(b=1),
            "plugin 'one': gosudacon_edit_spec: the configuration is read",
        ),
    ],
)
def test_a_plugin_that_fails_is_named(hook: Callable[..., Any], message: str) -> None:
    with pytest.raises(Error) as caught:
        plugins.edit(Fake({"one": hook}), spec({"a": 1}), Host())
    assert caught.value.message.startswith(message)


def test_malformed_configuration() -> None:
    """A plugin that fails over a malformed configuration is not the news."""
    with pytest.raises(ConfigError, match="it is wrong"):
        compiled({"one": lambda spec, **_: spec.config["process"]["env"]}, Refusing("process"), {})


EDIT = Edit().add_env("A", "1").add_mount("/m", "/s").set("linux.resources.pids.limit", 3)


def test_of_exec_only_the_process_is_edited() -> None:
    wanted = spec({"process": {"env": []}}, target=Target())
    found = plugins.edit(Fake({"one": lambda **_: EDIT}), wanted, Host())
    assert wanted.operation == EXEC
    assert wanted.config == {"process": {"env": ["A=1"]}}
    assert found is not None and [where(change.path) for change in found] == ["process.env[0]"]


def test_of_update_only_the_limits_are_edited() -> None:
    wanted = spec({"linux": {"resources": {"memory": {"limit": 1}}, "seccomp": {}}}, operation=UPDATE)
    plugins.edit(Fake({"one": lambda **_: EDIT}), wanted, Host())
    assert wanted.config == {"linux": {"resources": {"memory": {"limit": 1}, "pids": {"limit": 3}}, "seccomp": {}}}


# Read-only.


class Writing(Stage):
    """A stage that does what it is told to the spec."""

    name = "writing"

    def __init__(self, what: Callable[[Spec], Any]) -> None:
        self.what = what

    def plan(self, spec: Spec, host: Host) -> tuple[Step, ...]:
        self.what(spec)
        return ()


def _set(spec: Spec) -> None:
    spec.config["hostname"] = "x"


def _assign(spec: Spec) -> None:
    spec.config = {}


def _delete(spec: Spec) -> None:
    config: Any = spec.config
    del config["a"]["b"][0]


@pytest.mark.parametrize(
    "what",
    [
        _set,
        _assign,
        _delete,
        lambda spec: spec.config["a"].setdefault("c", 1),
        lambda spec: spec.config["a"]["b"].append(1),
        lambda spec: spec.config["a"]["b"].sort(),
        lambda spec: spec.config.pop("a"),
        lambda spec: spec.replace(id="x").config["a"].clear(),
    ],
)
def test_stage_changes_the_configuration(what: Callable[[Spec], Any]) -> None:
    """A stage that changes the configuration is refused."""
    config = {"a": {"b": [1]}}
    with pytest.raises(Error, match="the configuration is read-only while a plan is made") as caught:
        compiled({"one": lambda **_: None}, Writing(what), config)
    assert caught.value.stage == "writing"
    assert config == {"a": {"b": [1]}}


def test_every_mutator_is_refused() -> None:
    """Of what dict and list have, all that changes them."""
    harmless = {"copy", "get", "items", "keys", "values", "fromkeys", "count", "index"}
    for kind, plain in ((FrozenDict, dict), (FrozenList, list)):
        for name in dir(plain):
            if name.startswith("_") and not name.startswith(("__set", "__del", "__i")):
                continue
            if name in {*harmless, "__init__", "__init_subclass__", "__iter__", "__setattr__", "__delattr__"}:
                continue
            assert getattr(kind, name) is not getattr(plain, name), name


def test_copies_are_plain() -> None:
    frozen = freeze({"a": [{"b": 1}]})
    for copied in (copy.deepcopy(frozen), thaw(frozen)):
        assert type(copied) is dict and type(copied["a"]) is list and type(copied["a"][0]) is dict
    assert type(copy.copy(frozen)) is type({**frozen}) is type(frozen.copy()) is dict
    assert jsonio.dumps(frozen) == '{"a":[{"b":1}]}' and repr(frozen) == "{'a': [{'b': 1}]}"


def test_a_configuration_that_is_nested_too_deeply() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="nested too deeply"):
        freeze_spec(spec(deep))


def test_a_spec_is_replaced() -> None:
    first = spec({"hostname": "a"}, options=Options(no_pivot=True), operation=UPDATE)
    second = first.replace(config={"hostname": "b"})
    assert (second.config, second.id, second.operation) == ({"hostname": "b"}, "web", UPDATE)
    assert second.options is first.options
    assert first.config == {"hostname": "a"}
    freeze_spec(first)
    assert type(first.replace(id="x")) is ReadOnlySpec
    with pytest.raises(TypeError):
        first.replace(nosuch=1)


def test_without_plugins_nothing_is_imported_or_frozen() -> None:
    code = """if True:
        import sys
        from gosudacon.api import Host, Spec
        from gosudacon.pipeline.plan import make
        from gosudacon.pipeline.registry import Registry
        registry = Registry({"stages": [], "hooks": {}, "plugins": {}})
        spec = Spec({"a": 1}, "x", "/b")
        registry.compiled(spec, Host(), make)
        assert registry.edit(spec, Host()) is None
        assert type(spec) is Spec and type(spec.config) is dict
        print([name for name in ("plugins", "edit", "frozen") if f"gosudacon.pipeline.{name}" in sys.modules])
    """
    assert subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, check=True).stdout == b"[]\n"


# The decorator.


def test_the_decorator_marks_as_pluggy_does() -> None:
    import pluggy

    options: dict[str, Any]
    for options in ({}, {"tryfirst": True}, {"trylast": True}, {"optionalhook": True}, {"specname": "x"}):

        def ours() -> None: ...

        def theirs() -> None: ...

        hookimpl(**options)(ours)
        pluggy.HookimplMarker("gosudacon")(**options)(theirs)
        marked = {"wrapper": False, **vars(theirs)["gosudacon_impl"]}  # pluggy before 1.2 knows no wrappers
        assert vars(ours) == {"gosudacon_impl": marked}


CORPUS = sorted((Path(__file__).parent / "schema_corpus").glob("config-*.json"))
HOST = Host(apparmor=True, selinux=True)


def planned(config: Any, data: Any) -> object:
    """The plan of a configuration, or why it is refused."""
    wanted = spec(config, text=json.dumps(config).encode())
    try:
        return Registry(data).compiled(wanted, HOST, plans.make).to_json()
    except ConfigError as error:
        return error.record(), error.problems


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_read_only_configuration(path: Path) -> None:
    """They change nothing of it, and take it for what it is."""
    data = registry(use_snapshot=False).data
    enabled: tuple[dict[str, Any], ...] = ({}, {"one": {}})
    found = [planned(json.loads(path.read_text()), {**data, "plugins": plugins}) for plugins in enabled]
    assert jsonio.dumps(found[0]) == jsonio.dumps(found[1])
